"""Refines poses that are nearly right, fast, by texture and contour: for following objects, see `stage`."""

from picopose.model.follow.stage import make_stage

__all__ = ["NEEDS", "make_stage"]

NEEDS = ("meshes",)
