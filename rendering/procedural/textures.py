"""Procedural images: patterns, prints and pictures for the procedural objects.

All randomness comes from the given generator, so an image is a function of the seed.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = Sequence[float]  # RGB, 0 to 255


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """(3,) RGB in 0 ... 255: saturated, pale, dark or grey in turns as on real goods."""
    hue, kind = rng.random(), rng.random()
    if kind < 0.45:
        saturation, value = rng.uniform(0.55, 0.95), rng.uniform(0.5, 0.95)
    elif kind < 0.65:
        saturation, value = rng.uniform(0.1, 0.4), rng.uniform(0.7, 0.95)
    elif kind < 0.8:
        saturation, value = rng.uniform(0.3, 0.8), rng.uniform(0.1, 0.4)
    else:
        saturation, value = rng.uniform(0, 0.06), rng.uniform(0.08, 0.95)
    return 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, value))


def plain(colour: Colour, height: int = 8, width: int = 8) -> np.ndarray:
    return np.full((height, width, 3), np.asarray(colour, float).clip(0, 255), np.uint8)


def blend(weight: np.ndarray, first: Colour, second: Colour) -> np.ndarray:
    """Image (H, W, 3) between two colours by weights (H, W) of the second."""
    weight = weight[..., None].clip(0, 1)
    return (np.asarray(first) * (1 - weight) + np.asarray(second) * weight).clip(0, 255).astype(np.uint8)


def fractal(
    rng: np.random.Generator, height: int, width: int, cells: int = 3, octaves: int = 5
) -> np.ndarray:
    """(H, W) smooth noise in [0, 1]: octaves of random grids, each twice as fine and half as strong."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        n = cells * 2**octave
        grid = rng.random((n, max(2, n * width // height)), dtype=np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    return (total - total.min()) / (np.ptp(total) + 1e-6)


def _coordinates(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two (H, W) coordinates over the unit square, turned by a random angle, often a right one."""
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)], p=[0.35, 0.35, 0.3])
    y, x = np.mgrid[:height, :width] / max(height, width)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


# Patterns: (rng, height, width) -> image (H, W, 3) uint8.


def clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    noise = fractal(rng, height, width, cells=int(rng.integers(2, 8)))
    contrast = rng.uniform(1, 4)
    return blend((noise - 0.5) * contrast + 0.5, random_colour(rng), random_colour(rng))


def marble(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    noise = fractal(rng, height, width)
    x, _ = _coordinates(rng, height, width)
    veins = np.abs(np.sin(np.pi * (x * rng.uniform(1, 4) + noise * rng.uniform(1, 4)))) ** rng.uniform(0.3, 2)
    return blend(veins, random_colour(rng), random_colour(rng))


def wood(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Boards of stretched grain in browns and greys."""
    colour = 255 * np.array(colorsys.hsv_to_rgb(rng.uniform(0.05, 0.12), rng.uniform(0.15, 0.6), 1))
    colour = colour * rng.uniform(0.45, 0.9)
    boards = int(rng.integers(1, 7))
    rows = []
    for edges in np.array_split(np.arange(height), boards):
        grain = fractal(rng, len(edges), max(4, width // 24), cells=4)
        grain = cv2.resize(grain, (width, len(edges)), interpolation=cv2.INTER_CUBIC)
        rings = 0.5 + 0.5 * np.sin(grain * rng.uniform(15, 40))
        row = colour * rng.uniform(0.85, 1.1) * (0.8 + 0.15 * grain + 0.1 * rings)[..., None]
        row[:1] *= 0.6 if boards > 1 else 1
        rows.append(row)
    return np.concatenate(rows).clip(0, 255).astype(np.uint8)


def stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    x, _ = _coordinates(rng, height, width)
    colours = np.array([random_colour(rng) for _ in range(int(rng.integers(2, 6)))])
    edges = np.sort(rng.random(len(colours) - 1))
    phase = (x * rng.uniform(1, 12)) % 1
    return colours[np.searchsorted(edges, phase)].astype(np.uint8)


def checker(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    x, y = _coordinates(rng, height, width)
    n = rng.uniform(3, 14)
    odd = (np.floor(x * n) + np.floor(y * n * rng.uniform(0.5, 2))) % 2
    return blend(odd, random_colour(rng), random_colour(rng))


def plaid(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    x, y = _coordinates(rng, height, width)
    image = np.broadcast_to(random_colour(rng), (height, width, 3))
    for axis in (x, y):
        for _ in range(int(rng.integers(1, 4))):
            phase = (axis * rng.uniform(2, 8) + rng.random()) % 1
            band = (phase < rng.uniform(0.1, 0.5))[..., None] * rng.uniform(0.3, 0.7)
            image = image * (1 - band) + random_colour(rng) * band
    return image.astype(np.uint8)


def dots(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Discs in rows, or strewn in many colours and sizes."""
    image = plain(random_colour(rng), height, width)
    colours = [random_colour(rng) for _ in range(int(rng.integers(1, 5)))]
    size = max(height, width)
    if rng.random() < 0.5:
        step = size / rng.uniform(4, 14)
        grid = np.mgrid[0 : height / step, 0 : width / step].reshape(2, -1).T
        grid[:, 1] += 0.5 * (grid[:, 0] % 2)
        centres, radii = grid[:, ::-1] * step, np.full(len(grid), step * rng.uniform(0.15, 0.45))
    else:
        centres = rng.random((int(rng.integers(15, 150)), 2)) * [width, height]
        radii = size * rng.uniform(0.01, 0.06, len(centres))
    for centre, radius in zip(centres, radii, strict=True):
        _disc(image, centre, radius, colours[rng.integers(len(colours))])
    return image


def cells(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Voronoi cells in a few colours, sometimes with joints: mosaics, stones, camouflage."""
    seeds = np.full((height, width), 255, np.uint8)
    count = int(rng.integers(10, 120))
    xy = (rng.random((count, 2)) * [width, height]).astype(int)
    seeds[xy[:, 1], xy[:, 0]] = 0
    distance, index = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    colours = np.array([random_colour(rng) for _ in range(int(rng.integers(2, 6)))])
    image = colours[rng.integers(len(colours), size=index.max() + 1)[index]]
    if rng.random() < 0.5:
        image = image * (1 - 0.5 * (distance / distance.max()))[..., None]
    return image.astype(np.uint8)


def tiles(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Bricks or tiles: rows of rectangles of slightly different shade, with joints."""
    rows = int(rng.integers(3, 10))
    columns = int(rng.integers(3, 10))
    y, x = np.mgrid[:height, :width]
    row = y * rows // height
    shifted = x * columns / width + 0.5 * (row % 2) * (rng.random() < 0.5)
    shade = rng.uniform(0.75, 1.1, (rows, columns + 2))[row, shifted.astype(int)]
    joint = (shifted % 1 < 0.04) | ((y * rows / height) % 1 < 0.05)
    image = np.where(joint[..., None], random_colour(rng), random_colour(rng) * shade[..., None])
    return image.clip(0, 255).astype(np.uint8)


def gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    x, _ = _coordinates(rng, height, width)
    return blend((x - x.min()) / np.ptp(x), random_colour(rng), random_colour(rng))


def speckle(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    grain = rng.normal(0, rng.uniform(8, 40), (height // 2, width // 2, 1)).astype(np.float32)
    grain = cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    return (random_colour(rng) + grain).clip(0, 255).astype(np.uint8)


PATTERNS: tuple[Callable[[np.random.Generator, int, int], np.ndarray], ...] = (
    clouds,
    marble,
    wood,
    stripes,
    checker,
    plaid,
    dots,
    cells,
    tiles,
    gradient,
    speckle,
)


# Prints: they draw into an image; boxes are (left, top, right, bottom) in shares of its size.

Box = tuple[float, float, float, float]


def _pixels(image: np.ndarray, box: Box) -> tuple[int, int, int, int]:
    height, width = image.shape[:2]
    left, right = (round(x * width) for x in (box[0], box[2]))
    top, bottom = (round(y * height) for y in (box[1], box[3]))
    left, top = min(max(left, 0), width - 2), min(max(top, 0), height - 2)
    return left, top, max(min(right, width), left + 2), max(min(bottom, height), top + 2)


def _disc(image: np.ndarray, centre: Sequence[float], radius: float, colour: Colour) -> None:
    xy = tuple(round(16 * c) for c in centre)
    rgb = tuple(float(c) for c in colour)
    cv2.circle(image, xy, round(16 * radius), rgb, -1, cv2.LINE_AA, shift=4)


@lru_cache(maxsize=512)
def _glyphs(text: str) -> np.ndarray:
    """The text as a tight (H, W) coverage mask."""
    font = _font()
    left, top, right, bottom = font.getbbox(text)
    mask = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(mask).text((2 - left, 2 - top), text, fill=255, font=font)
    return np.asarray(mask)


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(64)


def write(image: np.ndarray, text: str, box: Box, colour: Colour, *, weight: int = 0) -> None:
    """Prints a line of text that fills the box; `weight` thickens the strokes."""
    left, top, right, bottom = _pixels(image, box)
    glyphs = _glyphs(text)
    if weight:
        glyphs = cv2.dilate(glyphs, np.ones((2 * weight + 1, 2 * weight + 1), np.uint8))
    mask = cv2.resize(glyphs, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    stamp(image, mask / 255, (left, top), colour)


def stamp(image: np.ndarray, mask: np.ndarray, corner: tuple[int, int], colour: Colour) -> None:
    """Paints a colour through a mask (h, w) in [0, 1] whose top-left pixel lies at `corner` (x, y)."""
    window = image[corner[1] : corner[1] + mask.shape[0], corner[0] : corner[0] + mask.shape[1]]
    window[:] = (window + mask[..., None] * (np.asarray(colour) - window)).astype(np.uint8)


def rectangle(image: np.ndarray, box: Box, colour: Colour) -> None:
    left, top, right, bottom = _pixels(image, box)
    image[top:bottom, left:right] = np.asarray(colour).astype(np.uint8)


def ellipse(image: np.ndarray, box: Box, colour: Colour) -> None:
    left, top, right, bottom = _pixels(image, box)
    centre = (8 * (left + right), 8 * (top + bottom))
    axes = (8 * (right - left), 8 * (bottom - top))
    cv2.ellipse(image, centre, axes, 0, 0, 360, tuple(float(c) for c in colour), -1, cv2.LINE_AA, shift=4)


def polygon(image: np.ndarray, points: np.ndarray, colour: Colour) -> None:
    """Fills a polygon (M, 2) given in shares of the image's width and height."""
    xy = np.asarray(points) * [image.shape[1], image.shape[0]] * 16
    cv2.fillPoly(image, [xy.round().astype(np.int32)], tuple(float(c) for c in colour), cv2.LINE_AA, shift=4)


def star(
    centre: Sequence[float], radius: Sequence[float], points: int, depth: float, phase: float
) -> np.ndarray:
    """(2 points, 2) outline of a star whose inner corners lie at `depth` of the radius (1: a polygon)."""
    angle = np.arange(2 * points) * np.pi / points + phase
    length = np.where(np.arange(2 * points) % 2, depth, 1.0)
    unit = np.stack([np.sin(angle), -np.cos(angle)], axis=1) * length[:, None]
    return np.asarray(centre) + unit * np.asarray(radius)


def barcode(rng: np.random.Generator, image: np.ndarray, box: Box) -> None:
    rectangle(image, box, (245, 245, 245))
    left, top, right, bottom = box
    edges = np.sort(rng.uniform(left, right, 36)).reshape(-1, 2)
    for a, b in edges:
        end = a + min(b - a, (right - left) / 25)
        rectangle(image, (a, top + 0.1 * (bottom - top), end, bottom - 0.15 * (bottom - top)), (20, 20, 20))


def fine_print(rng: np.random.Generator, image: np.ndarray, box: Box, colour: Colour, lines: int) -> None:
    left, top, right, bottom = box
    step = (bottom - top) / lines
    for k in range(lines):
        words = " ".join(random_word(rng) for _ in range(4))
        end = right - rng.uniform(0, 0.3) * (right - left) * (k % 3 == 2)
        write(image, words, (left, top + k * step, end, top + (k + 0.7) * step), colour)


def random_word(rng: np.random.Generator) -> str:
    syllables = [
        rng.choice(list("bcdfghklmnprstvz")) + rng.choice(["a", "e", "i", "o", "u", "an", "or", "el"])
        for _ in range(int(rng.integers(1, 4)))
    ]
    return "".join(syllables)
