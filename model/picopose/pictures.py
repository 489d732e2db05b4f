"""Pictures of the network's answers beside the truth, for TensorBoard."""

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from picopose.model.flow_colours import flow_colours
from picopose.model.picopose.network import Answer, PicoPose
from picopose.model.picopose.supervision import Truth
from picopose.utils.geometry import cell_centres
from picopose.utils.records import Pair

LINES = 40  # matches drawn
LIMIT = 8  # samples
GREEN, RED = (0.2, 0.9, 0.3), (0.95, 0.25, 0.2)


def draw(network: PicoPose, pair: Pair, answer: Answer, best_patch: Tensor, truth: Truth) -> list[Tensor]:
    """For each of the first samples a panel (3, 3S, 2S): matches, flow and certainty beside their truth.

    best_patch: (B, n*n, 2) px, centre of the real patch most similar to each template patch.
    """
    count = min(LIMIT, len(pair.real.rgb))
    return [_panel(network, pair[i], answer[i], best_patch[i], truth[i]) for i in range(count)]


def _panel(network: PicoPose, pair: Pair, answer: Answer, best_patch: Tensor, truth: Truth) -> Tensor:
    size, cells = network.size, network.backbone.cells
    coarse, fine, flow = truth.positions[0], truth.positions[-1], answer.flows[-1]
    visible = coarse.visible.nonzero()[:, 0]
    visible = visible[:: max(1, len(visible) // LINES)]
    found, true = best_patch[visible], coarse.xy[visible]
    right = (found - true).abs().amax(dim=-1) <= size / cells
    centres = cell_centres(cells, size, found.device)[visible]
    side = flow.offset.shape[-1]
    true_offset = (fine.xy - cell_centres(side, size, found.device)).mT.unflatten(-1, (side, side))
    seen = fine.visible.view(side, side)
    return _stacked(
        [
            _matches(pair.real.rgb, pair.template.rgb, found, centres, right),
            _flow(flow.offset, true_offset, seen),
            _certainty(flow.certainty[0].sigmoid(), seen),
        ],
        size,
    )


def _matches(real: Tensor, template: Tensor, real_xy: Tensor, template_xy: Tensor, right: Tensor) -> Tensor:
    """The template beside the photo (both (3, S, S)), matched pixels (N, 2) joined, right ones green."""
    canvas = torch.cat([template, real], dim=-1).permute(1, 2, 0).cpu().numpy().copy()
    shift = template.shape[-1]
    for start, end, good in zip(template_xy.tolist(), real_xy.tolist(), right.tolist(), strict=True):
        ends = [(round(x + dx), round(y)) for (x, y), dx in ((start, 0), (end, shift))]
        cv2.line(canvas, *ends, GREEN if good else RED, 1, cv2.LINE_AA)
    return torch.from_numpy(canvas).permute(2, 0, 1)


def _flow(offset: Tensor, true_offset: Tensor, valid: Tensor) -> Tensor:
    """Flow beside the true flow (both (2, s, s) px): hue is the direction, saturation the length.

    Cells of which no truth is known (valid (s, s) bool) are dark in the true one.
    """
    longest = true_offset.norm(dim=0)[valid].max().clamp(min=1).item() if valid.any() else 1.0
    return torch.cat(
        [flow_colours(offset, longest), flow_colours(true_offset, longest) * valid.cpu()], dim=-1
    )


def _certainty(certainty: Tensor, visible: Tensor) -> Tensor:
    """Certainty (s, s) in [0, 1] beside the true visibility (s, s) bool."""
    return torch.cat([certainty.float(), visible.float()], dim=-1).cpu().expand(3, -1, -1)


def _stacked(pictures: list[Tensor], height: int) -> Tensor:
    """Pictures one above the other, each as wide as two squares of `height` px."""
    return torch.cat([F.interpolate(p[None].float(), size=(height, 2 * height))[0] for p in pictures], dim=-2)
