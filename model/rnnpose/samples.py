"""Training samples: a patch of a photo about a wrong pose, the truth, and pixels paired with vertices."""

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from picopose.datasets.training.streams import stream
from picopose.model.rnnpose.augmentation import augment
from picopose.model.rnnpose.crops import patch_window
from picopose.model.rnnpose.point_pyramid import normalisation
from picopose.model.rnnpose.quirks import Quirks
from picopose.model.rnnpose.surface import Surface, box_centre
from picopose.utils.geometry import invert, rigid, transform, unproject, upright
from picopose.utils.records import Observation, Record

PAIRS = 256  # at most
NEIGHBOURS, REACH = 5, 0.01  # vertices paired with a pixel, and how near they are, in sizes of the object
BACKGROUND_SHARE = 0.1  # pairs of the background, for each of the others
LARGEST_TURN = 45.0  # degrees


@dataclass(frozen=True)
class Pairs(Record):
    """Pixels of a patch and vertices of the object that show the same spot, N of them."""

    pixel: Tensor  # (..., N, 2) long, x and y in the patch
    vertex: Tensor  # (..., N) long; -1 for a pixel of the background
    point: Tensor  # (..., N, 3) where the pixel lies on the object, see `point_pyramid.normalisation`
    vertex_point: Tensor  # (..., N, 3) where the vertex lies
    used: Tensor  # (..., N) bool


@dataclass(frozen=True)
class Sample(Record):
    """A pose to be refined, and its truth."""

    patch: Tensor  # (..., 3, P, P) uint8
    K: Tensor  # (..., 3, 3) of the patch
    cam_from_obj: Tensor  # (..., 4, 4) m, the truth
    initial: Tensor  # (..., 4, 4) m
    pairs: Pairs


class Photos(Protocol):
    """Photos of the object, an endless sequence."""

    def photo(self, index: int) -> Observation:
        """The photo of an index (>= 0), a pure function of it."""

    def name(self, index: int) -> str:
        """What it shows, for messages."""


@dataclass(frozen=True)
class PoseNoise:
    """How wrong the poses are that training begins from: standard deviations."""

    degrees: float  # of each of the pose's three angles
    shift: tuple[float, float, float]  # m, camera's axes
    least: float = 1.0  # share of them that a sample has at least; it varies up to 1

    def disturb(
        self, cam_from_obj: Tensor, centre: Tensor, rng: np.random.Generator, quirks: Quirks
    ) -> Tensor:
        """A pose (4, 4) turned about the object's centre (3,) m, by 45 degrees at most, and shifted."""
        share = rng.uniform(self.least, 1)
        true = Rotation.from_matrix(cam_from_obj[:3, :3].numpy())
        turned = self._turned(true, rng, share)
        for _ in range(1 if quirks.redrawn_once else 100):
            if np.degrees((turned * true.inv()).magnitude()) <= LARGEST_TURN:
                break
            turned = self._turned(true, rng, share)
        centre = torch.zeros(3) if quirks.origin_zoom else centre
        rotation = torch.from_numpy(turned.as_matrix()).float()
        pivot = transform(cam_from_obj, centre[None])[0]
        shift = torch.from_numpy(share * rng.normal(0, self.shift)).float()
        return rigid(rotation, pivot - rotation @ centre + shift)

    def _turned(self, true: Rotation, rng: np.random.Generator, share: float) -> Rotation:
        """A rotation whose angles about the fixed axes x, y and z are off."""
        angles = true.as_euler("xyz", degrees=True) + share * rng.normal(0, self.degrees, 3)
        return Rotation.from_euler("xyz", angles, degrees=True)


class Samples:
    """Endless samples of photos of one object; a `loader.Source`.

    Photos that come with a pose to begin from keep it.

    Args:
        size: side of the patches, px.
        augmented: whether colours are changed.
    """

    def __init__(
        self,
        photos: Photos,
        surface: Surface,
        noise: PoseNoise,
        *,
        size: int,
        seed: int,
        quirks: Quirks,
        augmented: bool,
    ):
        self._photos, self._surface, self._noise = photos, surface, noise
        self._size, self._seed, self._quirks, self._augmented = size, seed, quirks, augmented
        self._mean, self._scale = normalisation(surface.vertices)
        self._points = (surface.vertices - self._mean) / self._scale
        self._tree = cKDTree(self._points.numpy())
        self._centre = box_centre(surface.vertices)

    def sample(self, index: int) -> Sample:
        rng = stream("rnnpose", self._seed, index)
        photo = self._photos.photo(index)
        truth = upright(photo.cam_from_obj)
        initial = self._noise.disturb(truth, self._centre, rng, self._quirks)
        initial = initial if photo.initial is None else upright(photo.initial)
        window = patch_window(self._surface.vertices, initial, photo.K, *photo.rgb.shape[1:])
        rgb = window.cut(photo.rgb.permute(1, 2, 0).numpy(), self._size)
        rgb = augment(rgb, rng) if self._augmented else rgb
        nearest = cv2.INTER_NEAREST if self._quirks.loose_pixels else cv2.INTER_NEAREST_EXACT
        depth = window.cut(photo.depth.numpy(), self._size, nearest)
        K = window.camera(photo.K, self._size, self._quirks)
        patch = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
        return Sample(patch, K, truth, initial, self.pairs(torch.from_numpy(depth), K, truth, rng))

    def name(self, index: int) -> str:
        return self._photos.name(index)

    def pairs(self, depth: Tensor, K: Tensor, cam_from_obj: Tensor, rng: np.random.Generator) -> Pairs:
        """Pairs drawn from all that a patch's depth (P, P) m, of the object alone, and its pose give."""
        pixel, vertex, point = self.correspondences(depth, K, cam_from_obj)
        background = (depth <= 0).nonzero()
        count = int(BACKGROUND_SHARE * len(pixel)) if len(background) else 0
        drawn = background[rng.integers(max(1, len(background)), size=count)].flip(-1).view(-1, 2)
        pixel = torch.cat([pixel, drawn])
        vertex = torch.cat([vertex, vertex.new_full((count,), -1)])
        point = torch.cat([point, point.new_zeros(count, 3)])
        chosen = torch.from_numpy(rng.permutation(len(pixel))[:PAIRS])
        at = self._points[vertex[chosen].clamp(min=0)] * (vertex[chosen] >= 0)[:, None]
        used = torch.ones(len(chosen), dtype=torch.bool)
        return Pairs(pixel[chosen], vertex[chosen], point[chosen], at, used).map(_filled)

    def correspondences(
        self, depth: Tensor, K: Tensor, cam_from_obj: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels (M, 2) x, y of the object and vertices (M,) near them, with the pixels' places (M, 3)."""
        row, column = (depth > 0).nonzero().unbind(1)
        pixel = torch.stack([column, row], dim=-1)
        half = 0.5 if self._quirks.loose_pixels else 0.0
        xyz = transform(invert(cam_from_obj), unproject(K, pixel + half, depth[row, column]))
        point = (xyz - self._mean) / self._scale
        distance, vertex = self._tree.query(point.numpy(), k=NEIGHBOURS, distance_upper_bound=REACH)
        near = torch.from_numpy(np.isfinite(distance))
        owner = near.nonzero()[:, 0]
        return pixel[owner], torch.from_numpy(vertex)[near], point[owner]


def _filled(values: Tensor) -> Tensor:
    """Rows (N, ...) filled up to `PAIRS` with zeros."""
    rest = values.new_zeros(PAIRS - len(values), *values.shape[1:])
    return torch.cat([values, rest])
