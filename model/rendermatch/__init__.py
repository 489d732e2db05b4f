"""The default method: renderings matched to the photo by general features, see `stage`."""

from picopose.model.rendermatch.stage import make_stage

__all__ = ["NEEDS", "READS", "STAGES", "make_stage"]

STAGES = ("rendermatch", "refine", "best", "follow", "follow", "confidence")
NEEDS = ("meshes",)
READS = ()
