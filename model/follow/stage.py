"""Follows objects: poses that are nearly right are fitted to a photo by texture and contour, and judged.

Each object is drawn once, at its expected pose. XFeat's matches between drawing and photo, and the colours
along the drawn contour, together give the pose; the same matches also give its confidence.
"""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch

from picopose.model.confidence import Calibration, evidence_of, read_calibration
from picopose.model.drawn.matcher import REACH, SIZE, Matcher, Query, load_matcher
from picopose.model.drawn.solving import THRESHOLD, draw, inliers_of, some_matches
from picopose.model.follow.contour import RIM, contour_of, foreground
from picopose.model.follow.fit import Measurements, agreement, fit
from picopose.model.stage import Setup, Stage, check_poses
from picopose.utils.geometry import cell_centres, transform
from picopose.utils.records import Correspondences, Drawing, Estimates, Frame
from picopose.utils.stopwatch import Stopwatch

BY_CHANCE = 0.35  # largest share of a contour that agrees by chance with a photo without the object
CELL = 17  # px of the crop: side of the square whose texture locates a match
FAINT = 0.01  # gradient of brightness (in [0, 1], per px) at which a match gets half its weight
UNSURE = 5  # px of the crop around an object in front that may be hidden too
FLOOR = 0.3  # least weight of a match without texture: descriptors see further than `CELL`


class Follow(Stage):
    """Refines and judges poses that are off by as much as an object moves between frames."""

    def __init__(self, matcher: Matcher, calibration: Calibration, *, stopwatch: Stopwatch | None = None):
        self.matcher, self.calibration = matcher, calibration
        self.stopwatch = stopwatch or Stopwatch(running=False)

    def prepare_object(self, obj_id: int) -> None:
        self.things.drawings.hull(obj_id)

    @torch.inference_mode()
    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        device = self.matcher.device
        frame, found = frame.to(device), found.to(device)
        if len(found) == 0:
            return found
        check_poses(found, "follow")
        with self.stopwatch("crop"):
            detections, owner = found.by_group()
            query = self.matcher.look_at(frame, detections.mask)
        with self.stopwatch("render"):
            drawn = draw(self.things.drawings, found, query.crop.K[owner]).to(device)
        with self.stopwatch("match"):
            matches = self.matcher.match(query, owner, drawn, reach=REACH)
        with self.stopwatch("fit"):
            # Rows of one object are hypotheses about it, and do not hide one another.
            whose = found.group if found.track is None else found.track
            poses, support = _fitted(frame, query, owner, drawn, matches, whose.tolist())
        with self.stopwatch("judge"):
            return self._judged(
                replace(found, cam_from_obj=poses, support=support), frame, query, owner, drawn, matches
            )

    def _judged(
        self,
        found: Estimates,
        frame: Frame,
        query: Query,
        owner: torch.Tensor,
        drawn: Drawing,
        matches: Correspondences,
    ) -> Estimates:
        hulls = [self.things.drawings.hull(obj_id).to(frame.K.device) for obj_id in found.obj_id.tolist()]
        evidence = evidence_of(found, query, owner, drawn, matches, hulls, frame.K)
        texture = self.calibration(evidence, query.regions.is_box[owner])
        K = query.crop.K[owner]
        inliers, share = inliers_of(matches, found.cam_from_obj, K, THRESHOLD)
        return replace(
            found,
            cam_from_obj=found.cam_from_obj.float(),
            inlier_ratio=share,
            matches=some_matches(matches, inliers, found.cam_from_obj, K, frame.K),
            confidence=_either(texture, found.support),
        )


def _fitted(
    frame: Frame,
    query: Query,
    owner: torch.Tensor,
    drawn: Drawing,
    matches: Correspondences,
    whose: list[int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses (N, 4, 4) float64, and the share (N,) of their contours that agrees with the photo.

    whose: a number for each row's object, equal for the same one.
    """
    inside = _inside_photo(query, frame)
    depths = drawn.depth.cpu().numpy()
    poses, shares = [], []
    for row, place in enumerate(owner.tolist()):
        rgb = query.crop.rgb[place].permute(1, 2, 0).cpu().numpy()
        others = [i for i, one in enumerate(whose) if one != whose[row]]
        visible = inside[place] & ~hidden(depths, drawn.K.double().cpu().numpy(), row, others)
        seen = _measurements(rgb, visible, drawn[row], matches[row])
        poses.append(fit(seen, drawn.cam_from_obj[row].double().cpu().numpy()))
        shares.append(agreement(seen, poses[-1]))
    return torch.from_numpy(np.stack(poses)).to(frame.K.device), torch.tensor(shares, device=frame.K.device)


def _measurements(
    rgb: np.ndarray, visible: np.ndarray, drawn: Drawing, matches: Correspondences
) -> Measurements:
    """What a crop (S, S, 3) shows of an object; visible (S, S) bool: within the photo and not hidden."""
    mask, depth = drawn.mask.cpu().numpy(), drawn.depth.cpu().double().numpy()
    K, pose = drawn.K.double().cpu().numpy(), drawn.cam_from_obj.double().cpu().numpy()
    contour = contour_of(mask, depth, visible)
    rays = np.column_stack([contour.xy, np.ones(len(contour.xy))]) @ np.linalg.inv(K).T
    rim = (rays * contour.depth[:, None] - pose[:3, 3]) @ pose[:3, :3]
    weight, xy = matches.weight.cpu().double().numpy(), matches.xy.cpu().double().numpy()
    x, y = np.clip(np.round(xy).astype(int), 0, SIZE - 1).T
    some = (weight > 0) & visible[y, x]
    return Measurements(
        K,
        xy[some],
        matches.xyz.cpu().double().numpy()[some],
        weight[some, None, None] * _placed(rgb, xy[some]),
        rim,
        contour.normal,
        foreground(rgb, mask, visible),
    )


def _either(texture: torch.Tensor, agreement: torch.Tensor) -> torch.Tensor:
    """The probability (N,) that a pose is right, for which texture or contour alone is enough.

    texture (N,): probability by the matches; agreement (N,): share of the contour that agrees.
    """
    contour = ((agreement.to(texture) - BY_CHANCE) / (1 - BY_CHANCE)).clamp(0, 1)
    return 1 - (1 - texture) * (1 - contour)


def hidden(depths: np.ndarray, K: np.ndarray, row: int, others: Sequence[int]) -> np.ndarray:
    """Where in its crop a row's object may be hidden by those of other rows: (S, S) bool.

    depths (N, S, S) m of the objects in their crops, 0 beside them; K (N, 3, 3) of the crops.
    """
    own, covered = depths[row], np.zeros(depths[row].shape, bool)
    if not own.any():
        return covered
    reaches_to = np.where(own > 0, own, np.median(own[own > 0]))
    for other in others:
        crop_from_other = (K[row] @ np.linalg.inv(K[other]))[:2]
        there = cv2.warpAffine(depths[other], crop_from_other, own.shape, flags=cv2.INTER_NEAREST)
        covered |= (there > 0) & (there < reaches_to)
    return cv2.dilate(covered.astype(np.uint8), np.ones((2 * UNSURE + 1,) * 2, np.uint8)) > 0


def _placed(rgb: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """How well the image (S, S, 3) locates points (M, 2) px along x and y: (M, 2, 2) weights of at most 1.

    By the structure tensor: a point on an edge can slide along it, and one without texture is not located.
    """
    grey = cv2.GaussianBlur(rgb.mean(axis=2).astype(np.float32), (0, 0), 1.0)
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)
    tensor = np.stack([dx * dx, dx * dy, dx * dy, dy * dy], axis=-1)
    tensor = cv2.boxFilter(tensor, -1, (CELL, CELL))
    x, y = np.clip(np.round(xy).astype(int), 0, len(rgb) - 1).T
    tensor = tensor[y, x].reshape(-1, 2, 2).astype(np.float64)
    values, vectors = np.linalg.eigh(tensor)
    share = values / (values + FAINT**2)
    return (vectors * np.maximum(share, FLOOR)[:, None]) @ vectors.transpose(0, 2, 1)


def _inside_photo(query: Query, frame: Frame) -> np.ndarray:
    """(B, S, S) bool: which pixels of the crops lie within the photo, without its rim."""
    height, width = frame.rgb.shape[1:]
    photo_from_crop = frame.K @ torch.linalg.inv(query.crop.K)
    xy = transform(
        photo_from_crop, cell_centres(SIZE, SIZE, frame.K.device).expand(len(query.crop.K), -1, -1)
    )
    limit = xy.new_tensor([width, height]) - 1 - RIM
    return ((xy >= RIM) & (xy <= limit)).all(-1).view(-1, SIZE, SIZE).cpu().numpy()


def make_stage(setup: Setup) -> Follow:
    return Follow(load_matcher(setup), read_calibration(), stopwatch=setup.stopwatch)
