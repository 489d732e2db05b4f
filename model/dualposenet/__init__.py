"""DualPoseNet: pose and size of an object of a known category, from one RGB-D view and a mask."""

from picopose.model.learner import Learner
from picopose.utils.config import Config


def make_learner(config: Config, *, resumes: bool = False) -> Learner:
    """See `learner.make_learner`."""
    from picopose.model.dualposenet import learner  # not with every file of this folder

    return learner.make_learner(config, resumes=resumes)
