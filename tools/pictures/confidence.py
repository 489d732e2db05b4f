"""A picture of how often the poses of a confidence are right, for the true detections."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.confidence import Cases, confidence_of, read_cases
from benchmarks.logistic import auroc
from picopose.model.confidence import read_calibration
from picopose.utils.files import write_atomically

BINS = 10


def draw(cases: Sequence[Path], out: Path) -> None:
    read = read_cases(cases)
    with write_atomically(out) as temporary:
        reliability(read, confidence_of(read, read_calibration())).savefig(temporary, dpi=120)


def reliability(cases: Cases, confidence: np.ndarray) -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("mask", "box"), strict=True):
        chosen = cases.kind == kind
        plot(axes, kind, confidence[chosen], cases.right[chosen])
    figure.axes[0].set_ylabel("share of right poses")
    return figure


def plot(axes: Axes, title: str, confidence: np.ndarray, right: np.ndarray) -> None:
    """How often poses (N,) are right, over their confidence."""
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.digitize(confidence, edges) - 1, 0, BINS - 1)
    filled = [i for i in range(BINS) if (place == i).any()]
    x = [confidence[place == i].mean() for i in filled]
    y = [right[place == i].mean() for i in filled]
    count = np.array([(place == i).sum() for i in filled])
    deviation = [np.sqrt(max(v * (1 - v), 0.05) / n) for v, n in zip(y, count, strict=True)]
    axes.plot([0, 1], [0, 1], color="0.7")
    axes.errorbar(x, y, yerr=deviation, fmt="o-", capsize=3)
    for xi, yi, n in zip(x, y, count, strict=True):
        axes.annotate(str(n), (xi, yi), textcoords="offset points", xytext=(6, -10), fontsize=8)
    axes.set(title=f"{title}: AUROC {auroc(confidence, right):.2f}", xlabel="confidence", ylim=(-0.05, 1.05))
