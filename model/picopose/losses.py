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
from picopose.utils.distributed import gathered, rank, summed, world_size
from picopose.utils.geometry import cell_centres

TEMPERATURE = 0.1
FLOW_WEIGHT = 0.1
LOGITS_AT_ONCE = 2**24  # of the contrastive loss; more are computed in parts, again in the backward pass
MIN_LOG_ARGUMENT = 0.1


def mean_over_all(total: Tensor, count: Tensor) -> Tensor:
    """This process's share of sum / count over all processes; data-parallel training averages the shares."""
    return total * world_size() / summed(count.detach().to(total)).clamp(min=1)


def info_nce(real: Tensor, template: Tensor, patch: Tensor, valid: Tensor) -> Tensor:
    """Contrastive loss of matched patches, in the direction of the template search: real to template.

    Each matched patch of a photo must be most like its patch of the template among all matched patches of the
    templates of the whole batch. Others that belong to the same patch of the photo are no negatives.

    Args:
        real, template: (B, N, C) unit descriptors.
        patch: (B, N) long, the real patch of each template patch; valid: (B, N) bool, whether it has one.
    """
    batch, n = patch.shape
    samples = torch.arange(batch, device=patch.device)[:, None] + rank() * batch
    key = samples * n + patch  # which patch of which photo
    columns, column_keys = gathered(template), gathered(key)
    matched = gathered(valid.to(torch.uint8)).bool()
    columns, column_keys = columns[matched], column_keys[matched]
    rows = real.gather(1, patch[..., None].expand_as(real))[valid]
    own = (matched.flatten().cumsum(0) - 1).view_as(matched)[rank() * batch : (rank() + 1) * batch][valid]
    step = max(1, LOGITS_AT_ONCE // max(1, len(columns)))
    losses = [
        checkpoint(_cross_entropy, *part, columns, column_keys, use_reentrant=False)
        for part in zip(rows.split(step), key[valid].split(step), own.split(step), strict=True)
    ]
    return mean_over_all(sum(losses), valid.sum())


def _cross_entropy(rows: Tensor, keys: Tensor, own: Tensor, columns: Tensor, column_keys: Tensor) -> Tensor:
    logits = rows @ columns.mT / TEMPERATURE
    same = keys[:, None] == column_keys
    same = same & (own[:, None] != torch.arange(len(columns), device=own.device))
    return F.cross_entropy(logits.masked_fill(same, -torch.inf), own, reduction="sum")


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
    losses = []
    for flow, truth in zip(flows, truths, strict=True):
        side = flow.offset.shape[-1]
        error = flow_error(flow, truth, size=size).abs().sum(dim=-1) * (side / size)
        losses.append(mean_over_all((error * truth.visible).sum(), truth.visible.sum()))
    return FLOW_WEIGHT * sum(losses)


def flow_error(flow: Flow, truth: Positions, *, size: int) -> Tensor:
    """(B, s*s, 2) px from the true to the predicted positions in the real crop."""
    start = cell_centres(flow.offset.shape[-1], size, flow.offset.device).to(flow.offset.dtype)
    return start + flow.offset.flatten(2).mT - truth.xy


def certainty_loss(flows: Sequence[Flow], truths: Sequence[Positions]) -> Tensor:
    """Sum over the levels of the binary cross-entropy of visibility, averaged over the cells that know it."""
    losses = []
    for flow, truth in zip(flows, truths, strict=True):
        logits = flow.certainty.flatten(1)
        entropy = F.binary_cross_entropy_with_logits(logits, truth.visible.to(logits.dtype), reduction="none")
        losses.append(mean_over_all((entropy * truth.known).sum(), truth.known.sum()))
    return sum(losses)
