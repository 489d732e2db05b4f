"""Matches between crops and renderings against slow loops, and points that do lie on the surface."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import trimesh
from scipy.spatial.transform import Rotation

from picopose.model.drawn.cells import cells_of, drawn_cells, match
from picopose.model.drawn.xfeat import STRIDE
from picopose.rendering.mesh import make_mesh
from picopose.rendering.mesh_views import MeshViews
from picopose.utils.geometry import cell_centres, project, transform
from picopose.utils.records import View

N, CHANNELS = 7, 12
BOX = np.array([0.08, 0.06, 0.1])  # m


def blocks(values: torch.Tensor) -> torch.Tensor:
    """Maps (..., n, n) enlarged so that a cell is STRIDE px wide."""
    return values.repeat_interleave(STRIDE, -1).repeat_interleave(STRIDE, -2)


def poses(count: int) -> torch.Tensor:
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, :3, :3] = torch.from_numpy(Rotation.random(count, random_state=3).as_matrix())
    pose[:, :3, 3] = torch.tensor([0.02, -0.01, 0.5])
    return pose


class Case:
    """Random descriptors of crops and renderings that show different numbers of cells."""

    def __init__(self, seed: int, shares: tuple[float, ...]):
        count, generator = len(shares), torch.Generator().manual_seed(seed)
        size = (count, CHANNELS, N, N)
        self.crop = F.normalize(torch.randn(size, generator=generator), dim=1)
        noise = torch.randn(size, generator=generator)
        self.rendered = F.normalize(self.crop + 0.15 * noise, dim=1).roll(1, dims=3)
        self.allowed = torch.rand(count, N, N, generator=generator) < 0.8
        self.drawn = torch.rand(count, N, N, generator=generator) < torch.tensor(shares)[:, None, None]
        depth = torch.where(self.drawn, 0.4 + torch.rand(count, N, N, generator=generator), 0.0)
        K = torch.tensor([[90.0, 0, 25], [0, 95, 30], [0, 0, 1]]).repeat(count, 1, 1)
        mask = blocks(self.drawn)
        self.view = View(torch.zeros(count), mask, K, blocks(depth), poses(count))
        self.rows = drawn_cells(mask, N)

    def match(self, some: slice = slice(None), rows: torch.Tensor | None = None, reach: int = 2):
        rows = self.rows[some] if rows is None else rows
        crop, rendered = self.crop[some], self.rendered[some]
        return match(crop, self.allowed[some], rendered, self.view[some], rows, reach=reach)


def parabola(before: float, middle: float, after: float) -> float:
    """Where between -1/2 and 1/2 the parabola through three values has its peak; 0 if it has none."""
    a, b, _ = np.polyfit([-1, 0, 1], [before, middle, after], 2)
    return float(np.clip(-b / (2 * a), -0.5, 0.5)) if a < -5e-7 else 0.0


def slow_matches(case: Case, i: int, reach: int) -> dict[int, tuple[float, np.ndarray, np.ndarray]]:
    """By cell of the rendering: cosine, xy and xyz of the matches, found cell by cell."""
    crop, rendered = (maps[i].double().numpy() for maps in (case.crop, case.rendered))
    cells = [(y, x) for y in range(N) for x in range(N)]
    drawn = [cell for cell in cells if case.drawn[i][cell]]

    def similarity(of_drawn, of_crop) -> float:
        return float(rendered[:, *of_drawn] @ crop[:, *of_crop])

    def may(of_drawn, of_crop) -> bool:
        near = max(abs(of_drawn[0] - of_crop[0]), abs(of_drawn[1] - of_crop[1])) <= reach
        return near and bool(case.allowed[i][of_crop])

    found = {}
    for cell in drawn:
        candidates = [other for other in cells if may(cell, other)]
        if not candidates:
            continue
        best = max(candidates, key=lambda other: similarity(cell, other))
        if max((d for d in drawn if may(d, best)), key=lambda d: similarity(d, best)) != cell:
            continue
        y, x = best
        rim = [np.clip(v, 0, N - 1) for v in (x - 1, x + 1, y - 1, y + 1)]
        middle = similarity(cell, best)
        offset = [
            parabola(similarity(cell, (y, rim[0])), middle, similarity(cell, (y, rim[1]))),
            parabola(similarity(cell, (rim[2], x)), middle, similarity(cell, (rim[3], x))),
        ]
        xy = (np.array([x, y]) + 0.5 + offset) * STRIDE - 0.5
        at = np.array([*(np.array(cell[::-1]) + 0.5) * STRIDE - 0.5, 1])
        depth = case.view.depth[i][STRIDE * cell[0], STRIDE * cell[1]].item()
        camera = depth * np.linalg.inv(case.view.K[i].double().numpy()) @ at
        pose = case.view.cam_from_obj[i].double().numpy()
        found[cell[0] * N + cell[1]] = middle, xy, pose[:3, :3].T @ (camera - pose[:3, 3])
    return found


@pytest.mark.parametrize("reach", [0, 2, N])
def test_matches_equal_those_of_slow_loops(reach):
    case = Case(0, (0.9, 0.3))
    ours = case.match(reach=reach)
    total = 0
    for i in range(2):
        expected = slow_matches(case, i, reach)
        used = ours.weight[i] > 0
        assert set(case.rows[i][used].tolist()) == {cell for cell, (c, *_) in expected.items() if c > 0}
        for row, weight, xy, xyz in zip(case.rows[i], ours.weight[i], ours.xy[i], ours.xyz[i], strict=True):
            if weight > 0:
                cosine, at, point = expected[row.item()]
                assert weight.item() == pytest.approx(cosine, abs=1e-5)
                np.testing.assert_allclose(xy, at, atol=2e-3)
                np.testing.assert_allclose(xyz, point, atol=1e-5)
        total += int(used.sum())
    assert total > (5 if reach == 0 else 20)


def test_what_fills_up_short_rows_is_never_matched_and_in_nobodys_way():
    """Other detections, whose renderings show more, change nothing."""
    case = Case(1, (0.25, 0.95))
    count = int(case.drawn[0].sum())
    together = case.match()
    assert together.weight.shape[1] == int(case.drawn[1].sum()) > count
    # Cells of surface that are just not half covered might else win over those that are.
    case.view.depth[0].clamp_(min=0.7)
    assert not case.match().weight[0, count:].any()
    alone = case.match(slice(0, 1), drawn_cells(case.view.mask[:1], N))
    assert alone.weight.shape[1] == count
    torch.testing.assert_close(together.weight[0, :count], alone.weight[0])
    assert (alone.weight > 0).sum() > 5


def test_drawn_cells_are_those_covered_by_more_than_a_half():
    mask = torch.zeros(3, 16, 16, dtype=torch.bool)
    mask[0, :4, :8] = True  # two whole cells of 4 x 4
    mask[0, 4:7, 4:8] = True  # three quarters of one
    mask[0, 8:10, 8:12] = True  # one half, which is not enough
    mask[1, 12:, 12:] = True
    rows = drawn_cells(mask, 4)
    assert rows.shape == (3, 3)
    assert rows[0].tolist() == [0, 1, 5]
    assert rows[1, 0] == 15
    assert all(len(set(row.tolist())) == 3 for row in rows)
    assert drawn_cells(mask[2:], 4).shape == (1, 1)  # nothing is drawn


def test_cells_of_masks_and_all_where_there_are_none():
    mask = torch.zeros(3, 16, 16, dtype=torch.bool)
    mask[0, 4:8, :7] = True
    mask[1, 5, 5] = True
    assert cells_of(mask, 4).flatten(1).sum(1).tolist() == [2, 16, 16]
    assert cells_of(mask, 4)[0].nonzero().tolist() == [[1, 0], [1, 1]]


def test_points_lie_on_the_surface_where_the_cells_see_it():
    size, n = 256, 256 // STRIDE
    box = trimesh.creation.box(BOX)
    pose = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    pose[:, :3, :3] = torch.from_numpy(Rotation.random(2, random_state=1).as_matrix())
    pose[:, :3, 3] = torch.tensor([[0.02, -0.01, 0.5], [0.0, 0.03, 0.6]])
    K = torch.tensor([[900.0, 0, 120], [0, 900, 130], [0, 0, 1]], dtype=torch.float64).repeat(2, 1, 1)
    drawn = MeshViews({1: make_mesh(box.vertices, box.faces)}).draw([1, 1], pose, K, size)
    descriptors = F.normalize(torch.randn(2, 64, n, n, generator=torch.Generator().manual_seed(0)), dim=1)
    everywhere = torch.ones(2, n, n, dtype=torch.bool)
    rows = drawn_cells(drawn.mask, n)
    found = match(descriptors, everywhere, descriptors, drawn, rows, reach=3)
    used = found.weight > 0.99  # each cell is most like itself
    half_covered = (F.avg_pool2d(drawn.mask.float(), STRIDE) > 0.5).sum((1, 2))
    assert (used.sum(1) <= half_covered).all() and (used.sum(1) > 0.98 * half_covered).all()
    centres = cell_centres(n, size)[rows]
    assert (found.xy - centres)[used].abs().max() <= STRIDE / 2
    shown = project(K, transform(pose, found.xyz.double()))
    torch.testing.assert_close(shown[used], centres.double()[used], atol=1e-2, rtol=0)
    height = (found.xyz[used].abs() * 2 / torch.from_numpy(BOX)).amax(1)  # 1 on the box's sides
    assert (height - 1).abs().max() < 0.02  # at the box's edges, the depth is that of a neighbouring pixel
    assert ((height - 1).abs() < 1e-4).float().mean() > 0.9
