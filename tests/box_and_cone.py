"""A box and a cone, a photo of noise and a fast estimator of random weights, for tests of the estimator."""

from pathlib import Path

import numpy as np
import trimesh

from picopose.pipeline.estimator import ObjectPose, PoseEstimator
from tests.shared import ROOT

TINY = ["model.size=64", "test.views=42", "test.hypotheses=1"]
K = [[300, 0, 80], [0, 300, 60], [0, 0, 1]]
PHOTO = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
BOX = (30, 20, 90, 80)


def write_meshes(folder: Path) -> None:
    trimesh.creation.box((50, 80, 100)).export(folder / "box.ply")
    trimesh.creation.cone(30, 90).export(folder / "cone.stl")


def make_estimator(folder: Path) -> PoseEstimator:
    """Of the meshes in a folder, with random weights."""
    config = ROOT / "config" / "lite.yaml"
    made = PoseEstimator(None, config=config, device="cpu", log_dir=folder / "log", overrides=TINY)
    return made.add_object(folder / "box.ply").add_object(folder / "cone.stl", symmetry="z")


def as_pose(name: str, cam_from_obj: np.ndarray) -> ObjectPose:
    return ObjectPose(name, cam_from_obj, 1.0, 1.0, 0, np.zeros((0, 4)), np.zeros(4))
