"""The training losses of the three levels (paper, Sec. 3.5), averaged over the batches of all processes.

Every mean divides by the count of the whole batch, so that a number of processes train as one would.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from picopose.model.picopose.affine import Similarity
from picopose.model.picopose.flow import Flow
from picopose.model.picopose.supervision import Positions
from picopose.utils.device import Awaited
from picopose.utils.distributed import gathered, rank, summed, world_size
from picopose.utils.geometry import cell_centres

TEMPERATURE = 0.1
FLOW_WEIGHT = 0.1
LOGITS_AT_ONCE = 2**24  # of the contrastive loss; more are computed in parts, again in the backward pass
MIN_LOG_ARGUMENT = 0.1


def mean_over_all(total: Tensor, count: Tensor) -> Tensor:
    """This process's share of sum / count over all processes, for one or more sums.

    Data-parallel training averages the shares.
    """
    return total / (summed(count.detach().to(total)).clamp(min=1) / world_size())


class MatchedPatches:
    """Which patches of templates have a patch of their photo, over all processes.

    How many there are is asked of the device at once, and waited for only when they are used: by then a GPU
    has long computed it, and has the network's work before it.

    Args:
        patch: (B, N) long, the real patch of each template patch; valid: (B, N) bool, whether it has one.
    """

    def __init__(self, patch: Tensor, valid: Tensor):
        self.patch, self.valid = patch, valid
        self._counts = Awaited(gathered(valid.sum()[None]))

    @property
    def counts(self) -> list[int]:
        """Matched patches of each process."""
        return self._counts.tolist()


def info_nce(real: Tensor, template: Tensor, matched: MatchedPatches) -> Tensor:
    """Contrastive loss of matched patches, in the direction of the template search: real to template.

    Each matched patch of a photo must be most like its patch of the template among all matched patches of the
    templates of the whole batch. Others that belong to the same patch of the photo are no negatives.

    Args:
        real, template: (B, N, C) unit descriptors.
    """
    batch, n = matched.patch.shape
    first = rank() * batch  # of this process's samples
    samples = torch.arange(first, first + batch, device=real.device)[:, None]
    key = samples * n + matched.patch  # which patch of which photo
    columns, column_keys, valid = (gathered(part) for part in (template, key, matched.valid.to(torch.uint8)))
    counts = matched.counts
    own, everyone = _places(matched.valid, counts[rank()]), _places(valid, sum(counts))
    keys, column_keys = key.flatten()[own], column_keys.flatten()[everyone]
    rows, columns = real.flatten(0, 1)[keys - first * n], columns.flatten(0, 1)[everyone]
    before = sum(counts[: rank()])
    goals = torch.arange(before, before + len(own), device=real.device)  # all matches are in one order
    step = max(1, LOGITS_AT_ONCE // max(1, len(columns)))
    losses = [
        checkpoint(_cross_entropy, *part, columns, column_keys, use_reentrant=False, preserve_rng_state=False)
        for part in zip(rows.split(step), keys.split(step), goals.split(step), strict=True)
    ]
    return mean_over_all(sum(losses), matched.valid.sum())


def _places(chosen: Tensor, count: int) -> Tensor:
    """(count,) long: the places of the flattened truth values that are true, of which there are `count`."""
    return torch.nonzero_static(chosen.flatten(), size=count)[:, 0]


def _cross_entropy(rows: Tensor, keys: Tensor, goals: Tensor, columns: Tensor, column_keys: Tensor) -> Tensor:
    logits = rows @ columns.mT / TEMPERATURE
    same = keys[:, None] == column_keys
    same.scatter_(1, goals[:, None], value=False)
    return F.cross_entropy(logits.masked_fill(same, -torch.inf), goals, reduction="sum")


def translation_loss(predicted: Similarity, true: Similarity, *, patch: float) -> Tensor:
    """L1 distance in patches of `patch` px, the mean over x and y."""
    return (predicted.translation - true.translation).abs().mean() / patch


def scale_loss(predicted: Similarity, true: Similarity) -> Tensor:
    """Squared difference of the logarithms; the regressed scale may be 0 or negative."""
    return (_log(predicted.scale) - true.scale.log()).square().mean()


def _log(x: Tensor) -> Tensor:
    """The logarithm, continued by its tangent below `MIN_LOG_ARGUMENT`, so that the gradient leads back."""
    safe = x.clamp(min=MIN_LOG_ARGUMENT)
    return safe.log() + (x - safe) / MIN_LOG_ARGUMENT


def angle_loss(predicted: Similarity, true: Similarity) -> Tensor:
    """Geodesic distance of the in-plane angles (rad)."""
    return signed_angle(predicted, true).abs().mean()


def signed_angle(predicted: Similarity, true: Similarity) -> Tensor:
    """(B,) angle in (-pi, pi] by which the prediction is turned too far."""
    (c, s), (true_c, true_s) = predicted.rotation.unbind(-1), true.rotation.unbind(-1)
    return torch.atan2(s * true_c - c * true_s, c * true_c + s * true_s)


def flow_loss(flows: Sequence[Flow], truths: Sequence[Positions], *, size: int) -> Tensor:
    """Sum over the levels of the L1 distance in cells of the level, averaged over the visible cells."""
    totals = [
        (flow_error(flow, truth, size=size) * truth.visible[..., None]).abs().sum() * _cells(flow, size)
        for flow, truth in zip(flows, truths, strict=True)
    ]
    counts = [truth.visible.sum() for truth in truths]
    return FLOW_WEIGHT * mean_over_all(torch.stack(totals), torch.stack(counts)).sum()


def _cells(flow: Flow, size: int) -> float:
    """Cells of a level in a pixel."""
    return flow.offset.shape[-1] / size


def flow_error(flow: Flow, truth: Positions, *, size: int) -> Tensor:
    """(B, s*s, 2) px from the true to the predicted positions in the real crop."""
    start = cell_centres(flow.offset.shape[-1], size, flow.offset.device).to(flow.offset.dtype)
    return start + flow.offset.flatten(2).mT - truth.xy


def certainty_loss(flows: Sequence[Flow], truths: Sequence[Positions]) -> Tensor:
    """Sum over the levels of the binary cross-entropy of visibility, averaged over the cells that know it."""
    totals = []
    for flow, truth in zip(flows, truths, strict=True):
        logits = flow.certainty.flatten(1)
        visible, known = truth.visible.to(logits.dtype), truth.known.to(logits.dtype)
        totals.append(F.binary_cross_entropy_with_logits(logits, visible, known, reduction="sum"))
    counts = [truth.known.sum() for truth in truths]
    return mean_over_all(torch.stack(totals), torch.stack(counts)).sum()
