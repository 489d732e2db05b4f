"""What reports have in common: the file, charts of curves, and the time that images took.

`report_page/` lays it out, with every text escaped.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from picopose.utils.files import write_atomically

_PAGE = Path(__file__).parent / "report_page"


@dataclass(frozen=True)
class Chart:
    """Shares over thresholds, as one curve for each name."""

    name: str
    caption: str
    label: str  # said in place of the picture
    thresholds: list[float]
    ticks: list[float]  # thresholds that are labelled
    curves: dict[str, list[float]]


@dataclass(frozen=True)
class Timing:
    """Seconds per image of one data set."""

    counts: list[int]  # of images, in bins of equal width from 0
    width: float  # of a bin, s
    median: float
    mean: float
    most: float  # 95 % of the images take no longer
    phases: dict[str, float]  # mean of each


def timing_of(seconds: np.ndarray, phases: Sequence[Mapping[str, float]]) -> Timing | None:
    """Of the seconds (N,) of each image and what they are made up of; None where they are not known."""
    if len(seconds) == 0 or not (seconds >= 0).all() or not np.isfinite(seconds).all():
        return None
    bins = min(24, max(6, len(seconds) // 2))
    width = max(float(seconds.max()), 1e-6) / bins
    index = np.minimum((seconds / width).astype(int), bins - 1)
    sums: Counter[str] = Counter()
    for each in phases:
        sums.update(each)
    return Timing(
        counts=np.bincount(index, minlength=bins).tolist(),
        width=width,
        median=float(np.median(seconds)),
        mean=float(seconds.mean()),
        most=float(np.quantile(seconds, 0.95)),
        phases={name: total / len(seconds) for name, total in sums.items()},
    )


def write_page(path: Path | str, template: str, **values: Any) -> None:
    """Writes a page of `report_page/` as one file that loads nothing from elsewhere."""
    path = Path(path)
    script = (_PAGE / "script.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(_PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    html = environment.get_template(template).render(
        title=path.resolve().parent.name,
        style=(_PAGE / "style.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **values,
    )
    with write_atomically(path) as temporary:
        temporary.write_text(html, encoding="utf-8", newline="\n")
