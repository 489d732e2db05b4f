"""Pictures of refinements in training, for TensorBoard: poses, flow and weights."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from picopose.model.flow_colours import flow_colours
from picopose.model.rnnpose.losses import true_flow
from picopose.model.rnnpose.network import Iteration, KnownObject
from picopose.model.rnnpose.samples import Sample
from picopose.rendering.overlay import draw_bounding_box

LIMIT = 8  # samples
WHITE, RED, BLUE = (255, 255, 255), (235, 50, 50), (70, 110, 255)


def draw(batch: Sample, known: KnownObject, first: Iteration, last: Iteration) -> list[Tensor]:
    """For each of the first samples a panel (3, 2S, 2S).

    Above the patch with the object's box at the first pose (white), the estimate (red) and the truth (blue),
    and the weights of the first iteration; below its flow beside the true one.
    """
    goal, valid = true_flow(first, batch.cam_from_obj, 0.0)
    return [
        _panel(batch[i], known, last.cam_from_obj[i], first.weight[i], first.flow[i], goal[i] * valid[i])
        for i in range(min(LIMIT, len(batch.patch)))
    ]


def _panel(
    sample: Sample, known: KnownObject, estimate: Tensor, weight: Tensor, flow: Tensor, goal: Tensor
) -> Tensor:
    size, longest = weight.shape[-1], goal.norm(dim=0).max().clamp(min=1).item()
    patch = F.interpolate(_boxes(sample, known, estimate)[None], (size, size), mode="area")[0]
    shown = weight.float().cpu().expand(3, -1, -1)
    above = torch.cat([patch, shown], dim=-1)
    below = torch.cat([flow_colours(flow, longest), flow_colours(goal, longest)], dim=-1)
    return torch.cat([above, below], dim=-2)


def _boxes(sample: Sample, known: KnownObject, estimate: Tensor) -> Tensor:
    """The patch (3, P, P) in [0, 1] with the object's box at three poses."""
    vertices = known.surface.vertices
    corners = vertices.amin(0).cpu().numpy(), vertices.amax(0).cpu().numpy()
    image, K = sample.patch.permute(1, 2, 0).cpu().numpy(), sample.K.cpu().numpy()
    for pose, colour in ((sample.initial, WHITE), (estimate, RED), (sample.cam_from_obj, BLUE)):
        image = draw_bounding_box(image, K, pose.cpu().numpy(), *corners, colour)
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1) / 255
