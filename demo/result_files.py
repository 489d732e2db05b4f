"""Writes the results of a photo into a folder."""

import json
import logging
from pathlib import Path

import cv2
import numpy as np

from picopose.demo.results import Results
from picopose.utils.files import write_atomically

LOG = logging.getLogger(__name__)
RESULTS = ("overlay.png", "scene.glb", "pose.json")  # the last one says that all are there


def write(folder: Path, results: Results) -> None:
    """Writes the results of one photo in place of those of an earlier run."""
    remove_results(folder)
    write_picture(folder / "overlay.png", results.overlay)
    for index, matches in enumerate(results.matches):
        write_picture(folder / f"matches_{index}.png", matches)
    with write_atomically(folder / "scene.glb") as temporary:
        temporary.write_bytes(results.scene)
    with write_atomically(folder / "pose.json") as temporary:
        temporary.write_text(json.dumps(results.numbers, indent=1), encoding="utf-8")
    matches = "matches_*.png, " if results.matches else ""
    LOG.info("%s: pose.json, overlay.png, %sscene.glb", folder, matches)


def remove_results(folder: Path) -> None:
    for stale in (*folder.glob("matches_*.png"), *(folder / name for name in RESULTS)):
        stale.unlink(missing_ok=True)


def write_picture(path: Path, rgb: np.ndarray) -> None:
    _, content = cv2.imencode(path.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)
