"""Receives uploads of the page: files are checked by content before they are read, and never executed.

They are saved in a temporary folder, under the names by which a mesh refers to its textures.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import EpsImagePlugin, Image
from werkzeug.datastructures import FileStorage

from picopose.datasets.images import kind_of
from picopose.demo.shots import CameraHint, DepthHint, PlaceHint
from picopose.utils.errors import InputError
from picopose.utils.mesh_file import MESH_SUFFIXES

MAX_BYTES = 64 << 20  # of all files together
MAX_PARTS = 100  # files and fields of a request
MAX_PIXELS = 50_000_000  # of a picture
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
LONGEST_NAME = 120  # bytes
LONGEST_FIELD = 100  # characters
SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class Upload:
    """A request of the page."""

    photo: Path
    camera: CameraHint
    place: PlaceHint


@dataclass(frozen=True)
class MeshUpload(Upload):
    """For an object that a mesh is given of."""

    mesh: Path
    unit: str
    symmetry: str | None


@dataclass(frozen=True)
class DepthUpload(Upload):
    """For an object of a category, in a photo with depth."""

    depth: DepthHint
    category: str


def harden_pictures() -> None:
    """Makes Pillow refuse huge pictures and start no other program, in this process.

    It would hand EPS pictures, also those within meshes, to Ghostscript.
    """
    EpsImagePlugin.gs_binary = False
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow raises an error at twice this


def receive(
    photo: FileStorage | None, meshes: Sequence[FileStorage], form: Mapping[str, str], folder: Path
) -> MeshUpload:
    """Saves the files below `folder` and reads the form's fields; raises `InputError`."""
    meshes = [file for file in meshes if file.filename]
    saved = [_save(file, folder / "mesh") for file in meshes]
    for path in saved:
        if saved.count(path) > 1:
            raise InputError(f"{path.name} is there twice: choose one of them")
    models = [path for path in saved if path.suffix.lower() in MESH_SUFFIXES]
    if len(models) != 1:
        names = " ".join(path.name for path in saved) or "nothing"
        raise InputError(f"{names}: choose one mesh ({' '.join(MESH_SUFFIXES)}) and the files that it names")
    return MeshUpload(
        photo=_save_picture(photo, folder / "photo"),
        mesh=models[0],
        camera=_camera(form),
        place=PlaceHint([_box(form)] if any(_text(form, side) for side in SIDES) else ()),
        unit=_text(form, "unit") or "auto",
        symmetry=_text(form, "symmetry") or None,
    )


def receive_depth(
    photo: FileStorage | None,
    depth: FileStorage | None,
    mask: FileStorage | None,
    form: Mapping[str, str],
    folder: Path,
) -> DepthUpload:
    """As `receive`, for an object of a category; it is in the box if there is no mask."""
    masked = mask is not None and mask.filename
    return DepthUpload(
        photo=_save_picture(photo, folder / "photo"),
        camera=_camera(form),
        place=PlaceHint([_save_picture(mask, folder / "mask") if masked else _box(form)]),
        depth=DepthHint(_save_depth(depth, folder / "depth"), _text(form, "depth_unit") or "auto"),
        category=_text(form, "category"),
    )


def _save_picture(file: FileStorage | None, folder: Path) -> Path:
    if file is None or not file.filename:
        raise InputError("no photo: choose one")
    path = _save(file, folder)
    _check_picture(path)
    return path


def _save_depth(file: FileStorage | None, folder: Path) -> Path:
    if file is None or not file.filename:
        raise InputError("no depth image: choose one")
    path = _save(file, folder)
    if path.suffix.lower() != ".npy":
        _check_picture(path, "a PNG or TIFF file")
    return path


def _save(file: FileStorage, folder: Path) -> Path:
    """Saves a file in a folder under the last part of its name."""
    name = Path(file.filename.replace("\\", "/")).name
    if not name.isprintable() or name.startswith(".") or not 0 < len(name.encode()) <= LONGEST_NAME:
        raise InputError(f"{name[:40]!a} is no name for a file: rename it")
    folder.mkdir(parents=True, exist_ok=True)
    file.save(folder / name)
    return folder / name


def _check_picture(path: Path, remedy: str = "a JPEG or PNG file") -> None:
    """Refuses files that are no pictures, and too large ones, before their pixels are read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            count = image.width * image.height
    except Image.DecompressionBombError:
        count = MAX_PIXELS + 1
    except (OSError, ValueError, SyntaxError):
        if kind := kind_of(path):
            raise InputError(f"{path} is a {kind} photo: convert it to JPEG") from None
        raise InputError(f"{path} is no picture that can be read: choose {remedy}") from None
    if count > MAX_PIXELS:
        raise InputError(f"{path} has more than {MAX_PIXELS / 1e6:.0f} million pixels: choose a smaller copy")


def _box(form: Mapping[str, str]) -> list[float]:
    return [_number(form, name) for name in SIDES]


def _camera(form: Mapping[str, str]) -> CameraHint:
    kind = _text(form, "camera") or "exif"
    if kind == "fov":
        return CameraHint(fov=_number(form, "fov"))
    if kind == "K":
        return CameraHint(K=[_text(form, name) for name in ("fx", "fy", "cx", "cy")])
    if kind != "exif":
        raise InputError(f"camera {kind!r}: choose exif, fov or K")
    return CameraHint()


def _number(form: Mapping[str, str], name: str) -> float:
    text = _text(form, name)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name} {text!r} is no number: correct it")
    return number


def _text(form: Mapping[str, str], name: str) -> str:
    text = form.get(name, "").strip()
    if len(text) > LONGEST_FIELD:
        raise InputError(f"{name} has {len(text)} characters: write at most {LONGEST_FIELD}")
    return text
