"""Draws what training logged, as one picture of losses and validation errors over the pairs seen.

Several files are legs of one training, each begun from the weights that the one before ended with; dotted
lines mark where.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from picopose.utils.errors import InputError
from picopose.utils.files import write_atomically

PARTS = ("total", "matching", "translation", "scale", "angle", "flow", "certainty")
# Title, unit on the axis, factor to that unit, the lines' names in the log and in the legend.
PANELS = (
    ("Patches matched to within one cell", "% of visible patches", 100, {"patches_matched": None}),
    ("In-plane angle of the affine level", "mean error, degrees", 1, {"angle_deg": None}),
    (
        "Positions in the crop",
        "mean error, px",
        1,
        {"start_px": "after affine", "flow_px": "after flow"},
    ),
)


@dataclass(frozen=True)
class Curves:
    """Logged numbers by name, as pairs seen (N,) and values (N,), and where each leg but the first began."""

    points: dict[str, tuple[np.ndarray, np.ndarray]]
    begins: list[int]


def read_legs(paths: Sequence[Path], batch: int) -> Curves:
    """The numbers of several runs' scalars.jsonl, one after another; `batch` is the pairs in a step.

    A leg's steps begin at one; what is not finite is left out. Raises `InputError` for what is no such file.
    """
    points: dict[str, list[tuple[int, float]]] = {}
    begins, done = [], 0
    for path in paths:
        lines = _lines(path)
        begins.append(done * batch)
        for line in lines:
            for name, value in line.items():
                if name != "step" and np.isfinite(value):
                    points.setdefault(name, []).append(((done + line["step"]) * batch, value))
        done += max(line["step"] for line in lines)
    columns = {name: tuple(map(np.array, zip(*found, strict=True))) for name, found in points.items()}
    return Curves(columns, begins[1:])


def _lines(path: Path) -> list[dict[str, float]]:
    remedy = "pass the scalars.jsonl of a training run's folder"
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}); {remedy}") from error
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
            line["step"] + sum(line.values())  # numbers all
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if number == len(texts) > 1:
                break  # cut off where the run was killed
            raise InputError(f"{path}: line {number} holds no numbers of a step; {remedy}") from error
        lines.append(line)
    if not lines:
        raise InputError(f"{path}: empty; {remedy}")
    return lines


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of the `window` values about each of values (N,), of fewer at the ends."""
    kernel = np.ones(window)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones_like(values), kernel, "same")


def draw(scalars: Sequence[Path], batch: int, out: Path) -> None:
    curves = read_legs(scalars, batch)
    with write_atomically(out) as temporary:
        _figure(curves).savefig(temporary, dpi=110)
    seen = max(pairs[-1] for pairs, _ in curves.points.values())
    print(f"{out}: {seen} pairs in {len(scalars)} leg(s)")


def _figure(curves: Curves) -> Figure:
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    _draw_losses(axes[0, 0], curves)
    for axis, (title, unit, factor, names) in zip(axes.flat[1:], PANELS, strict=True):
        for name, label in names.items():
            pairs, values = curves.points.get(f"validation/{name}", ([], np.empty(0)))
            axis.plot(pairs, factor * values, marker="o", markersize=3, label=label)
        axis.set(title=title, ylabel=unit)
        axis.set_ylim(bottom=0)
        if any(names.values()):
            axis.legend(frameon=False)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        for begin in curves.begins:
            axis.axvline(begin, color="grey", linestyle=":", linewidth=1)
        axis.xaxis.set_major_formatter(lambda pairs, _: f"{pairs / 1000:g}k")
    for axis in axes[1]:
        axis.set_xlabel("training pairs seen")
    return figure


def _draw_losses(axis: Axes, curves: Curves) -> None:
    for part in PARTS:
        pairs, values = curves.points.get(f"loss/{part}", ([], np.empty(0)))
        if len(pairs):
            window = 2 * (len(values) // 30) + 1  # odd, so that the mean is not shifted
            style = {"color": "black", "linewidth": 2} if part == "total" else {"linewidth": 1.2}
            axis.plot(pairs, smoothed(values, window), label=part, **style)
    axis.set(title="Training losses, running mean", yscale="log")
    if axis.lines:
        axis.set_ylim(top=10 * axis.get_ylim()[1])  # room for the names
        axis.legend(frameon=False, fontsize="small", ncols=4, loc="upper center")
