"""The mini set obeys BOP's rules: annotations recomputed, depth and models compared, detections imperfect."""

import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from picopose.datasets.bop.objects import read_objects
from picopose.datasets.bop.test_set import BopTestSet
from picopose.rendering.mesh import load_mesh, read_triangles
from picopose.rendering.procedural import solids
from picopose.rendering.renderer import Renderer
from tests.raycast import cast
from tests.shared import ROOT
from tools.mini_set import make_mini, photos
from tools.mini_set.fake_detections import imperfect
from tools.mini_set.objects import MINI, named_objects
from tools.mini_set.scenes import compose, stable_poses

MINI_DIR = ROOT / "data/mini"
SCENES = (1, 2)


def table(scene_id: int, name: str) -> dict[int, object]:
    path = MINI_DIR / f"test/{scene_id:06d}/scene_{name}.json"
    return {int(key): value for key, value in json.loads(path.read_text()).items()}


IMAGES = [(scene_id, im_id) for scene_id in SCENES for im_id in table(scene_id, "gt")]


def png(scene_id: int, name: str) -> np.ndarray:
    image = cv2.imread(str(MINI_DIR / f"test/{scene_id:06d}/{name}.png"), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


def depth_mm(scene_id: int, im_id: int) -> np.ndarray:
    scale = np.float32(table(scene_id, "camera")[im_id]["depth_scale"])
    return png(scene_id, f"depth/{im_id:06d}").astype(np.float32) * scale


def camera(scene_id: int, im_id: int) -> np.ndarray:
    return np.array(table(scene_id, "camera")[im_id]["cam_K"]).reshape(3, 3)


def pose(gt: dict) -> np.ndarray:
    """cam_from_obj (4, 4), mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(gt["cam_R_m2c"], (3, 3))
    matrix[:3, 3] = gt["cam_t_m2c"]
    return matrix


@pytest.fixture(scope="module")
def meshes():
    return {k: load_mesh(MINI_DIR / f"models/obj_{k:06d}.ply", unit="mm") for k in range(1, len(MINI) + 1)}


@pytest.fixture(scope="module")
def renderer():
    with Renderer() as made:
        yield made


def test_it_is_small_and_complete():
    files = [path for path in MINI_DIR.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8e6
    assert len(IMAGES) == 12
    suffixes = {path.suffix for path in MINI_DIR.glob("test/*/rgb/*")}
    assert suffixes == {".jpg", ".png"}
    for scene_id, im_id in IMAGES:
        count = len(table(scene_id, "gt")[im_id])
        for kind in ("mask", "mask_visib"):
            found = list((MINI_DIR / f"test/{scene_id:06d}/{kind}").glob(f"{im_id:06d}_*.png"))
            assert len(found) == count == len(table(scene_id, "gt_info")[im_id])


def test_models_are_those_that_the_program_makes(meshes):
    infos = json.loads((MINI_DIR / "models_eval/models_info.json").read_text())
    for obj_id, thing in enumerate(named_objects(MINI), start=1):
        mesh, info = meshes[obj_id], infos[str(obj_id)]
        assert np.allclose(mesh.vertices, thing.mesh.vertices, atol=1e-7)
        assert (mesh.normals * thing.mesh.normals).sum(axis=1).min() > 0.8  # readers may average their own
        assert np.array_equal(mesh.faces, thing.mesh.faces)
        if thing.mesh.texture is None:
            assert np.array_equal(mesh.colors, thing.mesh.colors)
        else:
            assert np.array_equal(mesh.texture.reshape(thing.mesh.texture.shape), thing.mesh.texture)
            assert np.allclose(mesh.uv[:, :2], thing.mesh.uv, atol=1e-6)
        vertices, _ = read_triangles(MINI_DIR / f"models_eval/obj_{obj_id:06d}.ply")
        apart = vertices[:, None] - vertices[None]
        assert np.sqrt((apart**2).sum(axis=-1).max()) == pytest.approx(info["diameter"], abs=1e-3)
        assert np.allclose([info["min_x"], info["min_y"], info["min_z"]], vertices.min(axis=0), atol=1e-3)
        assert np.allclose(
            [info["size_x"], info["size_y"], info["size_z"]], np.ptp(vertices, axis=0), atol=1e-3
        )


def test_declared_symmetries_reach_the_readers():
    known = read_objects(MINI_DIR / "models")
    for obj_id, thing in enumerate(named_objects(MINI), start=1):
        info = known[obj_id]
        assert len(info.symmetry.axes) == len(thing.continuous)
        for ours, read in zip(thing.discrete, info.symmetry.discrete, strict=True):
            assert np.allclose(ours, read, atol=1e-9)
    assert any(len(info.symmetry.discrete) for info in known.values())
    assert any(info.symmetry.axes for info in known.values())


def test_targets_follow_from_the_visible_shares():
    expected = {}
    for scene_id, im_id in IMAGES:
        pairs = zip(table(scene_id, "gt")[im_id], table(scene_id, "gt_info")[im_id], strict=True)
        for gt, info in pairs:
            if info["visib_fract"] >= 0.1:
                key = (scene_id, im_id, gt["obj_id"])
                expected[key] = expected.get(key, 0) + 1
    targets = json.loads((MINI_DIR / "test_targets_bop19.json").read_text())
    listed = {(t["scene_id"], t["im_id"], t["obj_id"]): t["inst_count"] for t in targets}
    assert listed == expected and len(targets) == len(listed)
    assert {obj_id for _, _, obj_id in listed} == set(range(1, len(MINI) + 1))
    assert sum(count == 2 for count in listed.values()) >= 2


@pytest.mark.parametrize(("scene_id", "im_id"), IMAGES)
def test_models_at_the_annotated_poses_reproduce_the_depth(renderer, meshes, scene_id, im_id):
    measured, K = depth_mm(scene_id, im_id), camera(scene_id, im_id)
    for gt_id, gt in enumerate(table(scene_id, "gt")[im_id]):
        matrix = pose(gt)
        matrix[:3, 3] /= 1000
        drawn = 1000 * renderer.render_depth(meshes[gt["obj_id"]], matrix, K, 640, 480)
        visible = png(scene_id, f"mask_visib/{im_id:06d}_{gt_id:06d}") > 0
        apart = np.abs(drawn - measured)[visible & (measured > 0)]
        if apart.size >= 200:
            assert np.median(apart) < 1.5 and np.percentile(apart, 80) < 4  # mm


@pytest.mark.parametrize(("scene_id", "im_id"), IMAGES)
def test_counts_and_boxes_follow_from_the_masks(scene_id, im_id):
    measured = depth_mm(scene_id, im_id)
    for gt_id, info in enumerate(table(scene_id, "gt_info")[im_id]):
        mask, visible = (png(scene_id, f"{kind}/{im_id:06d}_{gt_id:06d}") for kind in ("mask", "mask_visib"))
        assert set(np.unique(mask)) <= {0, 255} and not (visible & ~mask).any()
        assert info["px_count_visib"] == (visible > 0).sum()
        assert info["px_count_valid"] == ((mask > 0) & (measured > 0)).sum()
        assert info["px_count_all"] >= (mask > 0).sum()
        assert info["visib_fract"] == info["px_count_visib"] / info["px_count_all"]
        if info["px_count_visib"]:
            rows, columns = np.nonzero(visible)
            box = [columns.min(), rows.min(), np.ptp(columns), np.ptp(rows)]
            assert info["bbox_visib"] == box
            inside = [info["bbox_obj"][0] >= 0, info["bbox_obj"][1] >= 0]
            if all(inside) and info["px_count_all"] == (mask > 0).sum():
                rows, columns = np.nonzero(mask)
                assert info["bbox_obj"] == [columns.min(), rows.min(), np.ptp(columns), np.ptp(rows)]
        else:
            assert info["bbox_visib"] == info["bbox_obj"] == [-1] * 4


@pytest.mark.parametrize(("scene_id", "im_id"), [(1, 2), (1, 4), (2, 1)])
def test_masks_and_visible_shares_agree_with_ray_casting(scene_id, im_id):
    """Every third pixel of every third row, cast in float64 against the evaluation's models."""
    measured, K = depth_mm(scene_id, im_id), camera(scene_id, im_id)
    for gt_id, gt in enumerate(table(scene_id, "gt")[im_id]):
        info = table(scene_id, "gt_info")[im_id][gt_id]
        left, top, width, height = info["bbox_obj"]
        x, y = np.meshgrid(np.arange(left - 3, left + width + 4, 3), np.arange(top - 3, top + height + 4, 3))
        rays = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3) @ np.linalg.inv(K).T
        vertices, faces = read_triangles(MINI_DIR / f"models_eval/obj_{gt['obj_id']:06d}.ply")
        matrix = pose(gt)
        points = vertices @ matrix[:3, :3].T + matrix[:3, 3]
        z = cast(np.zeros(3), rays, points, faces)
        inside = ((x >= 0) & (x < 640) & (y >= 0) & (y < 480)).ravel()
        at = y.ravel().clip(0, 479), x.ravel().clip(0, 639)
        with np.errstate(invalid="ignore"):
            behind = np.linalg.norm(rays, axis=1) * (z - measured[at])
        visible = np.isfinite(z) & inside & ((behind <= 15) | (measured[at] == 0))
        silhouette = png(scene_id, f"mask/{im_id:06d}_{gt_id:06d}")[at] > 0
        seen = png(scene_id, f"mask_visib/{im_id:06d}_{gt_id:06d}")[at] > 0
        assert (silhouette != np.isfinite(z))[inside].mean() < 0.002
        assert (seen != visible)[inside].mean() < 0.002
        # One pixel in nine is looked at: the outline's share of the area bounds the sampling error.
        assert visible.sum() / np.isfinite(z).sum() == pytest.approx(info["visib_fract"], abs=0.04)


def test_detections_are_imperfect_but_mostly_right():
    detections = json.loads((MINI_DIR / "detections.json").read_text())
    masks = [coco.decode(d["segmentation"]) > 0 for d in detections]
    for detection, mask in zip(detections, masks, strict=True):
        rows, columns = np.nonzero(mask)
        x, y, width, height = detection["bbox"]
        assert [x, y, x + width, y + height] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert 0.3 <= detection["score"] <= 1 and 0 < detection["time"] < 1
        assert isinstance(detection["segmentation"]["counts"], str)
    overlaps, false, missing = overlaps_with_truth(detections, masks)
    assert 0.8 < np.median(overlaps) < 0.95 and min(overlaps) < 0.75 and max(overlaps) < 1
    assert np.mean(np.array(overlaps) > 0.5) > 0.9
    assert false == 2 and missing == 2


def overlaps_with_truth(detections: list[dict], masks: list[np.ndarray]) -> tuple[list[float], int, int]:
    """IoU of each detection with the best instance of its object; false ones; targets without any."""
    overlaps, false, hit = [], 0, set()
    for detection, mask in zip(detections, masks, strict=True):
        scene_id, im_id, obj_id = (detection[key] for key in ("scene_id", "image_id", "category_id"))
        best = 0.0
        for gt_id, gt in enumerate(table(scene_id, "gt")[im_id]):
            if gt["obj_id"] == obj_id:
                true = png(scene_id, f"mask_visib/{im_id:06d}_{gt_id:06d}") > 0
                best = max(best, (mask & true).sum() / (mask | true).sum())
        hit.add((scene_id, im_id, obj_id))
        false += best < 0.1
        overlaps += [best] if best >= 0.1 else []
    targets = json.loads((MINI_DIR / "test_targets_bop19.json").read_text())
    missing = sum((t["scene_id"], t["im_id"], t["obj_id"]) not in hit for t in targets)
    return overlaps, false, missing


def test_the_reader_of_bop_sets_finds_everything():
    dataset = BopTestSet(ROOT / "data", "mini")
    assert len(dataset) == 12
    for k in (0, 11):
        frame = dataset[k]
        found = dataset.start(frame)
        assert frame.rgb.shape == (3, 480, 640) and len(found) >= 6
        assert all(mask.box.any() for mask in found.mask) and found.seconds > 0


def test_a_box_rests_on_each_side_and_prefers_the_wide_ones():
    box = solids.box((0.3, 0.2, 0.1)).corners.reshape(-1, 3)
    rotations, weights = stable_poses(box)
    assert len(rotations) == 6 and weights.sum() == pytest.approx(1)
    assert np.allclose(np.linalg.det(rotations), 1)
    heights = [np.ptp(box @ rotation.T, axis=0)[2] for rotation in rotations]
    assert sorted(np.round(heights, 6)) == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    assert (np.argsort(heights) == np.argsort(-weights)).sum() >= 2
    assert heights[int(np.argmax(weights))] == pytest.approx(0.1)


def test_a_leaning_prism_does_not_stand_on_its_small_end():
    rings = np.array(
        [[(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], [(3, 0, 1), (4, 0, 1), (4, 1, 1), (3, 1, 1)]]
    )
    rotations, _ = stable_poses(solids.loft(rings * 0.1).corners.reshape(-1, 3))
    assert not any(np.allclose(abs(rotation[2, 2]), 1) for rotation in rotations)


@pytest.mark.parametrize("seed", range(3))
def test_objects_stand_on_the_table_and_apart(meshes, seed):
    rng = np.random.default_rng(seed)
    scene = compose(rng, list(meshes.items())[:7], distractors=3)
    assert sum(item.obj_id > 0 for item in scene.items) >= 6
    outlines = []
    for item in scene.items:
        points = item.mesh.vertices @ item.world_from_obj[:3, :3].T + item.world_from_obj[:3, 3]
        assert points[:, 2].min() == pytest.approx(0, abs=1e-6)
        outlines.append(cv2.convexHull(points[:, :2].astype(np.float32)))
    for k, outline in enumerate(outlines):
        for other in outlines[:k]:
            assert cv2.intersectConvexConvex(outline, other)[0] == 0


def test_imperfect_masks_follow_the_seed_and_keep_most():
    truth = np.zeros((240, 320), bool)
    truth[60:160, 100:220] = True
    others = np.zeros_like(truth)
    others[60:160, 220:280] = True
    overlaps = []
    for seed in range(30):
        mask, again = (imperfect(np.random.default_rng(seed), truth, others) for _ in range(2))
        assert np.array_equal(mask, again)
        overlaps.append((mask & truth).sum() / (mask | truth).sum())
    assert min(overlaps) > 0.5 and max(overlaps) < 1 and np.std(overlaps) > 0.02


def test_making_a_set_twice_gives_the_same_files(tmp_path, monkeypatch):
    monkeypatch.setattr(make_mini, "WIDTH", 160)
    monkeypatch.setattr(make_mini, "HEIGHT", 120)
    monkeypatch.setattr(photos, "LAMP_SAMPLES", 2)
    monkeypatch.setattr(photos, "ROOM_SAMPLES", 3)
    monkeypatch.setattr(make_mini, "K", np.diag([0.25, 0.25, 1]) @ make_mini.K)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/README.md").write_text("stays")
    for name in ("a", "b"):
        make_mini.make(tmp_path / name, make_mini.named("unseen"), images=1, seed=9)
    assert (tmp_path / "a/README.md").read_text() == "stays"
    (tmp_path / "a/README.md").unlink()
    contents = [
        {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    assert contents[0] == contents[1] and len(contents[0]) > 40
    assert not list(tmp_path.glob(".*"))  # nothing temporary is left


def test_an_impossible_number_of_images_is_refused(capsys):
    with pytest.raises(SystemExit) as ending:
        make_mini.main(["--images", "0"])
    assert ending.value.code == 2
    assert "--images 0" in capsys.readouterr().err
