"""How likely a pose is to be right, whatever method found it: the object is drawn and matched to the photo.

The matches give a few numbers for each pose, its evidence. A logistic regression, one for masks and one for
boxes, turns them into the probability that the pose is right: that its ADD, or ADD-S for a symmetric object,
is below a tenth of the diameter. `python -m benchmarks.confidence` fits and checks it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from picopose.model.drawn.cells import half_covered
from picopose.model.drawn.matcher import REACH, SIZE, Matcher, Query, load_matcher
from picopose.model.drawn.solving import draw
from picopose.model.drawn.xfeat import STRIDE
from picopose.model.logistic import Logistic
from picopose.model.stage import Setup, Stage, check_poses
from picopose.utils.errors import InputError
from picopose.utils.geometry import cross_matrix, project, transform
from picopose.utils.home import ROOT
from picopose.utils.masks import boxes_of
from picopose.utils.reading import read_json
from picopose.utils.records import Correspondences, Drawing, Estimates, Frame, Record
from picopose.utils.stopwatch import Stopwatch

CALIBRATION = ROOT / "data" / "weights" / "confidence.json"
NEAR = 10.0  # px of the crop: matches with a smaller error support a pose
# A few matches agree by chance, so the noise is estimated as if there were six more, 3 px off.
PRIOR_PX, PRIOR_COUNT = 3.0, 6
MAX_ERROR = 10.0  # diameters: larger errors are not distinguished


@dataclass(frozen=True)
class Evidence(Record):
    """Evidence that B poses are right: one number (B,) of each kind."""

    matched: Tensor  # share of the drawn object's cells with a match that is near
    log_error: Tensor  # logarithm of the pose error, in diameters, to expect from the noise of the matches
    mask_iou: Tensor  # of region and silhouette
    box_iou: Tensor  # of the region's box and the silhouette's

    def table(self) -> Tensor:
        """(B, F), a column for each field; a pose whose numbers are not finite gets the worst evidence."""
        table = torch.stack(list(vars(self).values()), dim=1)
        worst = table.new_tensor([0.0, math.log(MAX_ERROR), 0.0, 0.0])
        return torch.where(table.isfinite().all(1, keepdim=True), table, worst)


@dataclass(frozen=True)
class Calibration:
    """How evidence is weighed: differently for boxes, which show background too, than for masks."""

    mask: Logistic
    box: Logistic

    def __call__(self, evidence: Evidence, is_box: Tensor) -> Tensor:
        """The probability (B,) that poses are right; `is_box` (B,) bool: whether their regions are boxes."""
        return torch.where(is_box, self.box(evidence), self.mask(evidence))


def read_calibration(path: Path = CALIBRATION) -> Calibration:
    """The file that `benchmarks.confidence` writes; an `InputError` for any other content."""
    remedy = "write it again with python -m benchmarks.confidence fit"
    table = read_json(path, remedy=remedy)
    names = list(Evidence.__dataclass_fields__)
    try:
        return Calibration(**{kind: Logistic.of(table[kind], names) for kind in ("mask", "box")})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no calibration of confidences ({error!r}): {remedy}") from None


class Confidence(Stage):
    """Gives poses their confidence; without meshes to draw it leaves them without."""

    def __init__(self, matcher: Matcher, calibration: Calibration, *, stopwatch: Stopwatch | None = None):
        self.matcher, self.calibration = matcher, calibration
        self.stopwatch = stopwatch or Stopwatch(running=False)

    def prepare_object(self, obj_id: int) -> None:
        if self.things.drawings is not None:
            self.things.drawings.hull(obj_id)

    @torch.inference_mode()
    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        if len(found) == 0 or self.things.drawings is None:
            return found
        check_poses(found, "confidence")
        with self.stopwatch("judge"):
            evidence, is_box = self.evidence(frame, found)
            return replace(found, confidence=self.calibration(evidence, is_box))

    @torch.inference_mode()
    def evidence(self, frame: Frame, found: Estimates) -> tuple[Evidence, Tensor]:
        """The evidence for each pose, and whether its region is a box (N,) bool."""
        device = self.matcher.device
        frame, found = frame.to(device), found.to(device)
        detections, owner = found.by_group()
        query = self.matcher.look_at(frame, detections.mask)
        drawn = draw(self.things.drawings, found, query.crop.K[owner]).to(device)
        matches = self.matcher.match(query, owner, drawn, reach=REACH)
        hulls = [self.things.drawings.hull(obj_id).to(device) for obj_id in found.obj_id.tolist()]
        evidence = evidence_of(found, query, owner, drawn, matches, hulls, frame.K)
        return evidence, query.regions.is_box[owner]


def evidence_of(
    found: Estimates,
    query: Query,
    owner: Tensor,
    drawn: Drawing,
    matches: Correspondences,
    hulls: Sequence[Tensor],
    photo_K: Tensor,
) -> Evidence:
    """The evidence from matches (B, ...) between drawings and regions `owner` (B,) of a photo.

    hulls: (N, 3) m of each object; photo_K (3, 3).
    """
    pose, K = found.cam_from_obj.double(), query.crop.K[owner].double()
    hulls = [transform(p, hull) for p, hull in zip(pose, hulls, strict=True)]
    residual, near = _residuals(matches, pose, K)
    cells = half_covered(drawn.mask, SIZE // STRIDE).sum((1, 2))
    spread = _spread(matches, residual, near, pose, K)
    errors = [_expected_error(*one) for one in zip(spread, pose[:, :3, 3], hulls, strict=True)]
    return Evidence(
        matched=near.sum(1) / cells.clamp(min=1),
        log_error=torch.stack(errors).clamp(max=MAX_ERROR).log().float(),
        mask_iou=_iou(query.crop.mask[owner], drawn.mask),
        box_iou=_box_iou(boxes_of(found.mask), _outer_boxes(hulls, photo_K)),
    )


def make_stage(setup: Setup) -> Confidence:
    return Confidence(load_matcher(setup), read_calibration(), stopwatch=setup.stopwatch)


def _residuals(matches: Correspondences, pose: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """Matches minus their projected points (B, N, 2) px at poses (B, 4, 4), and which of them are near."""
    xyz = transform(pose, matches.xyz.double())
    residual = matches.xy - project(K, xyz)
    near = (matches.weight > 0) & (xyz[..., 2] > 0) & (residual.norm(dim=-1) < NEAR)
    return residual, near


def _spread(matches: Correspondences, residual: Tensor, near: Tensor, pose: Tensor, K: Tensor) -> Tensor:
    """Covariances (B, 6, 6) of the poses: of a shift (m) and a turn (rad) about the object's origin.

    By error propagation (Hartley and Zisserman, 5.1): the noise of the near matches through the inverse of
    their normal equations.
    """
    arm = matches.xyz.double() @ pose[:, :3, :3].mT  # from the origin, camera's axes
    x, y, z = (arm + pose[:, None, :3, 3]).clamp(min=-1e9).unbind(-1)
    z = torch.where(near, z, 1.0)
    zero, (fx, fy) = torch.zeros_like(z), (K[:, i, i, None] for i in range(2))
    by_point = torch.stack([fx / z, zero, -fx * x / z**2, zero, fy / z, -fy * y / z**2], dim=-1)
    by_point = by_point.unflatten(-1, (2, 3)) * near[..., None, None]
    by_pose = by_point @ _by_motion(arm)  # (B, N, 2, 6)
    normal = (by_pose.mT @ by_pose).sum(1)
    squares = (residual.square().sum(-1) * near).sum(1) + PRIOR_COUNT * PRIOR_PX**2
    variance = squares / (2 * near.sum(1).clamp(min=1))
    # The ridge bounds motions that the matches do not determine.
    ridge = 1e-9 * normal.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-3)
    eye = torch.eye(6, dtype=normal.dtype, device=normal.device)
    return variance[:, None, None] * torch.linalg.inv(normal + ridge[:, None, None] * eye)


def _by_motion(arm: Tensor) -> Tensor:
    """Derivatives (..., 3, 6) of points (..., 3) by a shift and by a turn about the origin."""
    turn = -cross_matrix(arm)
    return torch.cat([torch.eye(3, dtype=arm.dtype, device=arm.device).expand_as(turn), turn], dim=-1)


def _expected_error(covariance: Tensor, origin: Tensor, hull: Tensor) -> Tensor:
    """Expected root mean square error of the points of a hull (N, 3) m, in diameters.

    covariance (6, 6) of the pose, origin (3,) m of the object.
    """
    motion = _by_motion(hull - origin)
    squares = torch.einsum("nij,jk,nik->n", motion, covariance, motion).mean()
    radius = (hull - hull.mean(0)).norm(dim=1).amax()
    return squares.clamp(min=0).sqrt() / (2 * radius)


def _outer_boxes(hulls: list[Tensor], K: Tensor) -> Tensor:
    """(B, 4) px of the photo: the boxes around silhouettes; empty for objects behind the camera.

    hulls: (N, 3) m, camera's axes; K (3, 3) of the photo.
    """
    boxes = []
    for xyz in hulls:
        xy = project(K.double(), torch.cat([xyz[:, :2], xyz[:, 2:].clamp(min=1e-9)], dim=1))
        box = torch.cat([xy.amin(0), xy.amax(0)])
        boxes.append(box if (xyz[:, 2] > 0).all() else torch.zeros_like(box))
    # Boxes of masks count from the edges of pixels, projections from their centres: half a pixel apart.
    return torch.stack(boxes).float() + 0.5


def _iou(first: Tensor, second: Tensor) -> Tensor:
    """(B,) of masks (B, S, S) bool."""
    return (first & second).sum((1, 2)) / (first | second).sum((1, 2)).clamp(min=1)


def _box_iou(first: Tensor, second: Tensor) -> Tensor:
    """(B,) of boxes (B, 4): left, top, right, bottom."""
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    both = (high - low).clamp(min=0).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).prod(1) for box in (first, second)]
    return both / (areas[0] + areas[1] - both).clamp(min=1e-6)
