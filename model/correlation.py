"""RAFT's correlation lookup (Teed and Deng, 2020).

For large maps only the correlations that are read are computed, without the all-pairs volume.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Most cells for which one matrix product of all pairs is faster than gathering the pairs that are read: it
# does 114 times the arithmetic at 64 x 64 cells, but reads each cell once; see docs/performance.md.
ALL_PAIRS = 4096
PAIRS_AT_ONCE = 2**27  # of a batch, half a GB in single precision; more are computed in parts


def lookup(template: Tensor, real: Tensor, positions: Tensor, *, radius: int, scales: int) -> Tensor:
    """Correlation of each template cell with the real map in windows about its current position.

    Args:
        template, real: (B, C, n, n) feature maps.
        positions: (B, 2, n, n) where each template cell lies in the real map: (x, y) in cell indices.
        radius: of the window, whose side is w = 2 radius + 1 cells.
        scales: number of maps read: the real map and its repeatedly 2x2-averaged copies.

    Returns:
        (B, scales * w * w, n, n): per scale the window row-major; bilinear, 0 outside the map, divided by
        sqrt(C). Averaging commutes with the dot product, so this equals pooling an all-pairs volume.
    """
    features = (template / template.shape[1] ** 0.5).flatten(2).mT  # (B, N, C)
    xy = positions.flatten(2).mT  # (B, N, 2)
    windows = []
    for scale in range(scales):
        pooled = F.avg_pool2d(real, 2**scale) if scale else real
        windows.append(_window(features, pooled, xy / 2**scale, radius))
    return torch.cat(windows, dim=1).unflatten(-1, positions.shape[-2:])


def _window(features: Tensor, real: Tensor, xy: Tensor, radius: int) -> Tensor:
    """(B, w*w, N) correlations about xy (B, N, 2).

    All cells of a window share their fractional offset, so the (w + 1)^2 whole cells around it are
    correlated first and then blended, four neighbours at a time.
    """
    height, width = real.shape[-2:]
    corner = xy.floor()
    fraction = (xy - corner).mT[:, :, None, None, :]  # (B, 2, 1, 1, N)
    reach = torch.arange(-radius, radius + 2, device=xy.device)
    dy, dx = torch.meshgrid(reach, reach, indexing="ij")
    x, y = corner[..., :1] + dx.flatten(), corner[..., 1:] + dy.flatten()  # (B, N, (w+1)^2)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    # NaN positions give NaN results, but no index outside of the map.
    index = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).nan_to_num().long()
    whole = (_correlate(features, real.flatten(2), index) * inside).mT
    side = 2 * radius + 2
    whole = whole.unflatten(1, (side, side))  # (B, w+1, w+1, N), rows then columns
    across = whole[:, :, :-1] * (1 - fraction[:, 0]) + whole[:, :, 1:] * fraction[:, 0]
    blended = across[:, :-1] * (1 - fraction[:, 1]) + across[:, 1:] * fraction[:, 1]
    return blended.flatten(1, 2)


def _correlate(features: Tensor, real: Tensor, index: Tensor) -> Tensor:
    """Dot products (B, N, K) of features (B, N, C) with the columns index (B, N, K) of real (B, C, M)."""
    if real.shape[2] <= ALL_PAIRS:
        return _of_all_pairs(features, real, index)
    rows = real.mT.contiguous()
    columns = index.unbind(2)
    neighbours = (rows.gather(1, column[..., None].expand(-1, -1, rows.shape[2])) for column in columns)
    return torch.stack([(features * neighbour).sum(-1) for neighbour in neighbours], dim=2)


def _of_all_pairs(features: Tensor, real: Tensor, index: Tensor) -> Tensor:
    """The same, by the products of all pairs, of which memory never holds more than `PAIRS_AT_ONCE`.

    So the parts of a large batch are computed again in the backward pass.
    """
    batch, cells = features.shape[:2]
    pairs = cells * real.shape[2]
    if batch * pairs <= PAIRS_AT_ONCE:
        return _read(features, real, index)
    parts = [tensor.split(max(1, PAIRS_AT_ONCE // pairs)) for tensor in (features, real, index)]
    options = {"use_reentrant": False, "preserve_rng_state": False}
    return torch.cat([checkpoint(_read, *part, **options) for part in zip(*parts, strict=True)])


def _read(features: Tensor, real: Tensor, index: Tensor) -> Tensor:
    return (features @ real).gather(2, index)
