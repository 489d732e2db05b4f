"""Pictures of cases: the photo about an object with its true and its estimated box."""

from dataclasses import dataclass

import numpy as np

from picopose.datasets.nocs.frames import read_rgb
from picopose.datasets.nocs.layout import FrameFiles
from picopose.evaluation.categories.boxes import SIGNS, Boxes
from picopose.evaluation.categories.cases import Case
from picopose.evaluation.categories.results import Results
from picopose.evaluation.photo_part import SIDE, PhotoPart, Picture, part_about, photo_picture

# The pairs of corners, in the order of `SIGNS`, that an edge joins.
_EDGES = [(i, j) for i in range(8) for j in range(i) if np.abs(SIGNS[i] - SIGNS[j]).sum() == 2]


@dataclass(frozen=True)
class BoxPictures:
    """A photo with the edges of boxes upon it, which are SVG path data in the photo's coordinates."""

    photo: Picture
    true_outline: str
    outline: str | None  # None without an estimate, and where it is not before the camera
    points: tuple[()] = ()  # such as other methods' pictures have


def draw_case(case: Case, results: Results, files: FrameFiles) -> BoxPictures:
    """The part of the photo that holds both boxes."""
    rgb = read_rgb(files.path("color.png"))
    boxes = [_box_frame(results.truths.poses, results.truths.sizes, case.truth)]
    if case.estimate is not None:
        boxes.append(_box_frame(results.estimates.poses, results.estimates.sizes, case.estimate))
    frame = part_about(SIGNS, boxes, files.split.K, rgb.shape[:2], side=SIDE)
    edges = [_edges(box, frame) for box in boxes]
    return BoxPictures(photo_picture(rgb, frame), edges[0], edges[1] or None if len(edges) > 1 else None)


def _box_frame(poses: np.ndarray, sizes: np.ndarray, row: int) -> np.ndarray:
    """(3, 4) m from the cube [-1, 1]^3 to the camera."""
    box = Boxes.of(poses[[row]], sizes[[row]])
    return np.column_stack([box.half_axes[0], box.centers[0]])


def _edges(box: np.ndarray, frame: PhotoPart) -> str:
    """A box's edges; empty unless it is before the camera."""
    corners = SIGNS @ box[:, :3].T + box[:, 3]
    if not np.isfinite(corners).all() or corners[:, 2].min() <= 0:
        return ""
    xy = frame.scaled((corners @ frame.photo_K.T)[:, :2] / corners[:, 2:]) + 0.5
    ends = np.round(xy, 1).tolist()
    return "".join("M{:g},{:g} {:g},{:g}".format(*ends[i], *ends[j]) for i, j in _EDGES)
