"""PicoPose: `network` is the paper's Fig. 2, `stage` runs it on photos, `learner` trains it."""

from picopose.model.learner import Learner
from picopose.model.stage import Setup, Stage
from picopose.utils.config import Config

STAGES = ("picopose", "best", "confidence")
NEEDS = ("templates",)
READS = ("level", "threshold_px", "bf16")


def make_stage(setup: Setup) -> Stage:
    from picopose.model.picopose import stage  # not with every file of this folder

    return stage.make_stage(setup)


def make_learner(config: Config, *, resumes: bool = False) -> Learner:
    """See `learner.make_learner`."""
    from picopose.model.picopose import learner

    return learner.make_learner(config, resumes=resumes)
