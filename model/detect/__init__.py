"""Finds objects in photos without boxes, by their meshes alone, see `stage`."""

from picopose.model.detect.stage import make_stage

__all__ = ["DETECTS", "NEEDS", "make_stage"]

DETECTS = True
NEEDS = ("meshes",)
