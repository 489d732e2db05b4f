"""Pictures of training instances, for TensorBoard: their points with boxes, and their maps."""

import cv2
import numpy as np
import torch
from torch import Tensor

from picopose.model.dualposenet.boxes import corners
from picopose.model.dualposenet.maps import CHANNEL_MEANS
from picopose.model.dualposenet.network import Estimate
from picopose.model.dualposenet.samples import Sample

LIMIT = 8  # samples
SIDE = 192  # px
MARGIN = 1.3  # half the picture, in half diagonals of the box
RED, BLUE, GREY = (235, 50, 50), (70, 110, 255), (150, 150, 150)
EDGES = [(a, a | bit) for a in range(8) for bit in (1, 2, 4) if not a & bit]


def draw(batch: Sample, estimate: Estimate, truth: Estimate) -> list[Tensor]:
    """For each of the first samples a panel (3, S, 3S).

    The points from the camera with the boxes of the truth (blue) and of the estimate (red), then the maps of
    colours and of distances, azimuths downwards.
    """
    boxes = [corners(pose).float().cpu().numpy() for pose in (truth, estimate)]
    batch = batch.to("cpu")
    return [_panel(batch[i], boxes[0][i], boxes[1][i]) for i in range(min(LIMIT, len(batch.points)))]


def _panel(sample: Sample, truth: np.ndarray, estimate: np.ndarray) -> Tensor:
    colours = sample.colours * 255 + torch.tensor(CHANNEL_MEANS)
    colours = torch.where(sample.distances > 0, colours, 0).numpy().astype(np.uint8)
    distances = sample.distances / sample.distances.max() * 255
    distances = distances.expand(-1, -1, 3).numpy().astype(np.uint8)
    maps = [cv2.resize(m, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) for m in (colours, distances)]
    panel = np.concatenate([_view(sample, truth, estimate), *maps], axis=1)
    return torch.from_numpy(panel).permute(2, 0, 1) / 255


def _view(sample: Sample, truth: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """The points as the camera sees them, from so far that they keep their proportions."""
    image = np.full((SIDE, SIDE, 3), 255, np.uint8)
    scale = SIDE / (MARGIN * sample.size.norm().item())

    def pixels(points: np.ndarray) -> np.ndarray:  # x is to the left and y up
        return np.rint(SIDE / 2 - scale * (points[:, :2] - sample.translation[:2].numpy())).astype(int)

    for pixel in pixels(sample.points.numpy()):
        cv2.circle(image, pixel.tolist(), 1, GREY, -1)
    for box, colour in ((truth, BLUE), (estimate, RED)):
        xy = pixels(box)
        for a, b in EDGES:
            cv2.line(image, xy[a].tolist(), xy[b].tolist(), colour, 1, cv2.LINE_AA)
    return image
