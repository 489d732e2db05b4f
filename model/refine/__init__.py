"""Refines poses: the object is drawn at its pose and compared with the photo, by PicoPose's dense flow."""

from picopose.model.learner import Learner
from picopose.model.stage import Setup, Stage
from picopose.utils.config import Config

STAGES = ("refine", "best", "confidence")
NEEDS = ("meshes",)
REFINES = True
READS = ("bf16",)


def make_stage(setup: Setup) -> Stage:
    from picopose.model.refine import stage  # only when a stage is made

    return stage.make_stage(setup)


def make_learner(config: Config, *, resumes: bool = False) -> Learner:
    """See `learner.make_learner`."""
    from picopose.model.refine import learner

    return learner.make_learner(config, resumes=resumes)
