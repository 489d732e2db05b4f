"""Which hypotheses of a detection are refined: those supported best, and of nearly the same pose only one."""

from collections import Counter, defaultdict

import torch
from torch import Tensor

from picopose.model.stage import Things
from picopose.utils.geometry import transform
from picopose.utils.records import Estimates

SAME = 0.03  # mean distance of the hull's corners, in diameters: what is nearer comes to the same


def best_of(found: Estimates, most: int) -> Estimates:
    """The rows of each group that are supported best, in their order; the first where nothing is known."""
    kept, taken = [], Counter()
    groups = found.group.tolist()
    for row in _best_first(found):
        taken[groups[row]] += 1
        kept += [row] if taken[groups[row]] <= most else []
    return found[sorted(kept)]


def distinct(found: Estimates, things: Things) -> Estimates:
    """The rows, in their order, without those whose pose a better supported row of their group nearly has."""
    kept: list[int] = []
    corners: dict[tuple[int, int], list[Tensor]] = defaultdict(list)  # (N, 3) m of what is kept
    groups, obj_ids = found.group.tolist(), found.obj_id.tolist()
    poses = found.cam_from_obj.double().cpu()
    for row in _best_first(found):
        xyz = transform(poses[row], things.drawings.hull(obj_ids[row]))
        limit = SAME * things.by_id[obj_ids[row]].diameter
        others = corners[groups[row], obj_ids[row]]
        if not any((xyz - other).norm(dim=1).mean() < limit for other in others):
            others.append(xyz)
            kept.append(row)
    return found[sorted(kept)]


def _best_first(found: Estimates) -> list[int]:
    support = torch.zeros(len(found)) if found.support is None else found.support.cpu()
    return support.sort(descending=True, stable=True).indices.tolist()
