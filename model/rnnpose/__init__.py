"""RNNPose: recurrent refinement of the poses of known objects, one network each (Xu et al., CVPR 2022)."""

from picopose.model.learner import Learner
from picopose.model.stage import Setup, Stage
from picopose.utils.config import Config

STAGES = ("rnnpose", "best", "confidence")
NEEDS = ("meshes",)
REFINES = True
READS = ("threshold_px", "bf16")


def make_stage(setup: Setup) -> Stage:
    from picopose.model.rnnpose import stage  # not with every file of this folder

    return stage.make_stage(setup)


def make_learner(config: Config, *, resumes: bool = False) -> Learner:
    """See `learner.make_learner`."""
    from picopose.model.rnnpose import learner

    return learner.make_learner(config, resumes=resumes)
