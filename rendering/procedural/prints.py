"""Prints on goods: logos, labels and pictures, composed from the patterns of `textures`.

`random_texture` serves training objects; the named objects' prints are laid out by hand.
"""

import cv2
import numpy as np

from picopose.rendering.procedural import textures
from picopose.rendering.procedural.textures import Box, Colour, random_colour, random_word


def contrasting(rng: np.random.Generator, background: Colour) -> np.ndarray:
    """A random colour that is legible on another one."""
    luma = np.array([0.3, 0.6, 0.1])
    for _ in range(20):
        colour = random_colour(rng)
        if abs(luma @ (colour - np.asarray(background))) > 70:
            return colour
    return np.full(3, 20.0 if luma @ np.asarray(background) > 128 else 240.0)


def logo(rng: np.random.Generator, image: np.ndarray, box: Box) -> None:
    """An emblem of two or three nested shapes, sometimes with a letter."""
    left, top, right, bottom = box
    centre, radius = ((left + right) / 2, (top + bottom) / 2), ((right - left) / 2, (bottom - top) / 2)
    for scale in (1.0, 0.75, 0.45)[: int(rng.integers(2, 4))]:
        colour, reach = random_colour(rng), np.array(radius) * scale
        kind = rng.integers(3)
        if kind == 0:
            textures.ellipse(image, (*(centre - reach), *(centre + reach)), colour)
        elif kind == 1:
            depth = rng.uniform(0.35, 1.0)
            points = textures.star(centre, reach, int(rng.integers(3, 9)), depth, rng.uniform(0, 6))
            textures.polygon(image, points, colour)
        else:
            reach = reach * rng.uniform(0.5, 1, 2)
            textures.rectangle(image, (*(centre - reach), *(centre + reach)), colour)
    if rng.random() < 0.5:
        reach = np.array(radius) * 0.35
        letter = random_word(rng)[:2].upper()
        textures.write(image, letter, (*(centre - reach), *(centre + reach)), contrasting(rng, colour))


def picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A painted scene: sky, sun, hills or heaps of fruit, with soft light as in a photo."""
    image = textures.blend(
        np.linspace(0, 1, height)[:, None] * np.ones(width), random_colour(rng), random_colour(rng)
    )
    if rng.random() < 0.5:
        _landscape(rng, image)
    else:
        _fruit(rng, image)
    light = 0.8 + 0.4 * textures.fractal(rng, height, width, cells=2)[..., None]
    return (image * light).clip(0, 255).astype(np.uint8)


def _landscape(rng: np.random.Generator, image: np.ndarray) -> None:
    x, y, r = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.4), rng.uniform(0.05, 0.15)
    textures.ellipse(image, (x - r, y - r, x + r, y + r), (250, 235, rng.uniform(120, 240)))
    for level in np.sort(rng.uniform(0.3, 0.95, int(rng.integers(2, 6)))):
        n = int(rng.integers(4, 20))
        ridge = level + rng.uniform(0.03, 0.12) * rng.normal(size=n)
        points = np.stack([np.linspace(0, 1, n), ridge], axis=1)
        textures.polygon(image, np.concatenate([points, [[1, 1], [0, 1]]]), random_colour(rng))


def _fruit(rng: np.random.Generator, image: np.ndarray) -> None:
    colours = [random_colour(rng) for _ in range(3)]
    for _ in range(int(rng.integers(4, 25))):
        x, y, r = rng.uniform(0, 1), rng.uniform(0.2, 1), rng.uniform(0.05, 0.22)
        squash, colour = rng.uniform(0.6, 1.2), colours[rng.integers(3)]
        for step in np.linspace(0, 1, 6):  # smaller and brighter discs make a ball
            shift, size = 0.3 * r * step, r * (1 - 0.75 * step)
            box = (x - shift - size, y - shift - size * squash, x - shift + size, y - shift + size * squash)
            textures.ellipse(image, box, (colour * (0.7 + 0.5 * step)).clip(0, 255))


def label(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A goods label: bands, a brand name, a logo or picture, fine print and a barcode."""
    ground = random_colour(rng)
    image = textures.plain(ground, height, width)
    if rng.random() < 0.4:
        image = _pattern(rng, height, width)
        top = rng.uniform(0.05, 0.3)
        textures.rectangle(image, (0.06, top, 0.94, top + rng.uniform(0.4, 0.65)), ground)
    for _ in range(int(rng.integers(0, 4))):
        y = rng.uniform(0, 1)
        textures.rectangle(image, (0, y, 1, y + rng.uniform(0.02, 0.2)), random_colour(rng))
    if rng.random() < 0.6:
        left, top, size = rng.uniform(0.05, 0.5), rng.uniform(0.3, 0.6), rng.uniform(0.25, 0.45)
        paste(image, picture(rng, 96, 96), (left, top, left + size, top + size * width / height))
    for _ in range(int(rng.integers(1, 3))):
        left, top, size = rng.uniform(0, 0.7), rng.uniform(0, 0.7), rng.uniform(0.12, 0.35)
        logo(rng, image, (left, top, left + size, top + size * width / height))
    for _ in range(int(rng.integers(1, 4))):
        left, top = rng.uniform(0.03, 0.4), rng.uniform(0.05, 0.85)
        box = (left, top, min(0.97, left + rng.uniform(0.3, 0.6)), top + rng.uniform(0.06, 0.18))
        _print_word(rng, image, box)
    if rng.random() < 0.5:
        left, top = rng.uniform(0, 0.6), rng.uniform(0.5, 0.8)
        textures.barcode(rng, image, (left, top, left + 0.25, top + 0.17))
    if rng.random() < 0.6:
        left, top = rng.uniform(0, 0.6), rng.uniform(0.4, 0.8)
        box = (left, top, left + 0.3, top + 0.18)
        textures.fine_print(rng, image, box, contrasting(rng, ground), lines=4)
    return image


def _print_word(rng: np.random.Generator, image: np.ndarray, box: Box) -> None:
    """A word that is legible on any background, sometimes outlined."""
    height, width = image.shape[:2]
    below = image[
        int(box[1] * height) : int(box[3] * height) + 1, int(box[0] * width) : int(box[2] * width) + 1
    ]
    colour = contrasting(rng, below.reshape(-1, 3).mean(axis=0))
    word = random_word(rng)
    word = word.upper() if rng.random() < 0.6 else word.capitalize()
    weight = int(rng.integers(0, 5))
    if rng.random() < 0.3:
        textures.write(image, word, box, contrasting(rng, colour), weight=weight + 4)
    textures.write(image, word, box, colour, weight=weight)


def paste(image: np.ndarray, other: np.ndarray, box: Box) -> None:
    """Pastes one image into a box of another."""
    height, width = image.shape[:2]
    left, right = (round(np.clip(x, 0, 1) * width) for x in (box[0], box[2]))
    top, bottom = (round(np.clip(y, 0, 1) * height) for y in (box[1], box[3]))
    if right > left and bottom > top:
        size = (right - left, bottom - top)
        image[top:bottom, left:right] = cv2.resize(other, size, interpolation=cv2.INTER_AREA)


def _pattern(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return textures.PATTERNS[rng.integers(len(textures.PATTERNS))](rng, height, width)


def random_texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """An image (height, width, 3) uint8: a pattern, a label, a picture or a mixture, with slight wear."""
    kind = rng.random()
    if kind < 0.35:
        image = label(rng, height, width)
    elif kind < 0.45:
        image = picture(rng, height, width)
    elif kind < 0.65:
        mask = textures.fractal(rng, height, width) > rng.uniform(0.35, 0.65)
        image = np.where(mask[..., None], _pattern(rng, height, width), _pattern(rng, height, width))
    else:
        image = _pattern(rng, height, width).copy()
        for _ in range(int(rng.integers(0, 4))):
            left, top, size = rng.uniform(0, 0.8), rng.uniform(0, 0.8), rng.uniform(0.1, 0.4)
            logo(rng, image, (left, top, left + size, top + size * width / height))
        if rng.random() < 0.4:
            left, top = rng.uniform(0, 0.5), rng.uniform(0, 0.8)
            _print_word(rng, image, (left, top, left + rng.uniform(0.2, 0.5), top + rng.uniform(0.08, 0.2)))
    if rng.random() < 0.5:
        wear = 1 - rng.uniform(0, 0.3) * textures.fractal(rng, height, width, cells=4)
        image = (image * wear[..., None]).astype(np.uint8)
    return image
