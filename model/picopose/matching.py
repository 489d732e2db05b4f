"""Match: which templates look like the crop, judged by the similarity of their patches."""

import torch
import torch.nn.functional as F
from torch import Tensor


def mask_cells(mask: Tensor, cells: int) -> Tensor:
    """Masks (..., S, S) bool on the patch grid: (..., cells, cells) bool, by nearest interpolation."""
    flat = mask.flatten(0, -3)[:, None].float()
    return (F.interpolate(flat, size=(cells, cells), mode="nearest") > 0.5).view(
        *mask.shape[:-2], cells, cells
    )


def descriptors(features: Tensor) -> Tensor:
    """Unit-length patch descriptors (..., n*n, C), row-major, of feature maps (..., C, n, n)."""
    return F.normalize(features.flatten(-2).mT, dim=-1)


def rank(real: Tensor, real_mask: Tensor, template: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best templates of one object for each crop: scores and indices, both (B, k), best first.

    A template's score is the mean over the crop's foreground patches of the similarity to their best patch
    in the template (Eq. 1 of the paper).

    Args:
        real: (B, N, C) descriptors of the crops; real_mask: (B, N) bool, foreground patches.
        template: (V, N, C) descriptors of the object's templates.
    """
    scores = torch.stack([_score(r[m], template) for r, m in zip(real, real_mask, strict=True)])
    return scores.topk(min(k, len(template)), dim=1)


def _score(patches: Tensor, template: Tensor) -> Tensor:
    similarity = patches @ template.flatten(0, 1).mT.to(patches.dtype)  # (P, V*N)
    best = similarity.unflatten(1, template.shape[:2]).amax(dim=2)  # (P, V)
    return best.sum(dim=0) / max(len(patches), 1)


def similarity_volume(real: Tensor, template: Tensor, template_mask: Tensor) -> Tensor:
    """Similarity of every template patch to every real patch, the input of the affine level.

    Args:
        real, template: (B, N, C) descriptors on an n x n grid; template_mask: (B, N) bool.

    Returns:
        (B, N, n, n): channel = template patch (row-major), the plane = the crop's patches. Negative
        similarities and those of template patches outside the mask are 0.
    """
    volume = (template @ real.mT).clamp(min=0) * template_mask[..., None]
    side = int(real.shape[1] ** 0.5)
    return volume.unflatten(-1, (side, side))
