"""A method that refines: it moves every object five centimetres away, in steps, and tells them.

What it calls a weight is where the object is seen at its pose, in the square about its box.
"""

from dataclasses import replace

import torch

from picopose.model.stage import Setup, Stage, Step, check_poses
from picopose.utils.crop import crop_from_image, square_boxes
from picopose.utils.records import Estimates, Frame

STAGES = ("tests.toys.refining", "best")
NEEDS = ("meshes",)
REFINES = True
STEPS, SIZE = 5, 64


class Refining(Stage):
    def prepare_object(self, obj_id: int) -> None:
        self.things.drawings.hull(obj_id)

    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        if len(found) == 0:
            return found
        check_poses(found, "refining")
        windows = square_boxes(found.box.float(), *frame.rgb.shape[1:])
        K = crop_from_image(windows, SIZE).double() @ frame.K.double()
        pose = found.cam_from_obj.double().clone()
        for _ in range(STEPS):
            drawn = self.things.drawings.draw(found.obj_id.tolist(), pose, K, SIZE)
            pose[:, 2, 3] += 0.05 / STEPS
            if self.watch is not None:
                self.watch(Step(torch.arange(len(found)), pose.float(), drawn.mask.float(), K))
        confidence = torch.full((len(found),), 0.7)
        return replace(found, cam_from_obj=pose.float(), confidence=confidence)


def make_stage(setup: Setup) -> Stage:
    return Refining()
