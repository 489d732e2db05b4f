"""Which view of an object a crop shows, and by which in-plane rotation.

Views and crops are compared by ImageNet features of their cells, which hardly depend on light and background.
Of each object, the descriptors of the cells that show it are kept, in half precision.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor

from picopose.model.drawn.crops import GREY, PADDING, turned
from picopose.model.object_bank import ObjectBank, tensors_digest
from picopose.model.prepared_files import PreparedFiles
from picopose.model.rendermatch.imagenet import ImageNetFeatures
from picopose.model.stage import Things
from picopose.utils.geometry import rigid, rotation_between, transform
from picopose.utils.records import Crop, Record

SIZE = 128  # px, side of the images that are compared
COVERED = 0.3  # least share of a cell that the object must cover for the cell to count as its own
VERSION = 1  # raise it whenever a change of the code changes prepared views
BATCH = 16  # views that are drawn and described at once


@dataclass(frozen=True)
class PreparedViews(Record):
    """All views of an object."""

    descriptors: Tensor  # (T, C) unit vectors, half precision: the cells that show the object, view by view
    cells: Tensor  # (V,) long: number of cells of each view
    cam_from_obj: Tensor  # (V, 4, 4) float64 m
    circle: Tensor  # (V, 3) float64: centre and diameter of the circle around the object, at depth 1


@dataclass(frozen=True)
class ViewMatches(Record):
    """The k best pairs of view and in-plane turn for each crop, best first."""

    score: Tensor  # (B, k)
    view: Tensor  # (B, k) long
    turn: Tensor  # (B, k) long: steps to turn the crop by so that it looks like the view


class ViewBank(ObjectBank[PreparedViews]):
    """Prepared views by object.

    Args:
        n_views: 42, 162 or 642.
        memory: bytes that the views in memory may take.
    """

    def __init__(
        self,
        files: PreparedFiles,
        network: ImageNetFeatures,
        things: Things,
        *,
        n_views: int,
        memory: float,
    ):
        made_with = f"{VERSION} {n_views} {tensors_digest(network.state_dict())}"
        device = next(network.parameters()).device
        super().__init__(
            *(files, things),
            what="views",
            read=_read,
            size=lambda views: views.descriptors.nbytes,
            made_with=made_with,
            memory=memory,
            device=device,
        )
        self._network, self._n_views = network, n_views

    @torch.inference_mode()
    def prepare(self, obj_id: int) -> PreparedViews:
        poses = self._source.template_poses(obj_id, self._n_views)
        circle = circles(transform(poses, self._source.hull(obj_id)))
        K = cameras_about(circle, 2 * SIZE)
        descriptors, cells = [], []
        for part in torch.arange(len(poses)).split(BATCH):
            drawing = self._source.draw([obj_id] * len(part), poses[part], K[part], 2 * SIZE).to(self._device)
            cover = drawing.cover[:, None]
            _, maps = self._network(F.avg_pool2d(drawing.rgb + GREY * (1 - cover), 2))
            shown = covered_cells(cover, maps.shape[-1])
            descriptors.append(maps.permute(0, 2, 3, 1)[shown].half())
            cells.append(shown.sum((1, 2)))
            if self._source.progress:
                self._source.progress(int(part[-1]) + 1, len(poses))
        return PreparedViews(torch.cat(descriptors), torch.cat(cells), poses, circle)


def _read(path: Path) -> PreparedViews:
    content = path.read_bytes()  # not memory-mapped: the file may be replaced while it is in use
    views = PreparedViews(**load(content))
    count = len(views.cells)
    if views.cells.sum() != len(views.descriptors) or views.cells.min() < 0:
        raise ValueError("its parts do not fit together")
    kinds = {
        "descriptors": (torch.half, 2, len(views.descriptors)),
        "cells": (torch.long, 1, count),
        "cam_from_obj": (torch.double, 3, count),
        "circle": (torch.double, 2, count),
    }
    for name, kind in kinds.items():
        part = getattr(views, name)
        if (part.dtype, part.ndim, len(part)) != kind or not part.isfinite().all():
            raise ValueError(f"its {name} are not valid")
    return views


def circles(xyz_cam: Tensor) -> Tensor:
    """Centre and diameter (B, 3) float64 of the smallest circle around points (B, N, 3), at depth 1."""
    seen = (xyz_cam[..., :2] / xyz_cam[..., 2:]).cpu().numpy()
    found = []
    for points in seen:
        middle, extent = points.mean(axis=0), np.ptp(points, axis=0).max()
        relative = ((points - middle) / extent).astype(np.float32)  # OpenCV's precision is absolute
        (x, y), radius = cv2.minEnclosingCircle(cv2.convexHull(relative))
        found.append([*(middle + extent * np.array([x, y])), 2 * radius * extent])
    return torch.tensor(np.array(found), dtype=torch.float64).reshape(-1, 3)


def cameras_about(circle: Tensor, size: int) -> Tensor:
    """Cameras (V, 3, 3) float64 of crops around circles, as `drawn.crops.crop_regions` cuts them."""
    focal = size / (PADDING * circle[:, 2])
    K = torch.eye(3, dtype=torch.float64).repeat(len(circle), 1, 1)
    K[:, 0, 0] = K[:, 1, 1] = focal
    K[:, :2, 2] = (size - 1) / 2 - focal[:, None] * circle[:, :2]
    return K


def rank(maps: Tensor, covered: Tensor, views: PreparedViews, k: int) -> ViewMatches:
    """The k best views of one object for each crop.

    A pair of view and turn scores the mean similarity of the view's cells to their best cell in the turned
    crop, plus that of the crop's cells to their best in the view.

    Args:
        maps: (B, turns, C, n, n) unit descriptors of the turned crops.
        covered: (B, turns, n, n) bool, the cells that belong to the region; at least one in each.
    """
    turns, count = maps.shape[1], len(views.cells)
    rows = views.descriptors.to(maps.dtype)
    owner = torch.arange(count, device=rows.device).repeat_interleave(views.cells)
    found = []
    for crop, mask in zip(maps, covered.flatten(2), strict=True):
        similarity = (rows @ crop.flatten(2).permute(1, 0, 2).flatten(1)).unflatten(1, (turns, -1))
        similarity = similarity.masked_fill(~mask, -1)  # (T, turns, n * n)
        of_views = torch.zeros(count, turns, dtype=rows.dtype, device=rows.device)
        of_views.index_add_(0, owner, similarity.amax(2))
        of_views /= views.cells[:, None].clamp(min=1)
        of_crop = torch.segment_reduce(similarity.flatten(1), "max", lengths=views.cells, axis=0)
        of_crop = (of_crop.view(count, turns, -1) * mask).sum(2) / mask.sum(1)
        found.append((of_views + of_crop).flatten().topk(min(k, count * turns)))
    score, index = (torch.stack([f[i] for f in found]) for i in range(2))
    return ViewMatches(score, index // turns, index % turns)


def turned_maps(network: ImageNetFeatures, crop: Crop, turns: int) -> tuple[Tensor, Tensor]:
    """The maps and covered cells that `rank` needs, of crops (B, ...) with grey outside their regions."""
    cover = crop.mask[:, None].float()
    image = F.avg_pool2d(torch.cat([crop.rgb * cover, cover], dim=1), crop.rgb.shape[-1] // SIZE)
    image = turned(image, turns).flatten(0, 1)
    cover = image[:, 3:]
    _, maps = network(image[:, :3] + GREY * (1 - cover))
    batch = (len(crop.rgb), turns)
    return maps.unflatten(0, batch), covered_cells(cover, maps.shape[-1]).unflatten(0, batch)


def covered_cells(cover: Tensor, n: int) -> Tensor:
    """Which of n x n cells (B, n, n) bool belong to an object that covers pixels by shares (B, 1, S, S)."""
    share = F.adaptive_avg_pool2d(cover, n)[:, 0]
    # An object too thin to cover any cell well gets the cell that it covers most.
    return share >= share.amax((1, 2), keepdim=True).clamp(max=COVERED)


def poses_of_views(
    view_pose: Tensor, circle: Tensor, angle: Tensor, centre: Tensor, diameter: Tensor
) -> Tensor:
    """cam_from_obj (H, 4, 4) float64 of objects that look like a view, turned and resized in the image.

    A 2D similarity transform takes the view's circle to the region's: it sets the viewing ray, the depth and
    the rotation about the ray.

    Args:
        view_pose: (H, 4, 4) cam_from_obj of the views; circle: (H, 3) as in `PreparedViews`.
        angle: (H,) by which to turn the crop so that it looks like the view.
        centre: (H, 2), diameter: (H,) of the regions' circles at depth 1.
    """
    cosine, sine, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    turn_back = torch.stack([cosine, sine, zero, -sine, cosine, zero, zero, zero, one], dim=1).view(-1, 3, 3)
    zoom = diameter / circle[:, 2]
    origin = view_pose[:, :2, 3] / view_pose[:, 2:3, 3] - circle[:, :2]
    shift = zoom[:, None] * (turn_back[:, :2, :2] @ origin[..., None])[..., 0]
    ray = F.pad(centre, (0, 1), value=1.0)
    axis = ray.new_tensor([0.0, 0.0, 1.0]).expand_as(ray)
    rotation = rotation_between(axis, F.normalize(ray, dim=1)) @ turn_back @ view_pose[:, :3, :3]
    depth = view_pose[:, 2, 3] / zoom
    return rigid(rotation, depth[:, None] * F.pad(centre + shift, (0, 1), value=1.0))
