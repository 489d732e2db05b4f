"""Reads the rendered templates of an object from the folder layout of the original code, as `View`s.

The files are written by `rendering.render_templates` or are those that the authors offer.
"""

import hashlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from picopose.datasets import layouts
from picopose.datasets.images import read_pixels
from picopose.utils import template_files
from picopose.utils.crop import crop_views
from picopose.utils.errors import InputError
from picopose.utils.geometry import rigid
from picopose.utils.reading import read_array
from picopose.utils.records import View

_CHUNK = 8  # whole images held at a time
_FACTOR = math.sqrt(10)  # largest ratio between two estimates of a length; beyond it the unit is wrong

log = logging.getLogger(__name__)


class StoredViews:
    """The templates of one object; images are read on demand.

    Args:
        data_dir: folder of the data sets; `<data_dir>/templates/<name>` holds the templates.
        name: of the data set.
        obj: of the object, as `layouts.find_meshes` names it: a BOP id of six digits, or a mesh's name.
        diameter: of the object, m, if known; it tells the unit of the files.

    Raises an `InputError` with the command to render them if anything is missing or malformed.
    """

    def __init__(self, data_dir: Path | str, name: str, obj: str, *, diameter: float | None = None):
        self._folder = layouts.templates_dir(data_dir, name)
        self._obj = obj
        self._remedy = f"run python -m picopose templates --dataset {name} --data_dir {data_dir}"
        self._check_version()
        poses = self._poses()
        self._check_views(len(poses))
        self._depth_unit, unit = self._units(poses, layouts.template_depth_unit(name), diameter)
        self.cam_from_obj = rigid(poses[:, :3, :3], poses[:, :3, 3] * unit).float()  # (V, 4, 4) m

    def __len__(self) -> int:
        return len(self.cam_from_obj)

    def digest(self) -> str:
        """Identifies the templates by what they were rendered from, or else by their files."""
        record = template_files.digest_file(self._folder, self._obj)
        if record.is_file():
            return record.read_text(encoding="utf-8").strip()
        digest = hashlib.sha256(self.cam_from_obj.numpy().tobytes())
        for view in range(len(self)):
            for path in template_files.image_files(self._folder, self._obj, view):
                status = path.stat()
                digest.update(f"{path} {status.st_size} {status.st_mtime_ns}".encode())
        return digest.hexdigest()

    def read(self, size: int, views: Sequence[int] | None = None) -> View:
        """Views (V, ...) of all templates, or of those with the given indices, cropped to `size` px."""
        return View.cat(list(self.chunks(size, views)))

    def chunks(self, size: int, views: Sequence[int] | None = None) -> Iterator[View]:
        """As `read`, a few views at a time."""
        views = range(len(self)) if views is None else views
        K = torch.tensor(template_files.K)
        for start in range(0, len(views), _CHUNK):
            chosen = list(views[start : start + _CHUNK])
            rgba, counts = (torch.stack(maps) for maps in zip(*map(self._images, chosen), strict=True))
            depth = counts * self._depth_unit
            self._check_distances(chosen, depth)
            yield crop_views(
                rgba[..., :3].permute(0, 3, 1, 2).float() / 255,
                depth,
                rgba[..., 3] >= 128,
                K.expand(len(chosen), 3, 3),
                self.cam_from_obj[chosen],
                size,
            )

    def _check_version(self) -> None:
        """Refuses templates rendered by an earlier version of this program; the authors' have no record."""
        record = template_files.digest_file(self._folder, self._obj)
        if record.is_file() and not template_files.is_current(record.read_text(encoding="utf-8")):
            raise InputError(
                f"the templates of object {self._obj} in {self._folder} are of an earlier version of this "
                f"program, seen from another distance: {self._remedy}"
            )

    def _check_views(self, count: int) -> None:
        """Every pose has its two images, and there is no image without a pose."""
        for view in range(count):
            for path in template_files.image_files(self._folder, self._obj, view):
                if not path.is_file():
                    raise InputError(f"template {path} not found: {self._remedy}")
        surplus, _ = template_files.image_files(self._folder, self._obj, count)
        if surplus.exists():
            raise InputError(f"template {surplus} has no pose, of {count} poses in all: {self._remedy}")

    def _check_distances(self, views: Sequence[int], depth: Tensor) -> None:
        """Refuses views whose depth (n, H, W) m is in another unit than the first one's."""
        for view, image in zip(views, depth, strict=True):
            distance = float(self.cam_from_obj[view, 2, 3])
            if (image > 0).any() and not 1 / _FACTOR < _mean(image) / distance < _FACTOR:
                _, path = template_files.image_files(self._folder, self._obj, view)
                raise InputError(
                    f"template {path} shows the object {_mean(image):.3g} m away, its pose says "
                    f"{distance:.3g} m: delete {path.parent} and {self._remedy}"
                )

    def _images(self, view: int) -> tuple[Tensor, Tensor]:
        """RGBA (H, W, 4) uint8 and depth (H, W) float32, in counts of the file, of one view."""
        image_path, depth_path = template_files.image_files(self._folder, self._obj, view)
        rgba = self._checked(image_path, np.uint8, (4,))
        depth = self._checked(depth_path, np.uint16, ())
        return torch.from_numpy(rgba), torch.from_numpy(depth.astype(np.float32))

    def _checked(self, path: Path, dtype: type, channels: tuple[int, ...]) -> np.ndarray:
        redo = f"delete {path.parent} and {self._remedy}"  # complete folders are not rendered again
        try:
            pixels = read_pixels(path)
        except InputError as error:
            raise InputError(f"template {path} is damaged: {redo} ({error})") from None
        width, height = template_files.SIZE
        if pixels.shape != (height, width, *channels) or pixels.dtype != dtype:
            expected = (
                f"{width}x{height} px, {channels[0] if channels else 1} channel(s) of {np.dtype(dtype)}"
            )
            raise InputError(f"template {path} is {pixels.shape} {pixels.dtype}, not {expected}: {redo}")
        return pixels

    def _units(self, poses: Tensor, usual: float, diameter: float | None) -> tuple[float, float]:
        """Metres per count of the depth and per unit of the poses (V, 4, 4), guessed from the files.

        Both are in mm (BOP), both in 0.1 mm (training sets by the original's scripts), or the depth is in
        0.1 mm and the poses are in mm (training sets by this program). The last kind is
        recognised by depth and pose of a view; the others by the object's diameter, or else `usual`.
        """
        where = f"object {self._obj} in {self._folder}"
        view, counts = self._first_surface(poses)
        distance = float(poses[view, 2, 3])
        if not 1 / _FACTOR < counts / distance < 10 * _FACTOR:
            raise InputError(
                f"{where}: view {view} shows it {counts * usual:.3g} m away, its pose says {distance:.4g} mm"
                f": {self._remedy}"
            )
        finer = counts / distance > _FACTOR
        unit = 1e-3 if finer else usual
        if diameter is not None:
            diameters = distance / (2 * diameter)  # cameras are two diagonals of the bounding box away
            unit = unit if finer else min((1e-3, 1e-4), key=lambda unit: abs(math.log(diameters * unit)))
            if not 1 / _FACTOR < diameters * unit < _FACTOR:
                raise InputError(
                    f"{where}: seen from {distance * unit:.3g} m, which is not about twice its diameter of "
                    f"{diameter:.3g} m: {self._remedy}"
                )
        depth_unit = 1e-4 if finer else unit
        if depth_unit != usual:
            log.warning(
                "%s: its templates' depth is read in %g mm, as it fits the poses", where, depth_unit * 1e3
            )
        return depth_unit, unit

    def _first_surface(self, poses: Tensor) -> tuple[int, float]:
        """The first view that shows a surface, and its mean depth in counts."""
        for view in range(len(poses)):
            counts = self._images(view)[1]
            if (counts > 0).any():
                return view, _mean(counts)
        raise InputError(f"no template of object {self._obj} in {self._folder} shows it: {self._remedy}")

    def _poses(self) -> Tensor:
        """(V, 4, 4) float64 in the unit of the file."""
        path = template_files.poses_file(self._folder, self._obj)
        try:
            poses = read_array(path)
        except FileNotFoundError:
            raise InputError(
                f"no templates of object {self._obj}, {path} not found: {self._remedy}"
            ) from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}): {self._remedy}") from None
        if poses.dtype.kind != "f" or poses.shape[1:] != (4, 4):
            raise InputError(f"{path} holds no poses (V, 4, 4): {self._remedy}")
        poses = torch.from_numpy(poses.astype(np.float64))
        rotation, translation = poses[:, :3, :3], poses[:, :3, 3]
        skewed = (rotation @ rotation.mT - torch.eye(3)).abs().amax(dim=(1, 2)) > 1e-3
        good = ~skewed & (translation[:, 2] >= 1) & poses.isfinite().all(dim=(1, 2))
        if len(poses) == 0 or not good.all():
            raise InputError(f"{path} holds what is no pose in mm: {self._remedy}")
        return poses


def _mean(depth: Tensor) -> float:
    """Mean over the pixels (H, W) that show a surface."""
    return float(depth.sum() / (depth > 0).sum())


class StoredTemplates:
    """The templates of several objects, cropped to `size` px, as `model.templates.store` asks for them."""

    def __init__(self, templates: Mapping[int, StoredViews], size: int):
        self._templates, self._size = templates, size

    def digest(self, obj_id: int) -> str:
        return self._templates[obj_id].digest()

    def views(self, obj_id: int) -> Iterator[View]:
        return self._templates[obj_id].chunks(self._size)
