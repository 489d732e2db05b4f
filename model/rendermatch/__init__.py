"""The default method: render and match on general features, see `stage`."""

from picopose.model.rendermatch.stage import make_stage

__all__ = ["NEEDS", "STAGES", "make_stage"]

STAGES = ("rendermatch", "best", "redraw", "confidence")
NEEDS = ("meshes",)
