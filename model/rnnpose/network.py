"""RNNPose's network and its loop (Xu et al., CVPR 2022, Fig. 2).

A recurrent network finds the flow from a rendering at the pose to the photo, learned descriptors of the
object's vertices and of the photo's pixels say how far to trust each pixel, and a Levenberg-Marquardt step
turns both into a motion of the object. Every few steps the rendering is made anew.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picopose.model.correlation import lookup
from picopose.model.rnnpose import lm
from picopose.model.rnnpose.crops import drawn_camera, zoom
from picopose.model.rnnpose.encoder import ImageEncoder
from picopose.model.rnnpose.image_descriptors import ImageDescriptors
from picopose.model.rnnpose.kpconv import PointNetwork
from picopose.model.rnnpose.point_pyramid import PointPyramid
from picopose.model.rnnpose.quirks import MENDED, Quirks
from picopose.model.rnnpose.surface import Drawn, Surface, box_centre, trace
from picopose.model.rnnpose.update import UPSAMPLING, UpdateBlock, upsample_flow
from picopose.utils.geometry import cell_centres, sample, transform, unproject
from picopose.utils.records import Record

CONTEXT_SCALE = 0.1
SAME_VERTEX = 1e-5  # m
LEVELS, RADIUS = 4, 4  # of the correlation

# Draws the object at poses (B, 4, 4) with cameras (B, 3, 3): colours (B, 3, S, S) without light, and the
# triangles (B, S, S) that are seen, -1 for none.
Draw = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass
class Sizes:
    """Sizes of the network; the defaults are the original's."""

    patch: int = 320  # px, side of the patch of the photo
    zoom: int = 240  # px, side of the windows in which it is compared with renderings
    width: int = 64  # channels at the finest scale, to which all others are in proportion
    descriptor: int = 32  # channels of the descriptors
    renderings: int = 3
    iterations: int = 4  # for each rendering

    def __post_init__(self):
        least = UPSAMPLING * 2 ** (LEVELS - 1)  # of which the coarsest level of the correlation has a cell
        if min(self.patch, self.zoom) < least or self.patch % UPSAMPLING or self.zoom % UPSAMPLING:
            raise ValueError(f"patch and zoom must be multiples of {UPSAMPLING}, and {least} at least")
        if self.width < 2 or self.width % 2:
            raise ValueError(f"width is {self.width}; it must be even and positive")
        if min(self.descriptor, self.renderings, self.iterations) < 1:
            raise ValueError("descriptor, renderings and iterations must be at least 1")


@dataclass(frozen=True)
class KnownObject(Record):
    """The object that a network was trained for."""

    surface: Surface
    centre: Tensor  # (3,) m, of its box
    diameter: float  # m
    descriptors: Tensor  # (V, D), of unit length
    context: Tensor  # (V, C)


@dataclass(frozen=True)
class Comparison(Record):
    """A rendering beside the photo in the same zoom."""

    cam_from_obj: Tensor  # (B, 4, 4) m, where the object is drawn
    K: Tensor  # (B, 3, 3) of the zoom
    points: Tensor  # (B, S*S, 3) m, the surface in the camera's frame; of depth 0 where there is none
    drawn: Drawn
    drawn_map: Tensor  # (B, 4w, S/8, S/8) features of the rendering
    photo_map: Tensor  # (B, 4w, S/8, S/8) features of the photo
    context: Tensor  # (B, 2w, S/8, S/8)
    hidden: Tensor  # (B, 2w, S/8, S/8), the first state of the recurrent unit
    drawn_descriptors: Tensor  # (B, D, S, S)
    photo_descriptors: Tensor  # (B, D, S, S)
    # (B, M) long, the pixels with a surface, row by row; in images that have fewer also some without.
    index: Tensor

    @cached_property
    def surface_points(self) -> tuple[Tensor, Tensor]:
        """Points (B, M, 3) m and pixels (B, M, 2) of what is drawn, see `index`."""
        size = self.drawn.seen.shape[-1]
        points = self.points.gather(1, self.index[..., None].expand(-1, -1, 3))
        return points, cell_centres(size, size, self.index.device)[self.index]

    def at(self, maps: Tensor) -> Tensor:
        """Values (B, C, M) of maps (B, C, S, S) at the pixels of `index`."""
        return maps.flatten(2).gather(2, self.index[:, None].expand(-1, maps.shape[1], -1))

    def placed(self, values: Tensor) -> Tensor:
        """Maps (B, C, S, S) of values (B, C, M) at the pixels of `index`; 0 elsewhere."""
        side, index = self.drawn.seen.shape[-1], self.index[:, None].expand_as(values)
        maps = values.new_zeros(*values.shape[:2], side**2).scatter(2, index, values)
        return maps.unflatten(-1, (side, side))


@dataclass(frozen=True)
class Iteration(Record):
    """What one iteration finds."""

    seen: Comparison
    motion: Tensor  # (B, 4, 4) m, of the object since it was drawn
    flow: Tensor  # (B, 2, S, S) px of the zoom, from the rendering to the photo
    weight: Tensor  # (B, S, S) in [0, 1], how far each pixel is trusted

    @property
    def cam_from_obj(self) -> Tensor:
        """(B, 4, 4) m."""
        return self.motion @ self.seen.cam_from_obj


class RNNPose(nn.Module):
    """Refines poses of one object.

    Args:
        vertices: (V, 3) of the object's surface, which tell it from others; None where they are not known, as
            with released weights.

    Attributes:
        bf16: whether convolutions compute in bfloat16, as the original's did in half precision on GPUs.
    """

    vertices: Tensor

    def __init__(self, sizes: Sizes, quirks: Quirks = MENDED, *, vertices: Tensor | None = None):
        super().__init__()
        self.register_buffer("vertices", torch.zeros(0, 3) if vertices is None else _in_shape(vertices))
        width, self.sizes, self.quirks, self.bf16 = sizes.width, sizes, quirks, False
        self.image_descriptors = ImageDescriptors(sizes.descriptor, width)
        self.point_descriptors = PointNetwork(sizes.descriptor, width=width, normalised=True)
        self.point_context = PointNetwork(4 * width, width=width, normalised=False)
        self.encoder = ImageEncoder(4 * width, (width, width * 3 // 2, 2 * width))
        self.update = UpdateBlock(
            hidden=2 * width, context=2 * width, levels=LEVELS, radius=RADIUS, width=4 * width
        )
        self.sigma = nn.Parameter(torch.ones(1))
        for part in (self.image_descriptors, self.encoder, self.update.motion, self.update.gru):
            part.apply(_begin)

    @property
    def knows_its_object(self) -> bool:
        return len(self.vertices) > 0

    def is_of(self, vertices: Tensor) -> bool:
        """Whether an object's vertices (V, 3) are those that it was trained with, wherever their origin."""
        if not self.knows_its_object:
            return True
        return vertices.shape == self.vertices.shape and torch.allclose(
            _in_shape(vertices), self.vertices.cpu(), atol=SAME_VERTEX
        )

    def known(self, surface: Surface, pyramid: PointPyramid, diameter: float) -> KnownObject:
        """What the network knows of its object, whatever the photo."""
        features = self.point_descriptors(pyramid), self.point_context(pyramid)
        return KnownObject(surface, box_centre(surface.vertices), diameter, *features)

    def describe(self, patch: Tensor) -> Tensor:
        """Descriptors (B, D, P, P), of unit length, of patches (B, 3, P, P) in [0, 1]."""
        with torch.autocast(patch.device.type, torch.bfloat16, enabled=self.bf16):
            return self.image_descriptors(patch).float()

    def forward(
        self,
        patch: Tensor,
        descriptors: Tensor,
        K: Tensor,
        cam_from_obj: Tensor,
        known: KnownObject,
        draw: Draw,
        *,
        renderings: int | None = None,
    ) -> Iterator[Iteration]:
        """Refines poses, step by step.

        Args:
            patch: (B, 3, P, P) in [0, 1], of photos. descriptors: (B, D, P, P), `describe` of them.
            K: (B, 3, 3) of the patches. cam_from_obj: (B, 4, 4) m.
            renderings: how many; those of `Sizes` if not given.
        """
        for _ in range(renderings or self.sizes.renderings):
            seen = self.compare(patch, descriptors, K, cam_from_obj.detach(), known, draw)
            motion = torch.eye(4, device=K.device).expand(len(K), 4, 4)
            hidden = seen.hidden
            for _ in range(self.sizes.iterations):
                start = self.induced_flow(seen, motion.detach())
                hidden, flow = self.correct(seen, hidden, start)
                weight = self.trust(seen, flow)
                motion = self.move(seen, motion.detach(), flow, weight, known)
                yield Iteration(seen, motion, flow, weight)
            cam_from_obj = motion @ seen.cam_from_obj

    def compare(
        self,
        patch: Tensor,
        descriptors: Tensor,
        K: Tensor,
        cam_from_obj: Tensor,
        known: KnownObject,
        draw: Draw,
    ) -> Comparison:
        """Draws the object at its poses, and looks at the photo through the same windows."""
        size, quirks = self.sizes.zoom, self.quirks
        window = zoom(known.surface.vertices, cam_from_obj, K, self.sizes.patch, size, quirks)
        rgb, drawn = self.render(cam_from_obj, drawn_camera(window.K, size, quirks), known, draw)
        images = self._normalised(torch.cat([rgb, window.look(patch)]))
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            drawn_map, photo_map = self.encoder(images).float().chunk(2)
        context = self.context_cells(drawn, CONTEXT_SCALE * known.context)
        hidden, context = context.chunk(2, dim=1)
        most = int(drawn.seen.sum((1, 2)).max())
        return Comparison(
            cam_from_obj=cam_from_obj,
            K=window.K,
            points=unproject(window.K, cell_centres(size, size, K.device), drawn.depth.flatten(1)),
            drawn=drawn,
            drawn_map=drawn_map,
            photo_map=photo_map,
            context=context.relu(),
            hidden=hidden.tanh(),
            drawn_descriptors=drawn.spread(known.descriptors),
            photo_descriptors=window.look(descriptors),
            index=drawn.seen.flatten(1).sort(dim=1, descending=True, stable=True).indices[:, :most],
        )

    def render(self, cam_from_obj: Tensor, K: Tensor, known: KnownObject, draw: Draw) -> tuple[Tensor, Drawn]:
        """The object under light (B, 3, S, S) in [0, 1], and its surface, as cameras (B, 3, 3) see them."""
        rgb, faces = draw(cam_from_obj, K)
        drawn = trace(known.surface, faces, cam_from_obj, K, self.quirks)
        return drawn.shaded(rgb, known.surface), drawn

    def induced_flow(self, seen: Comparison, motion: Tensor) -> Tensor:
        """Flow (B, 2, S/8, S/8) in cells by which a motion (B, 4, 4) shifts the rendering; 0 behind it."""
        points, start = seen.surface_points
        shift = seen.placed((lm.project(seen.K, transform(motion, points)) - start).mT)
        return self.to_cells(shift * seen.drawn.seen[:, None], seen.drawn.seen) / UPSAMPLING

    def correct(self, seen: Comparison, hidden: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """The next state of the recurrent unit, and the corrected flow (B, 2, S, S) px."""
        side, device = start.shape[-1], start.device
        cells = cell_centres(side, side, device).mT.unflatten(-1, (side, side))
        correlation = lookup(seen.drawn_map, seen.photo_map, cells + start, radius=RADIUS, scales=LEVELS)
        with torch.autocast(start.device.type, torch.bfloat16, enabled=self.bf16):
            hidden, delta, mask = self.update(hidden, seen.context, correlation, start)
        return hidden.float(), upsample_flow(start + delta.float(), mask.float())

    def trust(self, seen: Comparison, flow: Tensor) -> Tensor:
        """Weights (B, S, S): how alike descriptors of the rendering and, along the flow, the photo are."""
        target = seen.surface_points[1] + seen.at(flow).mT
        if self.quirks.loose_pixels:
            size = flow.shape[-1]
            target = target * size / (size - 1) - 0.5
        found = sample(seen.photo_descriptors, target)
        likeness = (seen.at(seen.drawn_descriptors) * found).sum(dim=1, keepdim=True)
        weight = (-(1 - likeness).abs() / self.sigma).exp()
        return seen.placed(weight)[:, 0] * seen.drawn.seen

    def move(
        self, seen: Comparison, motion: Tensor, flow: Tensor, weight: Tensor, known: KnownObject
    ) -> Tensor:
        """The motion (B, 4, 4) after one step towards the flow's targets."""
        points, start = seen.surface_points
        target, trusted = start + seen.at(flow).mT, seen.at(weight[:, None])[:, 0]
        centre = transform(seen.cam_from_obj, known.centre[None, None])[:, 0]
        options = {"centre": centre, "diameter": known.diameter, "quirks": self.quirks}
        return lm.step(motion, points, target, trusted, seen.K, **options)

    def to_cells(self, maps: Tensor, seen: Tensor) -> Tensor:
        """Maps (B, C, S, S) by cells of 8 x 8 px: their means over the surface, seen (B, S, S)."""
        if self.quirks.corner_flow:
            cells = maps.shape[-1] // UPSAMPLING
            return F.interpolate(maps, (cells, cells), mode="bilinear", align_corners=True)
        share = F.avg_pool2d(seen[:, None].to(maps.dtype), UPSAMPLING)
        return F.avg_pool2d(maps * seen[:, None], UPSAMPLING) / share.clamp(min=1 / UPSAMPLING**2)

    def context_cells(self, drawn: Drawn, values: Tensor) -> Tensor:
        """`to_cells` of the maps that values (V, C) of the vertices make, without these."""
        size, cells = self.sizes.zoom, self.sizes.zoom // UPSAMPLING
        if self.quirks.corner_flow:
            return self.to_cells(drawn.spread(values), drawn.seen)
        row = torch.arange(size, device=values.device) // UPSAMPLING
        cell = (row[:, None] * cells + row).expand_as(drawn.seen)
        count = F.avg_pool2d(drawn.seen[:, None].to(values.dtype), UPSAMPLING)[:, 0] * UPSAMPLING**2
        share = 1 / count.flatten(1).gather(1, cell.flatten(1)).unflatten(1, (size, size)).clamp(min=1)
        return drawn.gathered(values, cell, share, cells)

    def _normalised(self, images: Tensor) -> Tensor:
        return 2 * (images / 255 if self.quirks.dark_images else images) - 1


def _begin(layer: nn.Module) -> None:
    """First weights with which signals keep their strength from layer to layer (He et al., 2015)."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)


def _in_shape(vertices: Tensor) -> Tensor:
    """Vertices (V, 3) m from the middle of their box."""
    return vertices - box_centre(vertices)
