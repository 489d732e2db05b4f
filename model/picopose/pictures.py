"""Draws what the network answers to a pair beside what is true."""

from torch import Tensor

from picopose.model.picopose import panels
from picopose.model.picopose.network import Answer, PicoPose
from picopose.model.picopose.supervision import Truth
from picopose.utils.geometry import cell_centres
from picopose.utils.records import Pair

LINES = 40  # matches drawn
LIMIT = 8  # samples


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
    return panels.panel(
        [
            panels.match_picture(pair.real.rgb, pair.template.rgb, found, centres, right),
            panels.flow_picture(flow.offset, true_offset, seen),
            panels.certainty_picture(flow.certainty[0].sigmoid(), seen),
        ],
        size,
    )
