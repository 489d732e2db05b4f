"""An object drawn at a pose and compared with the photo: what is where, through one camera for both."""

from dataclasses import dataclass

import torch
from torch import Tensor

from picopose.model.drawn.crops import PADDING, Regions, crop_regions
from picopose.model.picopose.flow import Flow, correspondences, floored
from picopose.model.picopose.network import PicoPose
from picopose.model.stage import Drawings
from picopose.utils.geometry import project, transform
from picopose.utils.records import Correspondences, Drawing, Estimates, Frame, Record

WIDTH = 1.2  # side of the crops, in sizes of the drawn object: what is off shall still be within
SMALLEST, LARGEST = 4.0, 20_000.0  # px of the photo, of the drawn object


@dataclass(frozen=True)
class Comparison(Record):
    """What drawings at B poses have to do with a photo."""

    matches: (
        Correspondences  # of the drawings' cells, N; weight: certainty where the drawing shows the object
    )
    drawn: Drawing  # its camera is the crop's too


def compare(
    network: PicoPose, frame: Frame, found: Estimates, drawings: Drawings, *, bf16: bool = False
) -> Comparison:
    """Estimates at their poses compared with a photo; a pose must show the object, see `is_shown`.

    Masks play no part: what a detector draws wrong would pull at the pose. The photo shows its edges itself.
    """
    regions = windows(found, drawings, frame.K)
    crop = crop_regions(frame.rgb, found.mask, frame.K, regions, network.size)
    drawn = drawings.draw(found.obj_id.tolist(), found.cam_from_obj, crop.K, network.size).to(crop.rgb.device)
    flow = flows(network, crop.rgb, drawn.rgb, drawn.mask, bf16=bf16)[-1]
    zoom = crop.K[:, 0, 0] / frame.K[0, 0]
    rounding = floored(zoom, zoom) if network.floored else None
    return Comparison(correspondences(flow, drawn, rounding), drawn)


def flows(network: PicoPose, photo: Tensor, drawn: Tensor, mask: Tensor, *, bf16: bool = False) -> list[Flow]:
    """The flow after each level, coarse to fine; it starts from "the drawing is right".

    photo, drawn: (B, 3, S, S) in [0, 1]; mask: (B, S, S) bool, the object in the drawings.
    """
    maps = network.features(torch.cat([photo, drawn]), bf16=bf16)
    real, template = zip(*(m.chunk(2) for m in maps), strict=True)
    start = torch.eye(3, device=photo.device).expand(len(photo), -1, -1)
    return list(network.flow(network.dense(real), network.template_maps(template), mask, start))


def windows(found: Estimates, drawings: Drawings, K: Tensor) -> Regions:
    """What of the photo, whose camera is K (3, 3), is compared with estimates."""
    boxes = torch.stack([_outer_box(*one, drawings, K) for one in _poses(found)])
    low, high = boxes.float().to(K.device).split(2, dim=1)
    is_box = torch.zeros(len(boxes), dtype=torch.bool, device=K.device)
    return Regions((low + high) / 2, WIDTH / PADDING * (high - low).amax(1), is_box)


def is_shown(found: Estimates, drawings: Drawings, K: Tensor) -> Tensor:
    """(B,) bool: whether poses are finite, before the camera, and as large as can be drawn."""
    shown = []
    for obj_id, pose in _poses(found):
        xyz = transform(pose, drawings.hull(obj_id))
        ahead = bool(pose.isfinite().all()) and bool((xyz[:, 2] > 0).all())
        box = _outer_box(obj_id, pose, drawings, K) if ahead else torch.zeros(4)
        shown.append(ahead and SMALLEST <= float((box[2:] - box[:2]).amax()) <= LARGEST)
    return torch.tensor(shown, device=found.obj_id.device)


def _poses(found: Estimates) -> list[tuple[int, Tensor]]:
    return list(zip(found.obj_id.tolist(), found.cam_from_obj.double().cpu(), strict=True))


def _outer_box(obj_id: int, cam_from_obj: Tensor, drawings: Drawings, K: Tensor) -> Tensor:
    """(4,) px of the photo: the box about an object at a pose (4, 4)."""
    xy = project(K.double().cpu(), transform(cam_from_obj, drawings.hull(obj_id)))
    return torch.cat([xy.amin(0), xy.amax(0)])
