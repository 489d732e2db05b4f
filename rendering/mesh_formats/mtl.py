"""Reads MTL files: the colour and the texture of each material of an OBJ file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picopose.rendering.mesh_formats.text import numbers, plain, shown
from picopose.utils.errors import InputError

_PICTURES = (b"map_kd", b"map_ka")  # some tools write only the ambient one
# Options before the picture's name, and the largest number of values of each.
_NUMBERS = {"-s": 3, "-o": 3, "-t": 3, "-mm": 2, "-bm": 1, "-boost": 1, "-texres": 1}
_WORDS = {"-blendu": 1, "-blendv": 1, "-cc": 1, "-clamp": 1, "-imfchan": 1, "-type": 1}
_NEUTRAL = {"-s": 1.0, "-o": 0.0, "-t": 0.0}  # values without effect
_MM = [0.0, 1.0]  # base and gain


@dataclass(frozen=True)
class Material:
    """Look of faces."""

    name: bytes
    color: np.ndarray | None = None  # (3,) in [0, 1]
    picture: bytes | None = None  # name of its file
    clamped: bool = False  # the texture does not repeat


def read_materials(path: Path) -> dict[bytes, Material]:
    """The materials of an MTL file by name."""
    found: dict[bytes, Material] = {}
    name, color, pictures = None, None, {}
    for keyword, rest in [*_statements(path.read_bytes()), (b"newmtl", b"")]:
        if keyword == b"newmtl":
            if name is not None:
                found[name] = _material(name, color, pictures, path)
            name, color, pictures = rest, None, {}
        elif keyword == b"kd":
            color = _color(rest, path)
        elif keyword in _PICTURES:
            pictures[keyword] = rest
    return found


def names(content: bytes) -> list[bytes]:
    """The pictures that a file names for colour."""
    lines = [rest for keyword, rest in _statements(content) if keyword in _PICTURES and rest]
    return [_split_options(line)[1] for line in lines]


def _statements(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The lower-case keyword and the rest of each line."""
    for line in plain(content).splitlines():
        keyword, _, rest = line.strip().replace(b"\t", b" ").partition(b" ")
        yield keyword.lower(), rest.strip()


def _material(name: bytes, color: np.ndarray | None, pictures: dict[bytes, bytes], path: Path) -> Material:
    line = next((pictures[key] for key in _PICTURES if key in pictures), None)
    if line is None:
        return Material(name, color)
    options, picture = _split_options(line)
    for option, values in options.items():
        changes = values != _MM[: len(values)] if option == "-mm" else set(values) != {_NEUTRAL.get(option)}
        if option in (*_NEUTRAL, "-mm") and changes:
            raise InputError(
                f"{path}: the picture of material '{shown(name)}' has the option {option} "
                f"{' '.join(f'{value:g}' for value in values)}, which is not read: bake it into the texture"
            )
    if not picture:
        raise ValueError(f"material '{shown(name)}' in {path.name} names no picture")
    return Material(name, color, picture, clamped=options.get("-clamp") == [b"on"])


def _split_options(line: bytes) -> tuple[dict[str, list], bytes]:
    """The options before a picture's name, and the name, which may contain blanks or be quoted."""
    options: dict[str, list] = {}
    while True:
        word, _, rest = line.partition(b" ")
        option = word.decode("ascii", errors="replace").lower()
        if option not in _NUMBERS | _WORDS:
            return options, line.strip().strip(b"\"'")
        values, line = [], rest.strip()
        for _ in range(_NUMBERS.get(option, 1)):
            value, _, rest = line.partition(b" ")
            if option in _NUMBERS and not _is_number(value):
                break  # trailing values may be omitted
            values.append(float(value) if option in _NUMBERS else value)
            line = rest.strip()
        options[option] = values


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _color(rest: bytes, path: Path) -> np.ndarray:
    if rest.lower().startswith((b"spectral", b"xyz")):
        raise InputError(f"{path}: its Kd is not in red, green and blue: give it so")
    values = numbers(rest)
    if len(values) not in (1, 3) or not np.isfinite(values).all():
        raise ValueError(f"a Kd in {path.name} is no colour")
    return np.clip(np.resize(values, 3), 0, 1)
