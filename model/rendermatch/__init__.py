"""The default method: render and match on general features, see `stage`."""

from picopose.model.stage import Setup, Stage

STAGES = ("rendermatch", "best", "redraw", "confidence")
NEEDS = ("meshes",)


def make_stage(setup: Setup) -> Stage:
    from picopose.model.rendermatch import stage  # here, for `redraw` imports parts of this package

    return stage.make_stage(setup)
