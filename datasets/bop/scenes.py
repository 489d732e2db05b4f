"""The scenes of a BOP data set: where their files lie and what their tables say, for runs and scores alike.

Sets with several cameras have folders and tables for each: `rgb_cam1`, `depth_cam1`, `scene_camera_cam1.json`
(IPD, XYZ-IBD), or `gray1` beside `scene_camera_gray1.json` (HOT3D).
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from picopose.datasets.bop.entries import Instance, K_of, depth_scale_of, instance_of
from picopose.datasets.layouts import names_in
from picopose.datasets.tables import read_table
from picopose.utils.errors import InputError
from picopose.utils.reading import integer

_LOG = logging.getLogger(__name__)
_PHOTOS, _DEPTHS = ("rgb", "gray"), ("depth",)
_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")  # the first is taken where there are several
_FIRST = ("rgb", "photoneo", "xyz")  # of several cameras, where none is asked for; then by name
_REMEDY = "download the images of the data set again"
TRUTH_REMEDY = "download the annotations of the test images again"


@dataclass(frozen=True)
class Scene:
    """One scene as one of its cameras sees it."""

    folder: Path
    scene_id: int
    camera: str | None  # None where there is one alone, whose name no file bears

    def table(self, name: str) -> Path:
        """The file of `camera`, `gt` or `gt_info` by image."""
        return self.folder / f"scene_{name}{self._suffix}.json"

    @property
    def image_ids(self) -> list[int]:
        """The annotated images."""
        return list(self._truths)

    def photo(self, im_id: int) -> Path | None:
        return self._photos.get(im_id)

    def depth(self, im_id: int) -> Path | None:
        return self._depths.get(im_id)

    def photo_path(self, im_id: int) -> Path:
        """The photo of an image, or an `InputError` that says where it was looked for."""
        path = self.photo(im_id)
        if path is None:
            folders = " or ".join(f"{name}/" for name in self._folders(_PHOTOS))
            raise InputError(
                f"image {im_id} not found in {self.folder} ({folders}): download the images again"
            )
        return path

    def mask_dir(self, *, visible: bool) -> Path:
        """The folder of the objects' masks: of what is seen of each, or of its whole silhouette."""
        return self.folder / f"{'mask_visib' if visible else 'mask'}{self._suffix}"

    def K(self, im_id: int) -> np.ndarray:
        """(3, 3) float64, to the last digit of the file."""
        where, entry = self._entry("camera", self._cameras, im_id)
        if not isinstance(entry, dict) or "cam_K" not in entry:
            lens = isinstance(entry, dict) and "cam_model" in entry
            remedy = "undistort the photos, their cam_model is no pinhole's" if lens else _REMEDY
            raise InputError(f"{where} has no cam_K: {remedy}")
        return K_of(entry["cam_K"], f"{where}: cam_K")

    def size(self, im_id: int) -> tuple[int, int] | None:
        """Width and height in px of the images that the camera is stated for; None where it is not."""
        where, entry = self._entry("camera", self._cameras, im_id)
        if not isinstance(entry, dict) or not {"width", "height"} <= entry.keys():
            return None
        return integer(entry["width"], f"{where}: width"), integer(entry["height"], f"{where}: height")

    def depth_scale(self, im_id: int) -> float:
        """Metres per count of the depth image."""
        where, entry = self._entry("camera", self._cameras, im_id)
        return depth_scale_of(entry.get("depth_scale", 1.0), f"{where}: depth_scale")

    def annotations(self, im_id: int) -> list[tuple[dict, dict]]:
        """The entries of an image in `gt` and `gt_info`, object by object."""
        where, truths = self._entry("gt", self._truths, im_id)
        info_where, infos = self._entry("gt_info", self._infos, im_id)
        for place, entries in ((where, truths), (info_where, infos)):
            if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                raise InputError(f"{place} has no list of annotated objects: {TRUTH_REMEDY}")
        if len(truths) != len(infos):
            raise InputError(f"{where}: {len(truths)} objects, but {len(infos)} in gt_info: {TRUTH_REMEDY}")
        return list(zip(truths, infos, strict=True))

    def instances(self, im_id: int) -> list[Instance]:
        """The annotated objects of an image; an `InputError` for poses that cannot be."""
        where = f"{self.table('gt')}: image {im_id}"
        pairs = enumerate(self.annotations(im_id))
        return [instance_of(truth, info, f"{where}, object {index}") for index, (truth, info) in pairs]

    @property
    def _suffix(self) -> str:
        return "" if self.camera is None else f"_{self.camera}"

    @cached_property
    def _cameras(self) -> dict[int, Any]:
        return read_table(self.table("camera"), of="image", remedy=_REMEDY)

    @cached_property
    def _truths(self) -> dict[int, Any]:
        return read_table(self.table("gt"), of="image", remedy=TRUTH_REMEDY)

    @cached_property
    def _infos(self) -> dict[int, Any]:
        return read_table(self.table("gt_info"), of="image", remedy=TRUTH_REMEDY)

    @cached_property
    def _photos(self) -> dict[int, Path]:
        return _numbered(self.folder / name for name in self._folders(_PHOTOS))

    @cached_property
    def _depths(self) -> dict[int, Path]:
        return _numbered(self.folder / name for name in self._folders(_DEPTHS))

    def _folders(self, kinds: tuple[str, ...]) -> list[str]:
        """Names of the folders that images of a kind may lie in, the likeliest first."""
        if self.camera is None:
            return list(kinds)
        own = [f"{kind}_{self.camera}" for kind in kinds] + [self.camera] * (kinds == _PHOTOS)
        # A folder without the name of a camera can only be meant where there is no other one.
        return own + (list(kinds) if len(cameras_in(self.folder)) == 1 else [])

    def _entry(self, name: str, table: dict[int, Any], im_id: int) -> tuple[str, Any]:
        return f"{self.table(name)}: image {im_id}", table.get(im_id)


def open_scenes(split_dir: Path, scene_ids: Iterable[int], camera: str | None = None) -> dict[int, Scene]:
    """Scenes by id, as `camera` sees them; if None, as their one camera or the first of several does."""
    folders = _numbered_folders(split_dir)
    scenes = {}
    for scene_id in dict.fromkeys(scene_ids):
        folder = folders.get(scene_id)
        if folder is None:
            raise InputError(
                f"scene {split_dir / f'{scene_id:06d}'} not found: "
                f"download the images again (in {split_dir}: {names_in(split_dir)})"
            )
        scenes[scene_id] = Scene(folder, scene_id, _camera(folder, camera))
    return scenes


def tell_cameras(scenes: Iterable[Scene]) -> None:
    """Says which of several cameras is taken where none was asked for."""
    taken = defaultdict(list)
    for scene in scenes:
        if len(cameras_in(scene.folder)) > 1:
            taken[scene.camera].append(scene)
    for camera, chosen in taken.items():
        others = ", ".join(cameras_in(chosen[0].folder))
        _LOG.warning(
            "%s: of the cameras %s, %s is taken in %d scenes; choose another by its name",
            *(chosen[0].folder.parent, others, camera, len(chosen)),
        )


def cameras_in(folder: Path) -> list[str]:
    """Names of the cameras that a scene has tables of; none where its one camera is not named."""
    return sorted(path.stem.removeprefix("scene_camera_") for path in folder.glob("scene_camera_*.json"))


def _camera(folder: Path, wanted: str | None) -> str | None:
    names = cameras_in(folder)
    if wanted is not None:
        if wanted not in names:
            there = f"there are {', '.join(names)}" if names else "its camera has no name"
            raise InputError(f"{folder} has no camera {wanted!r}: {there}")
        return wanted
    if (folder / "scene_camera.json").is_file() or not names:
        return None
    return next((name for name in _FIRST if name in names), names[0])


def _numbered(folders: Iterable[Path]) -> dict[int, Path]:
    """The images by the number that is their name, which may be padded; those of earlier folders first."""
    found: dict[int, Path] = {}
    for folder in folders:
        files = [
            path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES and path.stem.isdecimal()
        ]
        for path in sorted(files, key=lambda path: (_SUFFIXES.index(path.suffix.lower()), path.name)):
            found.setdefault(int(path.stem), path)
    return found


def _numbered_folders(split_dir: Path) -> dict[int, Path]:
    folders = sorted(path for path in split_dir.glob("*") if path.name.isdecimal() and path.is_dir())
    return {int(path.name): path for path in reversed(folders)}
