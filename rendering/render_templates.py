"""Renders the templates of objects into files.

An object's images are written into a temporary folder, which is renamed when complete; its poses are written
last. So an interrupted run continues with the objects that have no poses yet.
"""

import logging
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from picopose.rendering.mesh import Mesh, load_mesh
from picopose.rendering.mesh_digest import mesh_digest
from picopose.rendering.renderer import Renderer, Rendering
from picopose.rendering.viewpoints import object_poses
from picopose.utils import template_files
from picopose.utils.errors import InputError
from picopose.utils.files import locked, make_folder, remove_leftovers, write_atomically, write_error
from picopose.utils.mesh_file import MeshFile
from picopose.utils.processes import run
from picopose.utils.reading import read_array

LOG = logging.getLogger(__name__)

# Run-length coding after the "up" filter: half the time of OpenCV's default at the same size.
PNG_OPTIONS = (
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_FILTER,
    cv2.IMWRITE_PNG_FILTER_UP,
)
TEMPLATE_FILE = re.compile(r"\d{6}(_depth)?\.png")  # as `template_files.image_files` names them


@dataclass(frozen=True)
class Job:
    """One object to render into files."""

    mesh: MeshFile
    templates: Path  # folder of the data set's templates
    name: str
    n_views: int
    depth_unit: float  # m per count of the depth images


def render_view(renderer: Renderer, mesh: Mesh, cam_from_obj: np.ndarray) -> Rendering:
    """One template: white ambient light, black background, size and camera of `utils.template_files`."""
    return renderer.render([(mesh, cam_from_obj)], np.array(template_files.K), *template_files.SIZE)


def is_complete(job: Job) -> bool:
    """Whether all templates of an object exist and were rendered from the present mesh.

    The images are counted as templates may have been copied in part. Templates without a digest, such as the
    authors', are assumed to be of this mesh.
    """
    digest = template_files.digest_file(job.templates, job.name)
    try:
        poses = read_array(template_files.poses_file(job.templates, job.name))
        images = sum(1 for _ in (job.templates / job.name).glob("*.png"))
        if poses.shape != (job.n_views, 4, 4) or images != 2 * job.n_views:
            return False
        return not digest.exists() or digest.read_text(encoding="utf-8") == _digest(job)
    except (OSError, ValueError):
        return False


def _digest(job: Job) -> str:
    """Digest of everything that an object's templates depend on."""
    return mesh_digest(job.mesh.path, job.mesh.unit, job.mesh.aim, job.n_views, job.depth_unit)


def render_object(job: Job) -> str:
    """Writes one object's templates in the layout of the original; returns the object's name."""
    folder, unfinished = job.templates / job.name, job.templates / f".{job.name}.tmp"
    poses_path = template_files.poses_file(job.templates, job.name)
    _check_replaceable(folder)  # better now than after rendering
    mesh = load_mesh(job.mesh.path, unit=job.mesh.unit)
    digest = _digest(job)
    poses = object_poses(mesh.vertices, job.n_views, aim=job.mesh.aim)
    _remove_images(unfinished)
    make_folder(unfinished)
    with Renderer() as renderer:
        for index, pose in enumerate(poses):
            view = render_view(renderer, mesh, pose)
            rgb_path, depth_path = template_files.image_files(job.templates, job.name, index)
            _write_view(view, unfinished / rgb_path.name, unfinished / depth_path.name, job.depth_unit)
    poses_path.unlink(missing_ok=True)
    _remove_images(folder)
    os.replace(unfinished, folder)
    in_mm = poses.copy()
    in_mm[:, :3, 3] *= 1000
    with write_atomically(template_files.digest_file(job.templates, job.name)) as temporary:
        temporary.write_text(digest, encoding="utf-8")
    with write_atomically(poses_path) as temporary:
        np.save(temporary, in_mm)
    return job.name


def _remove_images(folder: Path) -> None:
    _check_replaceable(folder)
    if folder.exists():
        shutil.rmtree(folder)


def _check_replaceable(folder: Path) -> None:
    """Raises an `InputError` for a folder that holds other files, which may be the user's."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder} is in the way of templates: move it elsewhere")
    for path in folder.iterdir() if folder.exists() else ():
        if not TEMPLATE_FILE.fullmatch(path.name) or path.is_dir():
            raise InputError(f"{path} is no template image, so {folder} is not replaced: move it elsewhere")


def _write_view(view: Rendering, rgb_path: Path, depth_path: Path, depth_unit: float) -> None:
    bgra = cv2.cvtColor(view.rgb, cv2.COLOR_RGB2BGRA)
    bgra[..., 3] = view.mask * np.uint8(255)
    counts = view.depth * np.float32(1 / depth_unit) + np.float32(0.5)
    if counts.max() >= 1 << 16:
        raise InputError(f"{depth_path}: {view.depth.max():.1f} m do not fit 16 bits: rescale the model")
    for path, image in ((rgb_path, bgra), (depth_path, counts.astype(np.uint16))):
        if not cv2.imwrite(str(path), image, PNG_OPTIONS):
            raise write_error(path, OSError()) or InputError(f"{path} cannot be written: check permissions")


def render_all(jobs: Sequence[Job], processes: int) -> None:
    """Renders what is not complete yet; a failing object is reported and does not stop the others.

    Raises an `InputError` if another program is rendering into one of the folders.
    """
    with ExitStack() as stack:
        for folder in sorted({job.templates for job in jobs}):
            refusal = "templates are being rendered into it by another program: wait for its end"
            stack.enter_context(locked(folder, refusal))
            _remove_unfinished(folder)
        _render_all(jobs, processes)


def _remove_unfinished(folder: Path) -> None:
    """Removes unfinished files of killed runs."""
    remove_leftovers(folder)
    for unfinished in folder.glob(".*.tmp"):
        if unfinished.is_dir() and all(TEMPLATE_FILE.fullmatch(path.name) for path in unfinished.iterdir()):
            shutil.rmtree(unfinished)
            LOG.info("%s: images that a killed run has left unfinished are removed", unfinished)


def _render_all(jobs: Sequence[Job], processes: int) -> None:
    todo = [job for job in jobs if not is_complete(job)]
    if len(todo) < len(jobs):
        print(f"{len(jobs) - len(todo)} of {len(jobs)} objects are done: delete folders to redo them")
    failures = []
    with tqdm(total=len(todo), unit="object", disable=not todo) as bar:
        for failure in run(_attempt, todo, min(processes, len(todo))):
            bar.update()
            if failure:
                bar.write(f"error: {failure}")
                failures.append(failure)
    if failures:
        more = f" (and {len(failures) - 1} more objects, see above)" if len(failures) > 1 else ""
        raise InputError(f"{failures[0]}{more}")


def _attempt(job: Job) -> InputError | None:
    try:
        render_object(job)
    except InputError as error:
        return error
    return None
