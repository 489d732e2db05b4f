"""Results of a test run that needs no network: estimates are fabricated from the truth, with noise."""

from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from picopose.datasets import layouts
from picopose.datasets.bop.image_result import FoundPose, ImageResult
from picopose.datasets.bop.results import write_csv
from picopose.datasets.bop.side_file import write_details
from picopose.datasets.templates import StoredViews
from picopose.evaluation.ground_truth import ImageTruth, load_ground_truth
from picopose.pipeline.tested_set import TestedSet
from picopose.rendering.render_templates import Job, render_all
from picopose.utils.geometry import cell_centres, depths_at, invert, project, transform, unproject

SIZE = 224  # px of the templates' crops
CELLS = 64  # along a side of a crop
MATCHES = 48
MISSING, WRONG = 0.04, 0.08  # shares of the targets without estimate and with a gross error


def fabricate(data_dir: Path, name: str, out: Path, *, seed: int = 0) -> TestedSet:
    """A result file with side file for a data set that needs no network, named as such, below `out`.

    Most poses are the true ones with noise of random strength; some are upside down, some targets are missed.
    Matches are where the estimated pose puts the points of the nearest of 42 templates, with 0.7 px of noise.
    """
    split = layouts.bop_test_split(data_dir, name)
    tested = TestedSet(
        name=name,
        csv=out / f"fabricated_{name}-{split.replace('_', '-')}.csv",
        dataset_dir=data_dir / name,
        split_dir=data_dir / name / split,
        targets=data_dir / name / "test_targets_bop19.json",
        templates=out,
    )
    truth = load_ground_truth(tested.split_dir, tested.targets, per_object=True)
    obj_ids = sorted({obj_id for targets in truth.targets for obj_id in targets})
    folder, meshes = layouts.templates_dir(out, name), layouts.find_meshes(data_dir, name)
    render_all([Job(meshes[f"{i:06d}"], folder, f"{i:06d}", 42, 1e-3) for i in obj_ids], processes=1)
    templates = {obj_id: StoredViews(out, name, f"{obj_id:06d}") for obj_id in obj_ids}
    rng, results = np.random.default_rng(seed), []
    for image, targets in zip(truth.images, truth.targets, strict=True):
        chosen = [(o, gt_id) for o, count in targets.items() for gt_id in image.most_visible(o, count)]
        estimates = [
            _estimate(image, o, gt_id, templates[o], rng) for o, gt_id in chosen if rng.random() > MISSING
        ]
        phases = {
            "detection": rng.uniform(0.1, 0.2),
            "poses": 0.02 + 0.03 * len(estimates) * rng.uniform(0.8, 1.4),
        }
        results.append(
            ImageResult(image.scene_id, image.im_id, sum(phases.values()), tuple(estimates), phases)
        )
    write_csv(tested.csv, results)
    write_details(tested.csv.with_suffix(".json"), results)
    return tested


def _estimate(
    image: ImageTruth, obj_id: int, gt_id: int, templates: StoredViews, rng: np.random.Generator
) -> FoundPose:
    strength = rng.lognormal(0.0, 0.9)
    wrong = rng.random() < WRONG
    turn = Rotation.from_rotvec(np.deg2rad(1.2 * strength) * rng.normal(size=3))
    if wrong:
        turn = turn * Rotation.from_rotvec(np.pi * np.array([1.0, 0, 0]))
    pose = np.eye(4)
    pose[:3] = image.cam_from_obj[gt_id]
    pose[:3, :3] = turn.as_matrix() @ pose[:3, :3]
    pose[:3, 3] += strength * rng.normal(size=3) * [0.001, 0.001, 0.004]
    detection_score = rng.uniform(0.5, 0.95)
    ratio = rng.uniform(0.02, 0.2) if wrong else float(np.exp(-0.3 * strength))
    view, matches = _matches(pose, image.K, templates, rng)
    return FoundPose(
        obj_id=obj_id,
        score=detection_score * ratio,
        confidence=float(np.sqrt(ratio)),
        rotation=tuple(pose[:3, :3].ravel().tolist()),
        translation=tuple(pose[:3, 3].tolist()),
        detection_score=detection_score,
        inlier_ratio=ratio,
        template=view,
        matches=matches,
    )


def _matches(
    pose: np.ndarray, K: np.ndarray, templates: StoredViews, rng: np.random.Generator
) -> tuple[int, tuple[tuple[float, float, float, float], ...]]:
    """The template nearest to a pose (4, 4), and pixels of the photo and of it that show the same points."""
    cam_from_obj = torch.from_numpy(pose)
    towards = invert(cam_from_obj)[:3, 3]  # the camera, seen from the object
    cameras = invert(templates.cam_from_obj.double())[:, :3, 3]
    view = int(torch.cosine_similarity(cameras, towards[None]).argmax())
    template = templates.read(SIZE, [view])
    xy = cell_centres(CELLS, SIZE)
    _, (depth,) = depths_at(template.depth, xy[None])
    seen = torch.from_numpy(rng.permutation(np.flatnonzero(depth.numpy() > 0))[:MATCHES])
    xyz = transform(invert(template.cam_from_obj[0]), unproject(template.K[0], xy[seen], depth[seen]))
    photo = project(torch.from_numpy(K), transform(cam_from_obj, xyz.double()))
    noisy = photo.numpy() + 0.7 * rng.normal(size=photo.shape)
    return view, tuple(map(tuple, np.hstack([noisy, xy[seen].numpy()]).round(2).tolist()))
