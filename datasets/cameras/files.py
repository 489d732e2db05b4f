"""Reads camera files of other programs: JSON, YAML or text, recognised by content."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from picopose.datasets.cameras.matrices import pinhole
from picopose.datasets.cameras.tables import REMEDY, Camera, camera_of_numbers, camera_of_table
from picopose.datasets.tables import by_number
from picopose.utils.errors import InputError
from picopose.utils.reading import read_json

MAX_BYTES, MAX_YAML = 64 << 20, 200_000


def read_camera(given: str, photo: Path, width: int, height: int) -> Camera:
    """The camera of a photo of width x height px, from `fx,fy,cx,cy` or a file.

    If the file states an image size, the camera is scaled to the photo's. From a file for several images
    (BOP's `scene_camera.json`) the photo's camera is chosen by the number in its name.
    """
    where, path = f"camera {given}", Path(given)
    if "," in given and not os.path.isfile(given):
        return Camera(pinhole(given.split(","), where))
    content = _content(path)
    if isinstance(content, list):
        return camera_of_numbers(content, where)
    if content and all(re.fullmatch(r"\d{1,18}", str(key)) for key in content):
        return _of_scene(content, photo, where, width, height)
    return camera_of_table(content, where, width, height)


def _content(path: Path) -> Mapping | list[float]:
    """The table of a JSON or YAML file, or the numbers of a text file."""
    text = _text(path)
    numbers = _numbers(text)
    if numbers is not None:
        return numbers
    if text.lstrip().startswith("{"):
        content = read_json(path, remedy=REMEDY)
    elif text.lstrip().startswith("<"):
        raise InputError(f"{path} is XML: save the camera as YAML or JSON")
    else:
        content = _read_yaml(text, path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds no camera: {REMEDY}")
    return content


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is too large for a camera file: {REMEDY}")
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: {REMEDY}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): {REMEDY}") from None
    if b"\0" in data or not data.strip():
        raise InputError(f"{path} is {'no text' if data.strip() else 'empty'}: save the camera as JSON")
    return data.decode("utf-8-sig", errors="replace")


def _numbers(text: str) -> list[float] | None:
    """The numbers of a text that holds nothing else but brackets and # comments; None for others."""
    words = re.sub(r"#.*|[\[\](),;]", " ", text).split()
    try:
        return [float(word) for word in words]
    except ValueError:
        return None


class _Loader(yaml.SafeLoader):
    """Loads plain data only."""


_Loader.add_implicit_resolver(  # such as 1e-5, which YAML 1.1 reads as text
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+\.?\d*[eE][-+]?\d+$"), list("-+0123456789")
)
_Loader.add_constructor(  # OpenCV's matrices are plain tables
    "tag:yaml.org,2002:opencv-matrix", lambda loader, node: loader.construct_mapping(node, deep=True)
)


def _read_yaml(text: str, path: Path) -> Any:
    if len(text) > MAX_YAML:
        raise InputError(f"{path} is too large for a camera file: {REMEDY}")
    if text.rstrip().endswith(":"):  # probably cut off
        raise InputError(f"{path} ends where a value is due: copy it again")
    text = re.sub(r"\A\s*%YAML.*", "", text)  # OpenCV's header is not valid YAML
    try:
        documents = [content for content in yaml.load_all(text, _Loader) if content is not None]
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is neither JSON nor YAML nor numbers ({error}): {REMEDY}") from None
    if len(documents) != 1:
        raise InputError(f"{path} holds {len(documents)} cameras: leave the photo's in it")
    return documents[0]


def _of_scene(table: Mapping, photo: Path, where: str, width: int, height: int) -> Camera:
    """The photo's camera from a table by image number."""
    entries = by_number(table, where, of="image", remedy="leave the photo's in it")
    number = int(photo.stem) if photo.stem.isdecimal() else None
    if number in entries:
        return camera_of_table(entries[number], f"{where}: image {number}", width, height)
    cameras = [
        camera_of_table(entry, f"{where}: image {key}", width, height) for key, entry in entries.items()
    ]
    if any(not camera.K.equal(cameras[0].K) or camera.lens != cameras[0].lens for camera in cameras):
        raise InputError(
            f"{where} has cameras of {len(cameras)} images, none of them {photo.stem}: "
            "pass the photo's own as fx,fy,cx,cy"
        )
    return cameras[0]
