"""The detector: what it compares cells by, where it looks, and what it finds in a photo of the mini set."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from torchvision.ops import box_iou

from picopose.model.detect import search as searching
from picopose.model.detect.likeness import Likeness, load_likeness
from picopose.model.detect.search import Candidates, Level, cell_statistics, pyramid, search
from picopose.model.detect.stage import Options, _likeliest, make_stage
from picopose.model.detect.templates import CELLS, TURNS, Templates, _boxes
from picopose.model.detect.verify import Evidence, _poses, _windows
from picopose.model.detect.verify import _boxes as boxes_in_photo
from picopose.model.drawn.matcher import Matcher
from picopose.model.drawn.xfeat import load_xfeat
from picopose.model.rendermatch.views import SIZE, circles
from picopose.model.stage import Setup, Things
from picopose.utils.config_files import load_config
from picopose.utils.geometry import transform
from picopose.utils.masks import boxes_about
from picopose.utils.records import Estimates
from picopose.utils.stopwatch import Stopwatch
from tests.mini_photos import annotated, things, truths, views
from tools.fit_likeness import FLATTENED, RIDGE, fit

PHOTO, BOWL = (1, 1), 4


def made_templates(count: int, size: int, generator: torch.Generator) -> Templates:
    cells = F.normalize(torch.randn(count, size, CELLS, CELLS, generator=generator), dim=1)
    cells[:, :, :2] = 0  # not of the object
    box = torch.tensor([[0.25, 0.125, 0.75, 1.0]]).repeat(count, 1)
    return Templates(cells, box, torch.eye(4)[None], torch.zeros(1, 3))


def clutter(height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """(1, 16, height, width) unit descriptors that are not all equally frequent."""
    maps = torch.randn(1, 16, height, width, generator=generator)
    return F.normalize(maps * torch.linspace(0.5, 2, 16).view(1, -1, 1, 1) + 0.3, dim=1)


def standardized(maps: torch.Tensor, cells: torch.Tensor, y: int, x: int) -> float:
    """What a template answers at a place, by the distribution of its cells' cosines over the whole map."""
    everywhere = maps[0].flatten(1).double().numpy()
    total, count = 0.0, 0
    for row, column in np.ndindex(CELLS, CELLS):
        cell = cells[:, row, column].double().numpy()
        if cell.any():
            cosines, here = cell @ everywhere, cell @ maps[0, :, y + row, x + column].double().numpy()
            total += (here - cosines.mean()) / cosines.std(ddof=1)
            count += 1
    return total / math.sqrt(count)


# --- likeness


def test_the_projection_solves_the_generalised_eigenproblem():
    rng = np.random.default_rng(0)
    spots, light = (
        rng.normal(size=(4000, 6)) * [3, 2, 1, 1, 1, 1],
        rng.normal(size=(4000, 6)) * [1, 4, 1, 1, 1, 1],
    )
    template, photo = torch.from_numpy(spots), torch.from_numpy(spots + light + 5)
    found = fit(photo, template, torch.ones(4000, dtype=torch.bool), 3)
    assert torch.allclose(
        found["photo_mean"] - found["template_mean"], torch.full((6,), 5.0).double(), atol=0.3
    )
    a, b = ((x - x.mean(0)) / photo.std(0) for x in (photo, template))
    within, total = ((x.T @ x / 4000).numpy() for x in (a - b, torch.cat([a, b]) * math.sqrt(2)))
    within += RIDGE * np.trace(within) / 6 * np.eye(6)
    values, axes = scipy.linalg.eigh(total / 2, within)
    directions = (axes / values**FLATTENED)[:, -3:] / photo.std(0).numpy()[:, None]
    ours = found["projection"].numpy()
    for mine, theirs in zip(ours, directions.T, strict=True):
        cosine = mine @ theirs / np.linalg.norm(mine) / np.linalg.norm(theirs)
        assert abs(cosine) == pytest.approx(1, abs=1e-6)


def test_what_ships_has_the_sizes_of_the_features():
    likeness, maps = load_likeness(torch.device("cpu")), torch.randn(2, 272, 3, 4)
    found = likeness.of_photo(maps)
    assert found.shape == (2, 96, 3, 4)
    assert torch.allclose(found.norm(dim=1), torch.ones(2, 3, 4), atol=1e-5)
    expected = (maps[1, :, 2, 0] - likeness.template_mean) @ likeness.projection.T
    assert torch.allclose(likeness.of_templates(maps)[1, :, 2, 0], F.normalize(expected, dim=0), atol=1e-5)


# --- search


def test_a_template_is_found_where_it_is():
    generator = torch.Generator().manual_seed(0)
    templates, maps = made_templates(5, 16, generator), clutter(30, 40, generator)
    maps[0, :, 6:12, 10:18] = templates.cells[3, :, 2:]
    maps[0, :, 12:18, 19:27] = 0.7 * templates.cells[1, :, 2:] + 0.3 * maps[0, :, 12:18, 19:27]
    levels = [Level(maps, px=2.0)]
    found = search(levels, cell_statistics(levels), templates, 2)
    assert found.template.tolist() == [3, 1]
    answers = [
        standardized(maps, templates.cells[template], *place)
        for template, place in ((3, (4, 10)), (1, (10, 19)))
    ]
    # Torch's median of two is the lower one.
    assert found.score.tolist() == pytest.approx([answers[0] / answers[1], 1], rel=1e-4)
    side = 2.0 * SIZE
    left, top = 10 * 16 * 2, 4 * 16 * 2
    assert found.box[0].tolist() == pytest.approx(
        [left + side / 4, top + side / 8, left + 3 * side / 4, top + side]
    )
    assert found.centre[0].tolist() == [left + side / 2 - 0.5, top + side / 2 - 0.5]
    assert found.diameter[0].item() == pytest.approx(side / 1.1)


def test_one_place_is_told_once_across_scales():
    generator = torch.Generator().manual_seed(1)
    templates = made_templates(1, 16, generator)
    levels = []
    for px, kept, corner in ((1.0, 1.0, 8), (1.2, 0.8, 6)):
        maps = clutter(24, 24, generator)
        here = maps[0, :, corner + 2 : corner + 8, corner : corner + 8]
        here += kept * (templates.cells[0, :, 2:] - here)
        levels.append(Level(maps, px))
    found = search(levels, cell_statistics(levels), templates, 50)
    side = SIZE * 1.0
    assert found.centre[0].tolist() == pytest.approx([8 * 16 + side / 2 - 0.5] * 2)
    overlaps = box_iou(found.box[:1], found.box[1:])
    assert overlaps.max() <= searching.SAME


def test_a_photo_of_one_colour_has_places_of_finite_scores():
    generator = torch.Generator().manual_seed(2)
    maps = F.normalize(torch.ones(1, 16, 12, 12), dim=1)
    levels = [Level(maps, 1.0)]
    found = search(levels, cell_statistics(levels), made_templates(2, 16, generator), 5)
    assert found.score.isfinite().all()


@pytest.mark.parametrize(("height", "width", "levels"), [(96, 128, 8), (128, 96, 8), (8, 160, 0)])
def test_scales_show_objects_of_a_sixteenth_up_to_the_shorter_side(height, width, levels):
    def network(rgb):
        return tuple(
            torch.ones(1, size, *(s // px for s in rgb.shape[-2:])) for size, px in ((40, 8), (112, 16))
        )

    likeness = Likeness(torch.randn(4, 272), torch.zeros(272), torch.zeros(272))
    found = pyramid(network, likeness, torch.zeros(3, height, width, dtype=torch.uint8))
    assert len(found) == levels
    sizes = [SIZE * level.px / 1.1 for level in found]
    for size, expected in zip(
        sizes, [max(height, width) / 16 * 2 ** (k / 2) for k in range(levels)], strict=True
    ):
        assert size == pytest.approx(expected)
    for level in found:
        assert level.maps.shape[-2:] == tuple(
            2 * math.ceil(round(s / level.px) / 32) for s in (height, width)
        )


def test_boxes_of_masks():
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    masks[0, 2:5, 1:7] = True
    masks[1, 7, 0] = True
    assert _boxes(masks).mul(8).tolist() == [[1, 2, 7, 5], [0, 7, 1, 8], [0, 0, 8, 8]]
    assert boxes_about(masks)[[0, 2]].tolist() == [[1, 2, 7, 5], [0, 0, 0, 0]]
    camera, otherwise = torch.eye(3).expand(2, 3, 3), torch.tensor([[0, 0, 2, 2], [3, 3, 4, 4]]).float()
    found = boxes_in_photo(masks[[0, 2]], camera, torch.eye(3), otherwise)
    assert found.tolist() == [[1, 2, 7, 5], [3, 3, 4, 4]]


# --- verification


@pytest.mark.parametrize("turn", [0, 3, 6])
def test_a_candidate_stands_for_the_pose_its_template_shows(turn):
    """Drawn there, the object looks as the template does: turned by as much, of that size, in that place."""
    source = views()
    poses = source.template_poses(1, 42)
    circle = circles(transform(poses, source.hull(1)))
    templates = Templates(torch.zeros(42 * TURNS, 1, 8, 8), torch.zeros(42 * TURNS, 4), poses, circle)
    view, centre, diameter = 17, torch.tensor([[200.0, 150.0]]), torch.tensor([90.0])
    candidates = Candidates(
        torch.ones(1), torch.tensor([view * TURNS + turn]), torch.zeros(1, 4), centre, diameter
    )
    K = torch.tensor([[500.0, 0, 210], [0, 500, 140], [0, 0, 1]])
    photo = torch.zeros(3, 300, 400, dtype=torch.uint8)
    frame, _ = annotated(*PHOTO)
    query = Matcher(load_xfeat(), batch=4).look_at(replace(frame, rgb=photo, K=K), _windows(candidates))
    pose = _poses(query, candidates, templates, K)
    drawn = source.draw([1], pose, K[None], 300).mask[0]
    overlaps = [
        float((drawn & other).sum() / (drawn | other).sum())
        for other in (silhouette(source, poses[view], circle[view], angle) for angle in range(TURNS))
    ]
    assert np.argmax(overlaps) == turn and overlaps[turn] > 0.85


def silhouette(source, pose: torch.Tensor, circle: torch.Tensor, turn: int) -> torch.Tensor:
    """A view's own outline, moved as pixels are: turned about (200, 150), 90 px wide."""
    scale = 90 / circle[2]
    camera = torch.eye(3, dtype=torch.float64) * scale
    camera[:, 2] = torch.tensor([*(150 - scale * circle[:2]), 1])
    upright = source.draw([1], pose[None], camera[None], 301).mask[0].numpy().astype(np.uint8)
    angle = 2 * math.pi * turn / TURNS
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shift = np.array([200, 150]) - rotation @ [150, 150]
    turned = cv2.warpAffine(upright, np.column_stack([rotation, shift]), (300, 300))
    return torch.from_numpy(turned > 0)


# --- the stage


def test_of_rivals_the_likeliest_stays():
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 6], [50, 50, 60, 60], [80, 0, 90, 9]])
    places = replace(
        Estimates.of([1, 2, 1, 1, 2], []), score=torch.tensor([0.9, 0.8, 0.7, 0.3, 0.001]), box=boxes
    )
    # 1 is another object's in the place of 0; 2 the same object's; nothing speaks for 4.
    assert _likeliest(places, Options()) == [0, 3]
    assert _likeliest(places, Options(rivals=1.0)) == [0, 1, 3]
    assert _likeliest(places, Options(rivals=1.0, most=1, least_score=0.0)) == [0, 1]


@pytest.mark.parametrize("options", [{"most": 0}, {"least_score": 1.5}, {"rivals": 0}])
def test_options_that_mean_nothing(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(**options)


@pytest.fixture
def detector(tmp_path):
    config = load_config("config/default.yaml", ["stages=[detect]", f"log_dir={tmp_path}"], {})
    return make_stage(Setup(config, torch.device("cpu"), Stopwatch(running=False)))


@pytest.mark.parametrize("count", [0, 2])
def test_where_nothing_is_likely_nothing_is_found(detector, count):
    frame, _ = annotated(*PHOTO)
    detector.things = things()
    nothing = Evidence(*[torch.zeros(count)] * 3)
    places = replace(Estimates.of([BOWL] * count, []), box=torch.tensor([[0, 0, 9, 9]]).repeat(count, 1))
    detector.candidates = lambda *_: (places, nothing)
    found = detector(frame, Estimates.of([], []))
    assert len(found) == 0 and found.cam_from_obj is None


def test_a_bowl_is_found_in_a_photo_of_a_table(detector):
    frame, known = annotated(*PHOTO)
    detector.prepare(Things({BOWL: things().by_id[BOWL]}, views()))
    found = detector(frame, Estimates.of([], []))
    true = known.box[known.obj_id == BOWL]
    assert len(true) == 1 and BOWL in truths(*PHOTO)[0]
    assert found.obj_id.tolist() == [BOWL] * len(found) and found.score[0] > 0.5
    assert box_iou(found.box[:1].float(), true.float()) > 0.7
    height, width = frame.rgb.shape[1:]
    mask, box = found.mask[0].window(0, 0, width, height), known.mask[known.obj_id.tolist().index(BOWL)]
    seen = box.window(0, 0, width, height)
    assert (mask & seen).sum() / (mask | seen).sum() > 0.7
