"""Matches the entries of a detection file with the user's photos and objects.

Unused entries and photos without entries are logged.
"""

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Self

from picopose.datasets.detection_files import REMEDY, Entry, ImageName, Region, read_entries
from picopose.datasets.masks.regions import box_mask
from picopose.utils.errors import InputError
from picopose.utils.masks import cut_out
from picopose.utils.records import Mask

_LOG = logging.getLogger(__name__)
_SHOWN = 5  # names in a message
_NAMELESS = {"mesh": "add its mesh, named so", "category": "name its detections so"}  # remedies


@dataclass(frozen=True)
class Place:
    """A region of a photo that may show an object."""

    mask: Mask
    name: str | None = None  # of the object; None: any


@dataclass(frozen=True)
class Marked:
    """A detection in a photo with the object's name."""

    region: Region
    name: str | None

    def place(self, size: tuple[int, int]) -> Place:
        """The place in a photo of `size` (height, width): its mask, or its box without one."""
        pixels = self.region.mask(size)
        if pixels is not None and pixels.any():
            return Place(cut_out(pixels), self.name)
        try:
            return Place(box_mask(self.region.box, *size), self.name)
        except InputError as error:
            raise InputError(f"{self.region.where}: {error}") from None


def find_places(
    path: Path,
    photos: Sequence[Path],
    names: Collection[str],
    *,
    min_score: float = 0.0,
    ids: Mapping[int, str] | None = None,
) -> dict[Path, list[Marked]]:
    """The detections of the named objects in each photo.

    An entry belongs to the photo with its file name (`image`, or in COCO's `images`), or with its `image_id`
    and `scene_id`, the numbers in `000001/rgb/000004.png` or `scene_1/0004_color.png`; without any of these,
    to all photos. It belongs to the object with its name (`label`, or in COCO's `categories`), or whose name
    ends in its `category_id`; without either, to any. If there is only one photo or object, and the entries
    are all of one other image or object, they are used for it, with a log message.

    ids: where the names are of categories and not of meshes, the `category_id` of entries without a name.

    Raises an `InputError` if no entry can be used.
    """
    by_photo = _by_photo(path, [_Photo.of(photo) for photo in photos], min_score)
    named = _named([entry for found in by_photo.values() for entry in found], names, path, ids)
    places = {
        photo: [Marked(entry.region(), named[entry.where]) for entry in found if entry.where in named]
        for photo, found in by_photo.items()
    }
    if empty := [photo.name for photo, found in places.items() if not found]:
        _LOG.info("%s: nothing in %d of %d photos: %s", path, len(empty), len(photos), _some(empty))
    return places


@dataclass(frozen=True)
class _Photo:
    """A photo with the ids in its path.

    000001/rgb/000004.png and NOCS's scene_1/0004_color.png are image 4 of scene 1.
    """

    path: Path
    im_id: int | None
    scene_id: int | None

    @classmethod
    def of(cls, path: Path) -> Self:
        folder, above = path.resolve().parent.name, path.resolve().parent.parent.name
        stem = path.stem.removesuffix("_color")
        of_nocs = stem != path.stem
        scene = folder.removeprefix("scene_") if of_nocs else above
        is_scene = (of_nocs or folder.startswith(("rgb", "gray"))) and scene.isdecimal()
        im_id = int(stem) if stem.isdecimal() else None
        return cls(path, im_id, int(scene) if is_scene else None)

    def shows(self, image: ImageName) -> bool:
        """Whether an entry of this image belongs to the photo; one without a name belongs to all."""
        if image.file is not None:
            file = PureWindowsPath(image.file)  # splits at both kinds of slashes
            return file.name in (self.path.name, self.path.stem)
        if image.im_id not in (None, self.im_id):
            return False
        return image.scene_id is None or self.scene_id in (None, image.scene_id)


def _by_photo(path: Path, photos: Sequence[_Photo], min_score: float) -> dict[Path, list[Entry]]:
    """The entries of each photo with at least this score."""
    by_photo: dict[Path, list[Entry]] = {photo.path: [] for photo in photos}
    images: Counter[ImageName] = Counter()
    of_first: list[Entry] = []  # files may be large: keep only what may be used
    too_low = 0
    for entry in read_entries(path):
        if (1.0 if entry.score is None else entry.score) < min_score:
            too_low += 1
            continue
        images[entry.image] += 1
        if len(images) == 1:
            of_first.append(entry)
        for photo in photos:
            if photo.shows(entry.image):
                by_photo[photo.path].append(entry)
    if not images:
        problem = f"none of its {too_low} scores reaches min_score {min_score:g}: lower it"
        raise InputError(f"{path}: {problem if too_low else f'it holds no detections: {REMEDY}'}")
    if not any(by_photo.values()):
        _check_meant(path, list(images), photos)
        return {photos[0].path: of_first}
    for photo in photos:
        scenes = {entry.image.scene_id for entry in by_photo[photo.path]}
        if photo.scene_id is None and len(scenes) > 1:
            raise InputError(
                f"{path} has entries of {photo.path.name} in several scenes ({_some(map(str, scenes))}): "
                "keep the photo in SCENE/rgb/"
            )
    return by_photo


def _check_meant(path: Path, images: list[ImageName], photos: Sequence[_Photo]) -> None:
    """Accepts, with a log message, one image for one photo whose name is no number; refuses all else."""
    if len(images) == len(photos) == 1 and images[0].file is None and photos[0].im_id is None:
        _LOG.info("%s: its detections are of %s; taken for %s", path, images[0], photos[0].path.name)
        return
    raise InputError(
        f"{path}: none of its detections is of {_some(photo.path.name for photo in photos)}, they are of "
        f"{_some(map(str, images))}: name photos by the numbers of their images, or give the entries the "
        "photo's name as image"
    )


def _named(
    entries: list[Entry], names: Collection[str], path: Path, ids: Mapping[int, str] | None
) -> dict[str, str | None]:
    """The object of each entry by its `where`, None for any; entries of other objects are left out."""
    kind = "mesh" if ids is None else "category"
    numbers = _numbers(names) if ids is None else {number: [name] for number, name in ids.items()}
    named: dict[str, str | None] = {}
    others: Counter[str] = Counter()
    exact = untold = 0
    for entry in entries:
        by_number = entry.obj_id in numbers and (ids is None or entry.label is None)
        if entry.label in names or by_number:
            named[entry.where] = entry.label if entry.label in names else _only(numbers, entry)
            exact += 1
        elif entry.label is None and (entry.obj_id is None or (not numbers and len(names) > 1)):
            named[entry.where] = next(iter(names)) if len(names) == 1 else None
            untold += entry.obj_id is not None
        else:
            others[_object(entry)] += 1
    if len(others) == len(names) == 1 and not exact:
        (other,), (alone,) = others, names
        _LOG.info("%s: its detections are of %s; taken for %s, the only %s", path, other, alone, kind)
        return dict.fromkeys((entry.where for entry in entries), alone)
    if others and not named:
        raise InputError(
            f"{path}: its detections are of {_some(others)}: no {kind} has this name or number "
            f"({', '.join(names)}); {_NAMELESS[kind]}"
        )
    if untold:
        _LOG.info("%s: no %s's name ends in a number, so all are tried in %d entries", path, kind, untold)
    if others:
        counts = _some(f"{count} of {name}" for name, count in others.items())
        _LOG.warning("%s: left out, as no %s has this name or number: %s", path, kind, counts)
    return named


def _numbers(names: Collection[str]) -> dict[int, list[str]]:
    """The objects by the number at the end of their names."""
    numbers: dict[int, list[str]] = {}
    for name in names:
        if found := re.search(r"(\d+)$", name):
            numbers.setdefault(int(found[1]), []).append(name)
    return numbers


def _only(numbers: dict[int, list[str]], entry: Entry) -> str:
    name, *others = numbers[entry.obj_id]
    if others:
        raise InputError(
            f"{entry.where} is of object {entry.obj_id}, which {name} and {others[0]} could be: rename a mesh"
        )
    return name


def _object(entry: Entry) -> str:
    if entry.label is None:
        return f"object {entry.obj_id}"
    return repr(entry.label) if entry.obj_id is None else f"{entry.label!r} ({entry.obj_id})"


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
