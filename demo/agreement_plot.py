"""A plot of how far poses agree with a video over time; drawn with OpenCV, as programs need no Matplotlib."""

from collections import defaultdict
from collections.abc import Iterable

import cv2
import numpy as np

from picopose.pipeline.verdict import GOOD, WRONG

WIDTH, HEIGHT, MARGIN = 1200, 360, 50  # px
COLOURS = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75))
GREY, INK = (225, 225, 225), (60, 60, 60)


def plot_agreement(entries: Iterable[dict]) -> np.ndarray:
    """(H, W, 3) uint8: the confidence of each track over time, with gaps where it is lost.

    entries: frames as `FilmFiles` has them.
    """
    times, tracks, names = [], defaultdict(dict), {}
    for number, entry in enumerate(entries):
        times.append(entry["time"])
        for pose in entry["poses"]:
            tracks[pose["track"]][number] = pose["confidence"]
            names[pose["track"]] = pose["object"]
    end = max(times[-1] - times[0], 1e-9) if times else 1.0
    image = _axes(end)
    for place, (track, values) in enumerate(sorted(tracks.items())):
        colour = COLOURS[place % len(COLOURS)]
        points = {number: _point((times[number] - times[0]) / end, value) for number, value in values.items()}
        for number, point in points.items():
            cv2.line(image, points.get(number - 1, point), point, colour, 2, cv2.LINE_AA)
        _write(image, f"{track} {names[track]}", (MARGIN + 8, MARGIN + 18 + 20 * place), colour)
    return image


def _axes(seconds: float) -> np.ndarray:
    image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    for value in (0.0, WRONG, GOOD, 1.0):
        cv2.line(image, _point(0, value), _point(1, value), GREY, 1)
        _write(image, f"{value:g}", (8, _point(0, value)[1] + 5), INK)
    _write(image, "confidence", (MARGIN, MARGIN - 15), INK)
    for share in np.linspace(0, 1, 6):
        x, y = _point(float(share), 0)
        _write(image, f"{share * seconds:.1f} s", (x - 20, y + 25), INK)
    return image


def _point(share: float, value: float) -> tuple[int, int]:
    """Where in the plot a share of the time and a value are."""
    return (
        round(MARGIN + share * (WIDTH - 2 * MARGIN)),
        round(HEIGHT - MARGIN - value * (HEIGHT - 2 * MARGIN)),
    )


def _write(image: np.ndarray, text: str, place: tuple[int, int], colour: tuple[int, ...]) -> None:
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
