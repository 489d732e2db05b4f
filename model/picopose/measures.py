"""How well the network answers held-out pairs, in units one can judge: pixels, degrees, shares."""

from torch import Tensor

from picopose.model.picopose.losses import flow_error, signed_angle
from picopose.model.picopose.network import Answer, PicoPose
from picopose.model.picopose.supervision import Truth
from picopose.utils.geometry import cell_centres, transform
from picopose.utils.records import Pair


def measure(
    network: PicoPose, pair: Pair, answer: Answer, best_patch: Tensor, truth: Truth
) -> dict[str, Tensor]:
    """One-dimensional values by name, to be averaged.

    best_patch: (B, n*n, 2) px, centre of the real patch most similar to each template patch.
    """
    size, cells, similarity, flow = network.size, network.backbone.cells, answer.similarity, answer.flows[-1]
    coarse, fine = truth.positions[0], truth.positions[-1]
    start = transform(similarity.matrix(pair.template), cell_centres(cells, size, coarse.xy.device))
    off = (best_patch - coarse.xy).abs().amax(dim=-1)
    certain = flow.certainty.flatten(1) > 0
    return {
        # Share of visible template cells whose most similar real patch is right to a cell.
        "patches_matched": (off <= size / cells)[coarse.visible].to(off.dtype),
        "translation_px": (similarity.translation - truth.similarity.translation).norm(dim=-1),
        "scale_log": (similarity.scale.clamp(min=1e-3).log() - truth.similarity.scale.log()).abs(),
        "angle_deg": signed_angle(similarity, truth.similarity).abs().rad2deg(),
        # Errors of the positions that affine implies, and of the finest flow.
        "start_px": (start - coarse.xy).norm(dim=-1)[coarse.visible],
        "flow_px": flow_error(flow, fine, size=size).norm(dim=-1)[fine.visible],
        # Share of cells.
        "certainty_right": (certain == fine.visible)[fine.known].to(off.dtype),
    }
