"""Pictures of single cases: where outlines, points and drawings lie."""

import base64
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from picopose.datasets.bop.image_result import Details
from picopose.evaluation.case_pictures import CasePainter, match_error
from picopose.evaluation.cases import Case, ScoredPose
from picopose.evaluation.eval_models import EvalModel, load_models
from picopose.utils.records import View
from tests import slow_scores
from tests.raycast import cast_depth, surface_points
from tests.scored_set import HEIGHT, WIDTH, K, cases_of, toy_set, write_templates


def polygons(path: str, shape: tuple[int, int]) -> np.ndarray:
    """The mask (H, W) that SVG path data enclose; pixel (0, 0) covers 0 to 1."""
    corners = [
        np.array([xy.split(",") for xy in part.split()], float) for part in re.findall("M([^Z]*)Z", path)
    ]
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(c - 0.5).astype(np.int32) for c in corners], 1)
    return mask > 0


def test_outlines_and_points_lie_where_the_photo_shows_them(tmp_path):
    """The photo shows the object's silhouette, cast by rays, and dark dots at the matches."""
    tested = toy_set(tmp_path)
    models = load_models(tested.dataset_dir, [1, 4, 6])
    write_templates(tmp_path, "toy", 1)
    target = next(c for c in cases_of(tested) if c.obj_id == 1 and c.estimate)
    model = models[1]
    depth = cast_depth(model.vertices, model.faces, np.vstack([target.truth, [0, 0, 0, 1]]), K, WIDTH, HEIGHT)
    photo = np.where((depth > 0)[..., None], 255, 90).astype(np.uint8).repeat(3, axis=2)
    rows, columns = np.nonzero(cv2.erode((depth > 0).astype(np.uint8), np.ones((7, 7))))
    dots = [(columns[i], rows[i]) for i in (0, len(rows) // 2, -1)]
    for x, y in dots:
        photo[y - 1 : y + 2, x - 1 : x + 2] = 0
    cv2.imwrite(str(target.image.scene_dir / "rgb" / f"{target.image.im_id:06d}.png"), photo)
    matches = tuple((float(x), float(y), 10.0 * i, 20.0) for i, (x, y) in enumerate(dots))
    details = Details(None, 0.5, 0.5, 1, matches)
    estimate = ScoredPose(target.truth, 0.5, 0.0, 0.0, None, True, details)
    with CasePainter(tested, models, template_size=56) as painter:
        drawn = painter.draw(Case("toy", target.image, 1, target.gt_id, estimate))
    size = round(drawn.photo.width), round(drawn.photo.height)
    picture = cv2.resize(cv2.cvtColor(picture_of(drawn.photo.uri), cv2.COLOR_RGB2GRAY), size)
    silhouette = cv2.morphologyEx((picture > 170).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((31, 31))) > 0
    for outline in (drawn.true_outline, drawn.outline):
        inside = polygons(outline, picture.shape)
        assert (inside & silhouette).sum() / (inside | silhouette).sum() > 0.97
    for index, point in enumerate(drawn.points):
        x, y = (int(value) for value in point.photo)
        assert picture[y, x] < 60
        assert point.beside == (10.0 * index + 0.5, 20.5)
    assert drawn.beside.width == 56
    assert len({point.colour for point in drawn.points}) == 3


def picture_of(uri: str) -> np.ndarray:
    """(H, W, 3) uint8, RGB."""
    content = np.frombuffer(base64.b64decode(uri.split(",", 1)[1]), np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize("coloured", [True, False], ids=["with its models", "as it is scored"])
def test_a_method_without_templates_is_shown_beside_the_object_drawn(tmp_path, coloured):
    """What is drawn lies in the picture as in the photo's; rays tell where points of it truly are."""
    tested = replace(toy_set(tmp_path), templates=None)
    models = load_models(tested.dataset_dir, [1, 4, 6])
    if coloured:
        red = np.tile(np.uint8([230, 20, 20, 255]), (len(models[1].vertices), 1))
        mesh = trimesh.Trimesh(1000 * models[1].vertices, models[1].faces, vertex_colors=red, process=False)
        (tested.dataset_dir / "models").mkdir()
        mesh.export(tested.dataset_dir / "models" / "obj_000001.ply")
    target = next(c for c in cases_of(tested) if c.obj_id == 1 and c.estimate)
    pose = target.truth.copy()
    pose[:, :3] = Rotation.from_rotvec([0.2, 0.1, -0.3]).as_matrix() @ pose[:, :3]
    pose[:, 3] += [0.012, -0.005, 0.02]
    xy = surface_pixels(models[1], pose)[::40]
    xyz, hit = surface_points(xy, K, np.vstack([pose, [0, 0, 0, 1]]), models[1].vertices, models[1].faces)
    assert hit.all() and len(xy) > 10
    matched = slow_scores.project(K, slow_scores.apply(target.truth, xyz)) + np.array([3.0, -4.0])
    matches = tuple(map(tuple, np.hstack([matched, xy]).tolist()))
    details = Details(0.5, 0.5, 0.5, 1, matches)
    estimate = ScoredPose(pose, 0.5, 0.0, 0.0, None, True, details)
    with CasePainter(tested, models, template_size=56) as painter:
        drawn = painter.draw(Case("toy", target.image, 1, target.gt_id, estimate))
        gone = np.column_stack([np.eye(3), [0, 0, -0.5]])
        out = painter.draw(Case("toy", target.image, 1, target.gt_id, replace(estimate, cam_from_obj=gone)))
    assert drawn.match_error == pytest.approx(5, abs=0.1)
    assert out.beside is None and out.match_error is None
    picture = picture_of(drawn.beside.uri)
    assert picture.shape[:2] == (drawn.beside.height, drawn.beside.width)
    assert picture.shape[:2] == (round(drawn.photo.height), round(drawn.photo.width))
    shown, inside = picture.max(axis=2) > 60, polygons(drawn.outline, picture.shape[:2])
    assert (shown & inside).sum() / (shown | inside).sum() > 0.97
    red_share = (picture[shown][:, 0] > 2 * picture[shown][:, 1].astype(int)).mean()
    assert red_share > 0.95 if coloured else red_share == 0
    points = np.array([[*point.photo, *point.beside] for point in drawn.points])
    assert all(inside[int(y), int(x)] for x, y in points[:, 2:])
    # Both pictures show the same part of the photo, so a match is off by as much as in the photo.
    scale = np.ptp(points[:, 2:], axis=0) / np.ptp(xy, axis=0)
    assert scale[0] == pytest.approx(scale[1], rel=0.01)
    off = (points[:, :2] - points[:, 2:]) / scale
    assert np.abs(off - (matched - xy)).max() < 0.1


def surface_pixels(model: EvalModel, pose: np.ndarray) -> np.ndarray:
    """(N, 2) the pixels of the photo that show a model at a pose (3, 4) m, but for its rim."""
    depth = cast_depth(model.vertices, model.faces, np.vstack([pose, [0, 0, 0, 1]]), K, WIDTH, HEIGHT)
    return np.argwhere(cv2.erode((depth > 0).astype(np.uint8), np.ones((3, 3))))[:, ::-1].astype(float)


def test_estimates_that_cannot_be_seen_are_drawn_without_an_outline(tmp_path):
    tested = toy_set(tmp_path)
    models = load_models(tested.dataset_dir, [1, 4, 6])
    target = next(c for c in cases_of(tested) if c.obj_id == 1)
    hidden = [np.column_stack([np.eye(3), t]) for t in ([0, 0, -0.5], [9e3, 0, 0.5], [np.nan, 0, 0.5])]
    with CasePainter(tested, models, template_size=56) as painter:
        alone = painter.draw(Case("toy", target.image, 1, target.gt_id, None))
        assert alone.outline is None and alone.true_outline.startswith("M")
        for pose in hidden:
            estimate = ScoredPose(pose, 0.5, np.inf, np.inf, None, False, None)
            drawn = painter.draw(Case("toy", target.image, 1, target.gt_id, estimate))
            assert drawn.outline == "" and drawn.true_outline == alone.true_outline


def test_end_point_error_of_matches_against_projected_points():
    """Template pixels of a plane at 0.5 m, seen 0.1 m farther off in the photo; matches 3 px off."""
    camera = torch.tensor([[[100.0, 0, 16], [0, 100, 16], [0, 0, 1]]])
    depth, pose = torch.full((1, 32, 32), 0.5), torch.eye(4)[None]
    view = View(torch.zeros(1), torch.ones(1), K=camera, depth=depth, cam_from_obj=pose)
    template = np.array([[16.0, 16.0], [20.0, 10.0], [7.0, 25.0]])
    truth = np.hstack([np.eye(3), [[0.0], [0.0], [0.1]]])
    photo = (template - 16) * 0.5 / 0.6 + 16 + [3.0, 0.0]
    error = match_error(np.hstack([photo, template]), view, camera[0].double().numpy(), truth)
    assert error == pytest.approx(3, abs=1e-4)
    assert match_error(np.zeros((0, 4)), view, camera[0].double().numpy(), truth) is None
