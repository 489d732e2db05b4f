"""An object's surface as the network sees it: values of its vertices, interpolated over a drawing of it."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from picopose.model.rnnpose.quirks import Quirks
from picopose.rendering.mesh import Mesh
from picopose.utils.geometry import transform
from picopose.utils.records import Record

# The original's lamp, m in the object's frame, and its light: ambient, diffuse and a glow on everything.
LAMP = (1.0, 1.0, -1.0)
AMBIENT, DIFFUSE, GLOW = 0.5, 0.3, 0.2
DEPTH_OFFSET = (
    1e-5  # m, added to all depths, those of the background too, where `Quirks.vertex_depth` is kept
)


@dataclass(frozen=True)
class Surface(Record):
    """Triangles without texture; where vertices of a mesh differ in looks alone, they are one."""

    vertices: Tensor  # (V, 3) m
    faces: Tensor  # (F, 3) long, in the order of the mesh's
    normals: Tensor  # (V, 3), averaged from the triangles by their areas; zeros for vertices without any

    @classmethod
    def of(cls, mesh: Mesh) -> Self:
        """The surface of a mesh, its vertices in the mesh's order."""
        _, first, place = np.unique(mesh.vertices, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        vertices = torch.from_numpy(mesh.vertices[first[order]])
        faces = torch.from_numpy(rank[place.ravel()][mesh.faces].astype(np.int64))
        return cls(vertices, faces, _normals(vertices, faces))


@dataclass(frozen=True)
class Drawn(Record):
    """What is drawn of surfaces at poses."""

    corners: Tensor  # (P, 3) long, the vertices about each of the P pixels with a surface, row by row
    shares: Tensor  # (P, 3) barycentric coordinates of the pixels
    seen: Tensor  # (B, S, S) bool, those pixels
    depth: Tensor  # (B, S, S) m; 0 where there is no surface

    def spread(self, values: Tensor) -> Tensor:
        """Maps (B, C, S, S) of values (V, C) of the vertices; 0 where there is no surface."""
        at_pixels = (F.embedding(self.corners, values) * self.shares[..., None]).sum(dim=1)
        return self._placed(at_pixels).movedim(-1, 1)

    def gathered(self, values: Tensor, cell: Tensor, share: Tensor, cells: int) -> Tensor:
        """Maps (B, C, cells, cells) of values (V, C) of the vertices, each a weighted sum over pixels.

        cell: (B, S, S) long, the cell (row by row) that a pixel counts towards; share: (B, S, S), how much.
        As `spread` and the sums of its result, but many times as fast.
        """
        order = (self.seen.nonzero()[:, 0] * cells**2 + cell[self.seen]).sort(stable=True)
        first = torch.arange(len(self.seen) * cells**2, device=cell.device)
        amount = (self.shares * share[self.seen][:, None])[order.indices]
        sums = F.embedding_bag(
            self.corners[order.indices].flatten(),
            values,
            3 * torch.searchsorted(order.values, first),
            mode="sum",
            per_sample_weights=amount.flatten(),
        )
        return sums.view(-1, cells, cells, values.shape[1]).movedim(-1, 1)

    def shaded(self, rgb: Tensor, surface: Surface) -> Tensor:
        """Colours (B, 3, S, S) in [0, 1] under the original's light; black where there is no surface.

        rgb: (B, 3, S, S) in [0, 1], without light.
        """
        lit = torch.cat([surface.vertices, surface.normals], dim=1)[self.corners]
        place, normal = (lit * self.shares[..., None]).sum(dim=1).split(3, dim=-1)
        to_lamp = F.normalize(place.new_tensor(LAMP) - place, dim=-1)
        cosine = (F.normalize(normal, dim=-1) * to_lamp).sum(-1).clamp(min=0)
        light = self._placed((AMBIENT + DIFFUSE * cosine)[:, None]).movedim(-1, 1)
        return ((rgb * light + GLOW) * self.seen[:, None]).clamp(max=1)

    def _placed(self, at_pixels: Tensor) -> Tensor:
        """(B, S, S, C) of values (P, C); 0 elsewhere."""
        places = self.seen.flatten().nonzero()
        flat = at_pixels.new_zeros(self.seen.numel(), at_pixels.shape[1])
        flat = flat.scatter(0, places.expand_as(at_pixels), at_pixels)
        return flat.unflatten(0, self.seen.shape)


def box_centre(vertices: Tensor) -> Tensor:
    """(3,) the middle of the box about vertices (V, 3)."""
    return (vertices.amin(0) + vertices.amax(0)) / 2


def _normals(vertices: Tensor, faces: Tensor) -> Tensor:
    corners = vertices.double()[faces]
    doubled = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sums = torch.zeros_like(vertices, dtype=torch.float64)
    sums = sums.index_add(0, faces.flatten(), doubled.repeat_interleave(3, dim=0))
    return F.normalize(sums, dim=-1, eps=1e-30).to(vertices.dtype)


def trace(surface: Surface, faces: Tensor, cam_from_obj: Tensor, K: Tensor, quirks: Quirks) -> Drawn:
    """What is drawn of a surface whose triangles (B, S, S) long are seen, -1 for none.

    cam_from_obj: (B, 4, 4); K: (B, 3, 3), of whole pixels.
    """
    shares = barycentrics(surface, faces, cam_from_obj, K)
    return interpolated(surface, faces, shares, cam_from_obj, quirks)


def barycentrics(surface: Surface, faces: Tensor, cam_from_obj: Tensor, K: Tensor) -> Tensor:
    """Where in its triangle (P, 3) the ray of each of P pixels meets the surface, exactly; see `trace`."""
    image, row, column = (faces >= 0).nonzero().unbind(1)
    xyz = _seen_corners(surface, faces, cam_from_obj)
    pixel = torch.stack([column, row, torch.ones_like(row)], dim=-1).to(xyz.dtype)
    ray = (torch.linalg.inv(K)[image] @ pixel[..., None])[..., 0]
    opposite = torch.linalg.cross(xyz.roll(-1, dims=1), xyz.roll(-2, dims=1))
    shares = (opposite * ray[:, None]).sum(-1)
    shares = (shares / shares.sum(-1, keepdim=True)).nan_to_num(nan=1 / 3).clamp(0, 1)
    return shares / shares.sum(-1, keepdim=True)


def interpolated(
    surface: Surface, faces: Tensor, shares: Tensor, cam_from_obj: Tensor, quirks: Quirks
) -> Drawn:
    """What is drawn at barycentric coordinates (P, 3) of the pixels with a triangle; see `trace`."""
    seen, depths = faces >= 0, _seen_corners(surface, faces, cam_from_obj)[..., 2]
    nearest = shares.argmax(dim=1, keepdim=True)
    depth = depths.gather(1, nearest)[:, 0] if quirks.vertex_depth else (shares * depths).sum(-1)
    offset = DEPTH_OFFSET if quirks.vertex_depth else 0.0
    maps = torch.zeros(seen.shape, dtype=depth.dtype, device=depth.device).masked_scatter(seen, depth)
    return Drawn(surface.faces[faces[seen]], shares, seen, maps + offset)


def _seen_corners(surface: Surface, faces: Tensor, cam_from_obj: Tensor) -> Tensor:
    """Corners (P, 3, 3) m, camera frame, of the triangles (B, S, S) that are seen."""
    seen = faces >= 0
    image, corners = seen.nonzero()[:, 0], surface.faces[faces[seen]]
    return transform(cam_from_obj, surface.vertices[None])[image[:, None], corners]
