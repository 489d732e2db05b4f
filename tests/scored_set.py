"""Writes a small data set with depth images and imperfect estimates, for tests of the scores."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from picopose.evaluation.cases import Case, find_cases
from picopose.evaluation.scoring import score_csv
from picopose.pipeline.tested_set import TestedSet
from tests.raycast import cast_depth

WIDTH, HEIGHT = 160, 120
K = np.array([[180.0, 0, 78.3], [0, 182.0, 61.6], [0, 0, 1]])
HALF_TURN = [-1.0, 0, 0, 0, 0, -1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0]
SYMMETRIES = {
    1: {},
    4: {"symmetries_discrete": [HALF_TURN]},
    6: {"symmetries_continuous": [{"axis": [0, 0, 2.0], "offset": [0, 0, 5.0]}]},
}
# Scene, image: the objects in it, which are all targets but the last instance of a repeated one.
IMAGES = {(1, 2): [1, 4, 6], (1, 5): [4, 4, 1], (3, 2): [6, 1, 1, 1]}


@dataclass(frozen=True)
class ScoredSet:
    folder: Path
    csv: Path
    truths: dict[tuple[int, int], list[tuple[int, np.ndarray]]]  # per image: object, cam_from_obj (3, 4) m
    visibility: dict[tuple[int, int], list[float]]


def bodies() -> dict[int, trimesh.Trimesh]:
    blob = trimesh.creation.icosphere(subdivisions=2, radius=45)
    blob.vertices *= np.random.default_rng(0).uniform(0.8, 1.1, (len(blob.vertices), 1))
    box = trimesh.creation.box(extents=(60, 40, 90)).subdivide()
    can = trimesh.creation.cylinder(radius=30, height=80, sections=24)
    return {1: blob, 4: box, 6: can}


def write(folder: Path, *, seed: int = 0, depth: bool = True) -> ScoredSet:
    """A data set `toy` below `folder` with a result file of two estimates too many and one too few."""
    rng, meshes = np.random.default_rng(seed), bodies()
    data = folder / "toy"
    (data / "models_eval").mkdir(parents=True)
    infos = {}
    for obj_id, mesh in meshes.items():
        mesh.export(data / "models_eval" / f"obj_{obj_id:06d}.ply")
        infos[obj_id] = {"diameter": 1.05 * float(np.ptp(mesh.vertices, axis=0).max()), **SYMMETRIES[obj_id]}
    _dump(data / "models_eval" / "models_info.json", infos)
    truths = {image: [(obj_id, _pose(rng)) for obj_id in obj_ids] for image, obj_ids in IMAGES.items()}
    visibility = {image: rng.uniform(0.2, 1, len(poses)).round(2).tolist() for image, poses in truths.items()}
    for scene_id in {scene_id for scene_id, _ in IMAGES}:
        members = {im_id: poses for (scene, im_id), poses in truths.items() if scene == scene_id}
        _write_scene(data / "test" / f"{scene_id:06d}", scene_id, members, visibility, meshes, depth)
    _write_targets(data)
    csv = _write_results(folder, rng, truths)
    in_metres = {image: [(o, p * [1, 1, 1, 1e-3]) for o, p in poses] for image, poses in truths.items()}
    return ScoredSet(data, csv, in_metres, visibility)


def _pose(rng: np.random.Generator) -> np.ndarray:
    translation = rng.uniform([-70, -50, 300], [70, 50, 420])
    return np.column_stack([Rotation.random(random_state=rng).as_matrix(), translation])


def _write_scene(folder, scene_id, members, visibility, meshes, with_depth) -> None:
    (folder / "rgb").mkdir(parents=True)
    truths, infos, cameras = {}, {}, {}
    for im_id, poses in members.items():
        cv2.imwrite(str(folder / "rgb" / f"{im_id:06d}.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        truths[im_id] = [
            {"obj_id": o, "cam_R_m2c": p[:, :3].ravel().tolist(), "cam_t_m2c": p[:, 3].tolist()}
            for o, p in poses
        ]
        infos[im_id] = [{"visib_fract": share} for share in visibility[scene_id, im_id]]
        cameras[im_id] = {"cam_K": K.ravel().tolist(), "depth_scale": 0.5}
        if with_depth:
            _write_depth(folder / "depth" / f"{im_id:06d}.png", poses, meshes)
    for name, content in (("gt", truths), ("gt_info", infos), ("camera", cameras)):
        _dump(folder / f"scene_{name}.json", content)


def _write_depth(path: Path, poses, meshes) -> None:
    """The nearest surfaces before a wall at 450 mm, with a stripe where nothing was measured."""
    nearest = np.full((HEIGHT, WIDTH), 450.0)
    for obj_id, pose in poses:
        mesh, cam_from_obj = meshes[obj_id], np.vstack([pose, [0, 0, 0, 1]])
        depth = cast_depth(mesh.vertices, mesh.faces, cam_from_obj, K, WIDTH, HEIGHT)
        nearest = np.where((depth > 0) & (depth < nearest), depth, nearest)
    nearest[:, 60:70] = 0
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), (nearest / 0.5).round().astype(np.uint16))


def _write_targets(data: Path) -> None:
    targets, images = [], []
    for (scene_id, im_id), obj_ids in IMAGES.items():
        images.append({"scene_id": scene_id, "im_id": im_id})
        for obj_id in dict.fromkeys(obj_ids):
            count = max(1, obj_ids.count(obj_id) - 1)
            targets.append(images[-1] | {"obj_id": obj_id, "inst_count": count})
    _dump(data / "test_targets_bop19.json", targets)
    _dump(data / "test_targets_bop24.json", images)


def _write_results(folder: Path, rng: np.random.Generator, truths) -> Path:
    lines = ["scene_id,im_id,obj_id,score,R,t,time"]
    for (scene_id, im_id), poses in truths.items():
        for index, (obj_id, pose) in enumerate(poses):
            if (scene_id, im_id, index) == (1, 5, 2):
                continue  # a target without estimate
            repeats = 2 if index == 0 else 1
            for _ in range(repeats):
                strength = rng.choice([0.3, 1.0, 3.0])
                turn = Rotation.from_rotvec(rng.normal(0, 0.06 * strength, 3)).as_matrix()
                estimate = np.column_stack([turn @ pose[:, :3], pose[:, 3] + rng.normal(0, 3 * strength, 3)])
                score = rng.choice([0.25, 0.5, 0.75])  # with ties
                numbers = (
                    " ".join(map(repr, values.ravel().tolist()))
                    for values in (estimate[:, :3], estimate[:, 3])
                )
                lines.append(f"{scene_id},{im_id},{obj_id},{score},{','.join(numbers)},{0.5 * im_id}")
    path = folder / "loops_toy-test.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def _dump(path: Path, content) -> None:
    path.write_text(json.dumps(content))


def toy_set(folder: Path, **options) -> TestedSet:
    made = write(folder, **options)
    return TestedSet(
        name="toy",
        csv=made.csv,
        dataset_dir=made.folder,
        split_dir=made.folder / "test",
        targets=made.folder / "test_targets_bop19.json",
        templates=folder,
    )


def cases_of(tested: TestedSet) -> list[Case]:
    scores = score_csv(tested.csv, tested.dataset_dir)
    return find_cases(tested.name, scores, tested.details(len(scores.results)))


def write_side_file(tested: TestedSet, **changes) -> None:
    lines = tested.csv.read_text().splitlines()[1:]
    entry = {
        "confidence": None,
        "detection_score": 0.5,
        "inlier_ratio": 0.25,
        "template": 0,
        "matches": [],
    }
    entries = [entry | {"phases": {"detection": 0.1, "poses": 0.2}} | changes for _ in lines]
    tested.csv.with_suffix(".json").write_text(json.dumps(entries))


def write_templates(data_dir: Path, name: str, obj_id: int) -> None:
    """Two templates of an object: a grey square before black, 1 m away."""
    folder = data_dir / "templates" / name
    (folder / f"{obj_id:06d}").mkdir(parents=True)
    (folder / "object_poses").mkdir()
    rgba, depth = np.zeros((480, 640, 4), np.uint8), np.zeros((480, 640), np.uint16)
    rgba[100:300, 200:400], depth[100:300, 200:400] = (120, 120, 120, 255), 1000
    for view in range(2):
        stem = folder / f"{obj_id:06d}" / f"{view:06d}"
        cv2.imwrite(f"{stem}.png", rgba)
        cv2.imwrite(f"{stem}_depth.png", depth)
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[:, 2, 3] = 1000
    np.save(folder / "object_poses" / f"{obj_id:06d}.npy", poses)
