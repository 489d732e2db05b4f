"""Writes a data set in BOP's layout: models, images, and annotations by the rules of the BOP toolkit.

Lengths are mm in these files. Annotations are computed from what is stored: the meshes as read back, rounded
poses and depth.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco

from picopose.evaluation.vsd import Window, ray_lengths
from picopose.rendering.mesh import Mesh, diameter
from picopose.rendering.ply_writer import MM, write_ply
from picopose.rendering.renderer import Renderer
from tools.mini_set.objects import NamedObject

VISIBILITY_TOLERANCE = 15.0  # mm
TARGET_VISIBILITY = 0.1


def write_json(path: Path, content: Any) -> None:
    """Writes one line per top-level entry, so that diffs are readable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict):
        lines = [f"{json.dumps(str(key))}: {json.dumps(value)}" for key, value in content.items()]
        text = "{\n" + ",\n".join(lines) + "\n}\n"
    else:
        text = "[\n" + ",\n".join(json.dumps(entry) for entry in content) + "\n]\n"
    path.write_text(text, encoding="utf-8")


def write_image(path: Path, image: np.ndarray, quality: int = 93, compression: int = 9) -> None:
    """Writes a PNG or JPEG, by the suffix; colours are RGB. compression: of a PNG, 0 to 9."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        ".png": [cv2.IMWRITE_PNG_COMPRESSION, compression],
    }
    if not cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image, options[path.suffix]):
        raise OSError(f"cannot write {path}")


def segmentation(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W), not 0 inside, as COCO's compressed run lengths."""
    code = coco.encode(np.asfortranarray(mask != 0, dtype=np.uint8))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def _form(mesh: Mesh) -> Mesh:
    """The mesh with vertices at equal positions merged."""
    vertices, index = np.unique(mesh.vertices, axis=0, return_inverse=True)
    return Mesh(vertices, index.ravel()[mesh.faces].astype(np.int32), np.zeros_like(vertices))


def write_models(root: Path, objects: Sequence[NamedObject]) -> None:
    """Writes `models` (with looks), `models_eval` (geometry only) and `models_info.json`; ids from 1."""
    infos = {}
    for obj_id, thing in enumerate(objects, start=1):
        write_ply(root / f"models/obj_{obj_id:06d}.ply", thing.mesh)
        write_ply(root / f"models_eval/obj_{obj_id:06d}.ply", _form(thing.mesh), look=False)
        infos[obj_id] = _model_info(thing)
    for folder in ("models", "models_eval"):
        write_json(root / folder / "models_info.json", infos)


def _model_info(thing: NamedObject) -> dict[str, Any]:
    vertices = (thing.mesh.vertices.astype(np.float64) * MM).astype(np.float32).astype(np.float64)
    low, size = vertices.min(axis=0), np.ptp(vertices, axis=0)
    info: dict[str, Any] = {"diameter": round(diameter(vertices), 4)}
    info |= {f"min_{axis}": round(float(value), 4) for axis, value in zip("xyz", low, strict=True)}
    info |= {f"size_{axis}": round(float(value), 4) for axis, value in zip("xyz", size, strict=True)}
    if thing.discrete:
        in_mm = [np.block([[t[:3, :3], MM * t[:3, 3:]], [t[3:]]]) for t in thing.discrete]
        info["symmetries_discrete"] = [transform.ravel().tolist() for transform in in_mm]
    if thing.continuous:
        info["symmetries_continuous"] = [
            {"axis": list(axis), "offset": [0, 0, 0]} for axis in thing.continuous
        ]
    return info | {"name": thing.name}


@dataclass(frozen=True)
class Annotation:
    """BOP's annotation of one instance in one image."""

    info: dict[str, Any]  # an entry of scene_gt_info.json
    mask: np.ndarray  # (H, W) bool, the whole silhouette
    mask_visib: np.ndarray  # (H, W) bool, its visible part


def annotate(
    renderer: Renderer, mesh: Mesh, cam_from_obj: np.ndarray, K: np.ndarray, depth_mm: np.ndarray
) -> Annotation:
    """Silhouette, visible part and their counts, as BOP's `calc_gt_masks` and `calc_gt_info` define them.

    A pixel is visible where the model is at most 15 mm behind what was measured (distances along the ray),
    or where nothing was measured. Pixel centres are whole numbers, as in the images. depth_mm (H, W) float32.
    """
    height, width = depth_mm.shape
    shift = np.array([[1, 0, width], [0, 1, height], [0, 0, 1]])
    canvas = renderer.render_depth(mesh, cam_from_obj, shift @ K, 3 * width, 3 * height)
    surface = canvas[height : 2 * height, width : 2 * width] * np.float32(MM)
    whole, mask = canvas > 0, surface > 0
    rays = ray_lengths(K, Window(0, 0, width, height))
    lag = (rays * surface).astype(np.float32) - (rays * depth_mm).astype(np.float32)
    visible = mask & ((lag <= VISIBILITY_TOLERANCE) | (depth_mm == 0))
    total, seen = int(whole.sum()), int(visible.sum())
    info = {
        "bbox_obj": _box(whole, (width, height)) if seen else [-1, -1, -1, -1],
        "bbox_visib": _box(visible, (0, 0)) if seen else [-1, -1, -1, -1],
        "px_count_all": total,
        "px_count_valid": int((mask & (depth_mm > 0)).sum()),
        "px_count_visib": seen,
        "visib_fract": seen / total if total else 0.0,
    }
    return Annotation(info, mask, visible)


def _box(mask: np.ndarray, origin: tuple[int, int]) -> list[int]:
    """[x, y, last x - x, last y - y] of a mask in which the image begins at `origin` (x, y)."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    left, top = int(columns[0]) - origin[0], int(rows[0]) - origin[1]
    return [left, top, int(columns[-1] - columns[0]), int(rows[-1] - rows[0])]


def targets(infos: dict[tuple[int, int], list[tuple[int, float]]]) -> list[dict[str, int]]:
    """Entries of `test_targets_bop19.json` from (obj_id, visib_fract) of every instance by (scene, image)."""
    entries = []
    for (scene_id, im_id), instances in infos.items():
        seen = [obj_id for obj_id, share in instances if share >= TARGET_VISIBILITY]
        for obj_id in sorted(set(seen)):
            count = seen.count(obj_id)
            entries.append({"im_id": im_id, "inst_count": count, "obj_id": obj_id, "scene_id": scene_id})
    return entries
