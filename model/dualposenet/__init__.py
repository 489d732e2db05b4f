"""DualPoseNet: pose and size of an object of a known category, from one RGB-D view and a mask.

Lin et al., ICCV 2021.
"""

from picopose.model.learner import Learner
from picopose.model.stage import Setup, Stage
from picopose.utils.config import Config

STAGES = ("dualposenet",)
READS = ()
CATEGORIES = True  # its things are categories: their sizes are estimated, and there are no meshes


def make_stage(setup: Setup) -> Stage:
    from picopose.model.dualposenet import stage  # not with every file of this folder

    return stage.make_stage(setup)


def make_learner(config: Config, *, resumes: bool = False) -> Learner:
    """See `learner.make_learner`."""
    from picopose.model.dualposenet import learner  # not with every file of this folder

    return learner.make_learner(config, resumes=resumes)
