"""PicoPose, the method of the paper: `network` is its Fig. 2, `stage` runs it on photos."""

from picopose.model.stage import Setup, Stage

STAGES = ("picopose", "best", "confidence")
NEEDS = ("templates",)


def make_stage(setup: Setup) -> Stage:
    from picopose.model.picopose import stage  # not with every file of this folder

    return stage.make_stage(setup)
