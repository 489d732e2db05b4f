"""Training instances of DualPoseNet, made from frames with maps of canonical coordinates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from picopose.datasets.nocs.extents import read_extents
from picopose.datasets.nocs.frames import ListedObject, NocsFrame, canonical_coordinates, read_frame
from picopose.datasets.nocs.labels import canonical_rotation, quaternion
from picopose.datasets.nocs.layout import FrameFiles
from picopose.datasets.nocs.points import ColouredPoints, masked_points
from picopose.datasets.nocs.similarity import RobustFit, fit_robustly

_MODELS_LEFT_OUT = {"b9be7cfe653740eb7633a2dd89cec754"}  # a mug of ShapeNet
_FEWEST_POINTS = 64
_LARGEST = (440, 600)  # px, height and width of an object in an image that is used
_MM = 1e-3  # m


@dataclass(frozen=True)
class Label:
    """The pose and size of an object, float32."""

    rotation: np.ndarray  # (4,) w, x, y, z, from the camera's frame to the object's
    translation: np.ndarray  # (3,) m, the object's centre minus the mean of its points
    size: np.ndarray  # (3,) m, sides of its box


@dataclass(frozen=True)
class Instance:
    """An object with its visible points, of which maps can be made anew in each epoch."""

    class_id: int
    points: np.ndarray  # (N, 3) float32, m, minus their mean
    rgb: np.ndarray  # (N, 3) uint8
    label: Label
    fit: RobustFit | None = None  # of canonical coordinates to points in mm; None: read from a shard

    def chosen(self, points: np.ndarray) -> Instance:
        """The instance with some of its points, by truth values or indices."""
        return replace(self, points=self.points[points], rgb=self.rgb[points])


def instances_of(files: FrameFiles, random: np.random.RandomState) -> Iterator[Instance]:
    """The instances of a frame that can be learnt from, in the order of its list.

    None of a frame with an object larger than 600 x 440 px. Left out are things of no class, objects that
    are not seen or have fewer than 64 points with depth, and those whose coordinates fit no pose. Raises an
    `InputError` for files that are missing or damaged.

    Each instance is fitted when it is asked for: draws that its user makes from the same generator come
    between its own and the next one's, as in the original.
    """
    frame = read_frame(files)
    objects = [known for known in frame.objects if _is_wanted(known, frame)]
    if any(_is_too_large(frame.mask == known.instance) for known in objects):
        return
    for known in objects:
        points = object_points(frame, known, files.split.K)
        if len(points) < _FEWEST_POINTS:
            continue
        fit = fit_robustly(_coordinates(frame, known), points.xyz / _MM, random)
        if fit is not None:
            yield _instance(known.class_id, points, fit, read_extents(files, known))


def object_points(frame: NocsFrame, known: ListedObject, K: np.ndarray) -> ColouredPoints:
    """The points of one object."""
    return masked_points(frame.rgb, frame.depth * _MM, frame.mask == known.instance, K)


def _coordinates(frame: NocsFrame, known: ListedObject) -> np.ndarray:
    """Canonical coordinates of the same pixels, (N, 3) float64."""
    seen = (frame.mask == known.instance) & (frame.depth > 0)
    return canonical_coordinates(frame.coordinates[seen]).astype(np.float64)


def _is_wanted(known: ListedObject, frame: NocsFrame) -> bool:
    return (
        known.class_id > 0
        and known.model not in _MODELS_LEFT_OUT
        and bool((frame.mask == known.instance).any())
    )


def _is_too_large(mask: np.ndarray) -> bool:
    extents = [np.ptp(places) + 1 for places in np.nonzero(mask)]
    return any(extent > most for extent, most in zip(extents, _LARGEST, strict=True))


def _instance(class_id: int, points: ColouredPoints, fit: RobustFit, extents: np.ndarray) -> Instance:
    centroid, similarity = points.xyz.mean(axis=0), fit.similarity
    label = Label(
        rotation=quaternion(canonical_rotation(similarity.R.T, class_id)).astype(np.float32),
        translation=(similarity.t * _MM - centroid).astype(np.float32),
        size=(similarity.scale * _MM * extents).astype(np.float32),
    )
    return Instance(class_id, (points.xyz - centroid).astype(np.float32), points.rgb, label, fit)
