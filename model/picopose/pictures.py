"""Draws what the network answers to a pair beside what is true."""

from torch import Tensor

from picopose.model.picopose import panels
from picopose.model.picopose.network import PicoPose
from picopose.model.picopose.validation import Answers
from picopose.utils.geometry import cell_centres
from picopose.utils.records import Pair

LINES = 40  # matches drawn
LIMIT = 8  # samples


def draw(network: PicoPose, pair: Pair, answers: Answers) -> list[Tensor]:
    """For each of the first samples a panel (3, 3S, 2S): matches, flow and certainty beside their truth."""
    return [_panel(network, pair[i], answers, i) for i in range(min(LIMIT, len(pair.real.rgb)))]


def _panel(network: PicoPose, pair: Pair, answers: Answers, i: int) -> Tensor:
    size, cells = network.size, network.backbone.cells
    coarse, fine, flow = answers.truth.positions[0], answers.truth.positions[-1], answers.flows[-1]
    visible = coarse.visible[i].nonzero()[:, 0]
    visible = visible[:: max(1, len(visible) // LINES)]
    found, true = answers.best_patch[i, visible], coarse.xy[i, visible]
    right = (found - true).abs().amax(dim=-1) <= size / cells
    centres = cell_centres(cells, size, found.device)[visible]
    side = flow.offset.shape[-1]
    true_offset = (fine.xy[i] - cell_centres(side, size, found.device)).mT.unflatten(-1, (side, side))
    seen = fine.visible[i].view(side, side)
    return panels.panel(
        [
            panels.match_picture(pair.real.rgb, pair.template.rgb, found, centres, right),
            panels.flow_picture(flow.offset[i], true_offset, seen),
            panels.certainty_picture(flow.certainty[i, 0].sigmoid(), seen),
        ],
        size,
    )
