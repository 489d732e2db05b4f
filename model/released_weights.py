"""What conversions of other programs' weights have in common."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from picopose.model.checkpoint import check_keys


def rename(key: str, rules: Sequence[tuple[str, str | Callable[[re.Match], str]]]) -> str:
    """A key after all rules (pattern at its beginning, replacement) in their order; unknown keys stay."""
    for pattern, replacement in rules:
        key = re.sub("^" + pattern, replacement, key)
    return key


def check_renamed(
    expected: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    original_name: Mapping[str, str],
    source: Path,
) -> None:
    """As `checkpoint.check_keys`, but with keys as they are in the file, for those that have a name there."""
    shapes = {original_name.get(name, name): tuple(value.shape) for name, value in expected.items()}
    check_keys(shapes, {original_name[name]: value for name, value in weights.items()}, source)


def transpose_windows(weight: Tensor, *, side: int) -> Tensor:
    """Input channels (..., x, y) of windows of side x side reordered to (..., y, x)."""
    windows = weight.unflatten(1, (-1, side, side))
    return windows.transpose(2, 3).flatten(1, 3)
