"""LINEMOD's test photos as a data set in BOP's layout: runs, scores and reports take it like any other.

The scene of a photo is its object's id. Photos and measured depth are linked, not copied.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from picopose.datasets.bop import MM
from picopose.datasets.images import read_depth
from picopose.datasets.linemod.classes import ObjectClass, find_class, read_classes
from picopose.datasets.linemod.photos import K
from picopose.datasets.linemod.refine import CONVERTED, RefinePhotos
from picopose.rendering.mesh import load_mesh, make_mesh, read_triangles
from picopose.rendering.one_texture import with_one_texture
from picopose.rendering.ply_writer import write_ply
from picopose.utils.errors import InputError
from picopose.utils.files import make_folder, write_atomically

_TOLERANCE = np.float32(0.015)  # m: what is measured so far before an object hides it, by BOP's rule


def write_bop_set(
    root: Path, out: Path, names: Iterable[str] = (), *, progress: Callable[[list], Iterable] = iter
) -> None:
    """Writes the data set to a folder that is not there or empty.

    root: folder of the downloads. names: classes; all whose test photos are there if none are named.

    Raises:
        InputError: a file is missing or damaged, or `out` holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already, and not empty: name another folder, or remove it")
    sources = _sources(root / CONVERTED / "LM6d_refine", list(names))
    make_folder(out.parent)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        made = Path(folder) / "set"
        for photos in progress(sources):
            _write_scene(photos, made / f"test/{photos.shown.obj_id:06d}")
            _write_model(root / CONVERTED / "models" / photos.shown.name, photos.shown, made)
        _write_lists(sources, made)
        made.replace(out)


def _write_lists(sources: list[RefinePhotos], out: Path) -> None:
    """The targets, in the order of the lists; the objects; the camera."""
    targets = [_target(photos.shown, number) for photos in sources for number in photos.numbers]
    _write_json(out / "test_targets_bop19.json", targets)
    infos = {photos.shown.obj_id: _model_info(photos.shown, out) for photos in sources}
    for folder in ("models", "models_eval"):
        _write_json(out / folder / "models_info.json", infos)
    camera = {"fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2], "depth_scale": 1.0}
    _write_json(out / "camera.json", camera | {"width": 640, "height": 480})


def _sources(folder: Path, names: list[str]) -> list[RefinePhotos]:
    """The test photos by class, by id."""
    classes = read_classes(folder)
    chosen = [find_class(classes, name) for name in names]
    if not names:
        lists = folder / "image_set/observed"
        chosen = [known for known in classes.values() if (lists / f"{known.name}_test.txt").is_file()]
        if not chosen:
            raise InputError(f"{lists} holds no list of test photos: name the folder of LINEMOD's downloads")
    chosen = sorted(set(chosen), key=lambda known: known.obj_id)
    return [RefinePhotos.real(folder, known.name, "test") for known in chosen]


def _write_scene(photos: RefinePhotos, folder: Path) -> None:
    tables: dict[str, dict[str, Any]] = {"camera": {}, "gt": {}, "gt_info": {}}
    for number in photos.numbers:
        im_id = int(number)
        if str(im_id) in tables["gt"]:
            raise InputError(f"{photos.listing} lists photo {im_id} twice: correct it")
        _link(photos.photo_path(number), folder / f"rgb/{im_id:06d}.png")
        measured = photos.measured_path(number)
        if measured.is_file():
            _link(measured, folder / f"depth/{im_id:06d}.png")
        pose = photos.pose(number)
        truth = {"obj_id": photos.shown.obj_id, "cam_R_m2c": pose[:3, :3].ravel().tolist()}
        tables["gt"][str(im_id)] = [truth | {"cam_t_m2c": (pose[:3, 3] / MM).tolist()}]
        tables["gt_info"][str(im_id)] = [_visibility(photos.depth_path(number), measured)]
        tables["camera"][str(im_id)] = {"cam_K": K.ravel().tolist(), "depth_scale": 1.0}
    for name, table in tables.items():
        _write_json(folder / f"scene_{name}.json", table)


def _visibility(alone: Path, measured: Path) -> dict[str, Any]:
    """BOP's entry of `gt_info`, by the depth of the object alone and what was measured, if anything was."""
    depth = read_depth(alone)
    whole = depth > 0
    if not whole.any():
        raise InputError(f"{alone} shows no object: download the set again")
    seen, valid = whole, whole
    if measured.is_file():
        found = read_depth(measured)
        if found.shape != depth.shape:
            raise InputError(f"{measured} has another size than {alone}: download both again")
        valid = whole & (found > 0)
        hidden = valid & (depth - found > _TOLERANCE / np.float32(MM))
        seen = whole & ~hidden
    counts = [int(np.count_nonzero(mask)) for mask in (whole, valid, seen)]
    return {
        "bbox_obj": _box(whole),
        "bbox_visib": _box(seen),
        **dict(zip(("px_count_all", "px_count_valid", "px_count_visib"), counts, strict=True)),
        "visib_fract": counts[2] / counts[0],
    }


def _box(mask: np.ndarray) -> list[int]:
    """[x, y, last x - x, last y - y], or -1 for a mask that is empty."""
    if not mask.any():
        return [-1] * 4
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return [int(v) for v in (columns[0], rows[0], columns[-1] - columns[0], rows[-1] - rows[0])]


def _write_model(folder: Path, shown: ObjectClass, out: Path) -> None:
    """The model with its looks, and its form as `{class}.ply` has it, in mm."""
    form = folder / f"{shown.name}.ply"
    vertices, faces = read_triangles(form)
    name = f"obj_{shown.obj_id:06d}.ply"
    write_ply(out / "models_eval" / name, make_mesh(vertices, faces), look=False)
    textured = folder / "textured.obj"
    mesh = load_mesh(textured if textured.is_file() else form, unit="m")
    write_ply(out / "models" / name, with_one_texture(mesh, str(textured)))


def _model_info(shown: ObjectClass, out: Path) -> dict[str, Any]:
    vertices, _ = read_triangles(out / f"models_eval/obj_{shown.obj_id:06d}.ply")
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    info: dict[str, Any] = {"diameter": shown.diameter / MM, "name": shown.name}
    info |= {f"min_{axis}": float(value) for axis, value in zip("xyz", low, strict=True)}
    info |= {f"size_{axis}": float(value) for axis, value in zip("xyz", high - low, strict=True)}
    if shown.symmetric:  # eggbox and glue: half a turn about the vertical
        x, y = (low + high)[:2].tolist()
        info["symmetries_discrete"] = [[-1, 0, 0, x, 0, -1, 0, y, 0, 0, 1, 0, 0, 0, 0, 1]]
    return info


def _target(shown: ObjectClass, number: str) -> dict[str, int]:
    return {"scene_id": shown.obj_id, "im_id": int(number), "obj_id": shown.obj_id, "inst_count": 1}


def _link(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.symlink(file.resolve(), place)
    except OSError:  # a file system without links
        shutil.copyfile(file, place)


def _write_json(path: Path, content: Any) -> None:
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="ascii")
