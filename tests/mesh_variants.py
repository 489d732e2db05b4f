"""One object of the mini set in many files, as meshes come: other units, origins, formats and looks."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from picopose.rendering.mesh import Mesh, load_mesh
from picopose.rendering.renderer import Light
from picopose.rendering.scene import geometries
from tests.rendered import renderer
from tests.shared import ROOT

MODEL = ROOT / "data" / "mini" / "models" / "obj_000002.ply"  # the cereal box: mm, textured
WIDTH, HEIGHT = 320, 240
K = np.array([[600, 0, 159.5], [0, 600, 119.5], [0, 0, 1.0]])
OFFSET = np.array([0.3, -0.2, 0.1])  # m, of the off-centre files
PER_METRE = {"m": 1.0, "cm": 100.0, "mm": 1000.0}


@dataclass(frozen=True)
class Variant:
    """A file of the object; its frame is the original one shifted by `offset` (3,) m."""

    file: str
    unit: str
    offset: np.ndarray
    textured: bool


TEXTURED = (
    Variant("original.ply", "mm", np.zeros(3), True),
    Variant("metres.obj", "m", np.zeros(3), True),
    Variant("off_centre_cm.glb", "cm", OFFSET, True),
)
PLAIN = (
    Variant("metres.ply", "m", np.zeros(3), False),
    Variant("centimetres.obj", "cm", np.zeros(3), False),
    Variant("millimetres.stl", "mm", np.zeros(3), False),
    Variant("off_centre.glb", "m", OFFSET, False),
)


def look(textured: bool) -> Mesh:
    """The object in m, as it is or without any colour."""
    mesh = load_mesh(MODEL)
    return mesh if textured else replace(mesh, colors=None, uv=None, texture=None)


def write(folder: Path, variant: Variant) -> Path:
    """The file of a variant, with what it names beside it."""
    if variant.file == "original.ply":
        shutil.copy(MODEL.with_suffix(".png"), folder)
        return Path(shutil.copy(MODEL, folder))
    (geometry,) = geometries(look(variant.textured))
    if not variant.textured:
        geometry = trimesh.Trimesh(geometry.vertices, geometry.faces, process=False)
    geometry.apply_translation(variant.offset)
    geometry.apply_scale(PER_METRE[variant.unit])
    path = folder / variant.file
    geometry.export(path)
    return path


def true_pose() -> np.ndarray:
    """cam_from_obj (4, 4) m of the object in the photo, in the original frame."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("ZXZ", (20, -130, 200), degrees=True).as_matrix()
    pose[:3, 3] = 0.02, -0.01, 0.71
    return pose


def photo(textured: bool) -> tuple[np.ndarray, np.ndarray]:
    """A photo (H, W, 3) uint8 of the object on a background, and its mask (H, W)."""
    lights = [Light(at=(0.5, -1.0, -0.5), intensity=0.5)]
    pose = true_pose()
    seen = renderer().render([(look(textured), pose)], K, WIDTH, HEIGHT, ambient=0.6, lights=lights)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    background = np.stack([90 + x // 5, 110 + y // 5, np.full_like(x, 120)], axis=-1).astype(np.uint8)
    return np.where(seen.mask[..., None], seen.rgb, background), seen.mask
