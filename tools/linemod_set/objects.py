"""The two objects of the set: textured, without symmetry; their files and the frames that files are in."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from picopose.rendering.mesh import Mesh, diameter
from picopose.rendering.ply_writer import write_ply
from tools.mini_set.bop_files import write_image
from tools.mini_set.objects import named_objects
from tools.mini_set.objects_mini import mug
from tools.mini_set.objects_unseen import detergent_jug

IDS = {"mug": 1, "detergent_jug": 5}
FRAMES = {  # bop_from_blender: Euler angles in degrees, and a translation in m
    "mug": ((90, 0, 35), (0.012, -0.004, 0.031)),
    "detergent_jug": ((-20, 100, 5), (-0.02, 0.043, 0.008)),
}


@dataclass(frozen=True, eq=False)
class Thing:
    """An object of the set."""

    name: str
    obj_id: int
    mesh: Mesh
    bop_from_blender: np.ndarray  # (4, 4) m, from the frame of PVNet's models to the mesh's


def things() -> list[Thing]:
    return [_thing(named.name, named.mesh) for named in named_objects((mug, detergent_jug))]


def _thing(name: str, mesh: Mesh) -> Thing:
    angles, shift = FRAMES[name]
    frame = np.eye(4)
    frame[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    frame[:3, 3] = shift
    return Thing(name, IDS[name], mesh, frame)


def write_models(root: Path, shown: list[Thing]) -> None:
    """The list of classes, and each class's `textured.obj` with its texture and its form as PLY, in m."""
    classes = [{"name": t.name, "id": t.obj_id, "diameter": diameter(t.mesh.vertices)} for t in shown]
    (root / "classes.json").write_text(json.dumps(classes, indent=1) + "\n")
    for thing in shown:
        folder = root / "LM6d_converted/models" / thing.name
        folder.mkdir(parents=True)
        places, index = np.unique(thing.mesh.vertices, axis=0, return_inverse=True)
        form = Mesh(places, index.ravel()[thing.mesh.faces].astype(np.int32), np.zeros_like(places))
        write_ply(folder / f"{thing.name}.ply", form, look=False, scale=1.0)
        write_image(folder / "texture_map.png", thing.mesh.texture)
        (folder / "textured.mtl").write_text("newmtl look\nKd 1 1 1\nmap_Kd texture_map.png\n")
        (folder / "textured.obj").write_text(_obj(thing.mesh, places, index.ravel()))


def _obj(mesh: Mesh, places: np.ndarray, place_of: np.ndarray) -> str:
    """An OBJ file in which each place is one vertex, however many coordinates of the texture it has."""
    lines = ["mtllib textured.mtl", "usemtl look"]
    lines += ["v {:.9g} {:.9g} {:.9g}".format(*row) for row in places.tolist()]
    lines += ["vt {:.7g} {:.7g}".format(*row) for row in mesh.uv.tolist()]
    lines += ["vn {:.6g} {:.6g} {:.6g}".format(*row) for row in mesh.normals.tolist()]
    for face in mesh.faces:
        lines.append("f " + " ".join(f"{place_of[k] + 1}/{k + 1}/{k + 1}" for k in face))
    return "\n".join(lines) + "\n"
