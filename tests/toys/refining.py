"""A method that refines: it draws each object at its pose, and moves it five centimetres away."""

from dataclasses import replace

import torch

from picopose.model.stage import Setup, Stage, check_poses
from picopose.utils.records import Estimates, Frame

STAGES = ("tests.toys.refining", "best")
NEEDS = ("meshes",)
REFINES = True


class Refining(Stage):
    def prepare_object(self, obj_id: int) -> None:
        self.things.drawings.hull(obj_id)

    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        check_poses(found, "refining")
        K = frame.K.double().expand(len(found), 3, 3)
        drawn = self.things.drawings.draw(found.obj_id.tolist(), found.cam_from_obj.double(), K, 64)
        assert drawn.mask.shape == (len(found), 64, 64)
        pose = found.cam_from_obj.clone()
        pose[:, 2, 3] += 0.05
        confidence = torch.full((len(found),), 0.7)
        return replace(found, cam_from_obj=pose, confidence=confidence)


def make_stage(setup: Setup) -> Stage:
    return Refining()
