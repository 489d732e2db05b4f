"""Matches cells of a crop to points of the surface in a drawing, by XFeat's descriptors of both."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from picopose.model.drawn.xfeat import STRIDE
from picopose.utils.geometry import cell_centres, invert, sample_depth, transform, unproject
from picopose.utils.records import Correspondences, View

COVERED = 0.5  # a cell is matched if the object covers more than this share of it


def match(
    crop: Tensor, crop_cells: Tensor, rendered: Tensor, view: View, rows: Tensor, *, reach: int
) -> Correspondences:
    """Correspondences between crops and renderings with the same camera, one for each of the `rows`.

    Two cells match if each is the other's most similar; the weight is their cosine. The peak among the
    neighbouring cells of the crop is found by parabolas.

    Args:
        crop, rendered: (H, C, n, n) unit descriptors.
        crop_cells: (H, n, n) bool, the cells of the crop that may be matched.
        view: (H, ...) the renderings; rows: (H, T) long, the cells of theirs to match, see `drawn_cells`.
        reach: how many cells apart the two cells of a match may lie, horizontally and vertically.
    """
    n = crop.shape[-1]
    shown = half_covered(view.mask, n).flatten(1).gather(1, rows)  # not the cells that fill up the rows
    chosen = rendered.flatten(2).gather(2, rows[:, None].expand(-1, rendered.shape[1], -1))
    similarity = chosen.mT @ crop.flatten(2)  # (H, T, n * n)
    allowed = shown[..., None] & crop_cells.flatten(1)[:, None] & _within(n, reach, rows.device)[rows]
    candidates = similarity.masked_fill(~allowed, -1)
    best, column = candidates.max(2)
    mutual = candidates.argmax(1).gather(1, column) == torch.arange(rows.shape[1], device=rows.device)
    xy = cell_centres(n, n * STRIDE, rows.device)
    found = xy[column] + STRIDE * _peak(similarity, column, n)
    cells = xy[rows]
    depth = sample_depth(view.depth, cells)
    xyz = transform(invert(view.cam_from_obj), unproject(view.K, cells, depth))
    return Correspondences(xy=found, xyz=xyz, weight=best.clamp(min=0) * (mutual & (depth > 0)))


def cells_of(mask: Tensor, n: int) -> Tensor:
    """Cells (B, n, n) bool that masks (B, S, S) bool cover by a half; all of them if there is none."""
    covered = half_covered(mask, n)
    return covered | ~covered.any(1).any(1)[:, None, None]


def drawn_cells(mask: Tensor, n: int) -> Tensor:
    """Indices (H, T) of the cells, of n x n, that masks (H, S, S) bool cover by a half.

    T is the largest number in a row; shorter rows are filled up with other cells.
    """
    drawn = half_covered(mask, n).flatten(1)
    most = max(1, int(drawn.sum(1).max()))
    return drawn.byte().argsort(dim=1, descending=True, stable=True)[:, :most]


def half_covered(mask: Tensor, n: int) -> Tensor:
    """Which of n x n cells (B, n, n) bool the masks (B, S, S) bool cover by a half."""
    return _share(mask, n) > COVERED


def _share(mask: Tensor, n: int) -> Tensor:
    return F.adaptive_avg_pool2d(mask[:, None].float(), n)[:, 0]


@functools.lru_cache(maxsize=8)
def _within(n: int, reach: int, device: torch.device) -> Tensor:
    """(n * n, n * n) bool: which cells of a grid lie within reach of one another."""
    xy = cell_centres(n, n, device)
    return (xy[:, None] - xy[None]).abs().amax(-1) <= reach


def _peak(similarity: Tensor, column: Tensor, n: int) -> Tensor:
    """Offsets (H, T, 2) in cells, from -1/2 to 1/2, of the peaks of similarity from the chosen columns."""
    x, y = column % n, column // n

    def at(dx: int, dy: int) -> Tensor:
        index = (y + dy).clamp(0, n - 1) * n + (x + dx).clamp(0, n - 1)
        return similarity.gather(2, index[..., None])[..., 0]

    middle = at(0, 0)
    offsets = []
    for before, after in ((at(-1, 0), at(1, 0)), (at(0, -1), at(0, 1))):
        bend = before - 2 * middle + after
        offset = torch.where(bend < -1e-6, (before - after) / (2 * bend), 0.0)
        offsets.append(offset.clamp(-0.5, 0.5))
    return torch.stack(offsets, dim=-1)
