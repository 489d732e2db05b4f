"""The readers that damaged files are fed to: for each, good files, the program's call, and a sound value.

They are called as the programs call them, so that what one function lets through another may refuse.
"""

import functools
import io
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import timm  # noqa: F401  before any graphics context
import torch
import yaml
from PIL import Image
from torch import nn

from datasets.bop import BopTestSet
from datasets.journal import Journal, read_journals
from datasets.kept_pairs import KeptPairs, begin_record, end_record, write_shard
from datasets.megapose import SUFFIXES, MegaPosePairs
from datasets.objects import read_objects
from datasets.results import Estimate, ImageResult, read_details, write_csv, write_details
from datasets.templates import Templates
from demo.shots import CameraHint, PlaceHint, Shot, read_shot
from evaluation.eval_models import load_models
from evaluation.ground_truth import GroundTruth, load_ground_truth
from evaluation.scoring import score_csv
from model.factory import load_network
from rendering.mesh import MAX_DIAMETER, MIN_DIAMETER, Mesh, diameter, load_mesh
from run_train import Run
from tests.mutation_cases import Reader
from tests.small_bop import HEIGHT, WIDTH, K, box_mask, detection, dump, load, photo, runs_of, write_set
from utils import layouts
from utils.config import Config, load_config, to_yaml
from utils.crop import crop_views
from utils.images import read_image
from utils.structs import Pair, View

SECRET = "a value of the environment"
os.environ["PICO_MUTATION_SECRET"] = os.environ["HOME"] = SECRET


def sound(truth: Any, what: str) -> None:
    if not truth:
        raise AssertionError(what)


def finite(*values: Any) -> bool:
    return all(np.isfinite(np.asarray(value, dtype=float)).all() for value in values)


def is_rotation(matrix: np.ndarray) -> bool:
    """Whether (..., 3, 3) are rotations, as exactly as files spell them."""
    matrix = np.asarray(matrix, dtype=float)
    squares = matrix @ np.swapaxes(matrix, -1, -2) - np.eye(3)
    return finite(matrix) and (np.abs(squares) < 0.05).all() and (np.linalg.det(matrix) > 0).all()


def is_camera(matrix: np.ndarray) -> bool:
    matrix = np.asarray(matrix, dtype=float)
    return finite(matrix) and min(matrix[0, 0], matrix[1, 1]) > 0 and matrix[2].tolist() == [0, 0, 1]


# Meshes: a box of 100 x 60 x 40 mm with colours or a texture.

CORNERS = np.array([[x, y, z] for x in (-50, 50) for y in (-30, 30) for z in (-20, 20)], np.float32)
SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
FACES = np.array([[side[0], side[k], side[k + 1]] for side in SIDES for k in (1, 2)], np.int32)
NORMALS = np.array([[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]], np.float32)
UV = np.array([[k / 8, 1 - k / 8] for k in range(8)], np.float32)
COLOURS = np.array([[30 * k, 255 - 30 * k, 100] for k in range(8)], np.uint8)


def rows(*tables: np.ndarray, before: str = "") -> str:
    """Lines of text, the numbers of several tables side by side."""
    return "".join(
        before + " ".join(f"{value:g}" for table in tables for value in table[k]) + "\n"
        for k in range(len(tables[0]))
    )


def texture() -> bytes:
    out = io.BytesIO()
    Image.fromarray(photo(3)[:16, :16]).save(out, "png")
    return out.getvalue()


def ply_header(form: str, columns: str, comment: str = "") -> str:
    properties = "".join(f"property {column}\n" for column in columns.split(", "))
    return (
        f"ply\nformat {form} 1.0\n{comment}element vertex 8\n{properties}element face 12\n"
        "property list uchar int vertex_indices\nend_header\n"
    )


POINTS = "float x, float y, float z"
TINTS = "uchar red, uchar green, uchar blue"
TRIPLES = np.column_stack([np.full(12, 3), FACES])


def write_ply_text(folder: Path) -> None:
    header = ply_header("ascii", f"{POINTS}, {TINTS}")
    (folder / "mesh.ply").write_text(header + rows(CORNERS, COLOURS) + rows(TRIPLES))


def write_ply_binary(folder: Path) -> None:
    header = ply_header("binary_little_endian", f"{POINTS}, {TINTS}")
    vertices = b"".join(struct.pack("<3f3B", *CORNERS[k], *COLOURS[k]) for k in range(8))
    faces = b"".join(struct.pack("<B3i", 3, *face) for face in FACES)
    (folder / "mesh.ply").write_bytes(header.encode() + vertices + faces)


def write_ply_texture(folder: Path) -> None:
    header = ply_header("ascii", f"{POINTS}, float s, float t", "comment TextureFile look.png\n")
    (folder / "mesh.ply").write_text(header + rows(CORNERS, UV) + rows(TRIPLES))
    (folder / "look.png").write_bytes(texture())


def write_obj(folder: Path) -> None:
    corners = rows(CORNERS, before="v ") + rows(UV, before="vt ")
    names = ["f " + " ".join(f"{i + 1}/{i + 1}" for i in face) for face in FACES]
    (folder / "mesh.obj").write_text(
        "mtllib look.mtl\n"
        + corners
        + "usemtl one\n"
        + "\n".join(names[:6])
        + "\nusemtl two\n"
        + "\n".join(names[6:])
    )
    (folder / "look.mtl").write_text(
        "newmtl one\nKd 0.8 0.8 0.8\nmap_Kd look.png\n\nnewmtl two\nKd 0.2 0.4 0.6\n"
    )
    (folder / "look.png").write_bytes(texture())


def write_off(folder: Path) -> None:
    (folder / "mesh.off").write_text("OFF\n8 12 0\n" + rows(CORNERS) + rows(TRIPLES))


def write_stl_binary(folder: Path) -> None:
    triangles = b"".join(struct.pack("<12fH", 0, 0, 1, *CORNERS[face].ravel(), 0) for face in FACES)
    (folder / "mesh.stl").write_bytes(b"a box".ljust(80) + struct.pack("<I", 12) + triangles)


def write_stl_text(folder: Path) -> None:
    corners = [f"outer loop\n{rows(CORNERS[face], before='vertex ')}endloop\n" for face in FACES]
    facets = "".join(f"facet normal 0 0 1\n{corner}endfacet\n" for corner in corners)
    (folder / "mesh.stl").write_text(f"solid box\n{facets}endsolid box\n")


def gltf(views: list[bytes], buffer: dict, image: dict) -> dict:
    """The lists of a glTF file of two nodes, whose views are vertices, uv, faces and perhaps the texture."""
    starts = np.cumsum([0] + [len(view) for view in views]).tolist()
    low, high = CORNERS.min(axis=0).tolist(), CORNERS.max(axis=0).tolist()
    return {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {"mesh": 0, "scale": [1, 1, 1], "children": [1]},
            {"mesh": 0, "translation": [0, 0, 60], "rotation": [0, 0, 0, 1]},
        ],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": 2, "material": 0}]}
        ],
        "materials": [
            {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "baseColorFactor": [1, 0.9, 0.8, 1]}}
        ],
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [{"wrapS": 10497, "wrapT": 10497}],
        "images": [image],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 8, "type": "VEC3", "min": low, "max": high},
            {"bufferView": 1, "componentType": 5126, "count": 8, "type": "VEC2"},
            {"bufferView": 2, "componentType": 5123, "count": 36, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": start, "byteLength": len(view)}
            for start, view in zip(starts, views, strict=False)
        ],
        "buffers": [buffer | {"byteLength": starts[-1]}],
    }


GLTF_VIEWS = [CORNERS.tobytes(), UV.tobytes(), FACES.astype(np.uint16).tobytes()]


def write_gltf(folder: Path) -> None:
    dump(folder / "mesh.gltf", gltf(GLTF_VIEWS, {"uri": "mesh.bin"}, {"uri": "look.png"}))
    (folder / "mesh.bin").write_bytes(b"".join(GLTF_VIEWS))
    (folder / "look.png").write_bytes(texture())


def write_glb(folder: Path) -> None:
    picture = texture()
    views = [*GLTF_VIEWS, picture + bytes(-len(picture) % 4)]
    lists = gltf(views, {}, {"bufferView": 3, "mimeType": "image/png"})
    (folder / "mesh.glb").write_bytes(glb(lists, b"".join(views)))


def glb(lists: dict, body: bytes) -> bytes:
    text = json.dumps(lists).encode()
    text += b" " * (-len(text) % 4)
    header = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(body), len(text), 0x4E4F534A)
    return header + text + struct.pack("<II", len(body), 0x004E4942) + body


def write_ply_polygons(folder: Path) -> None:
    """Big-endian, with four-sided faces that have colours, and an element that nobody reads."""
    header = (
        "ply\nformat binary_big_endian 1.0\nelement vertex 8\nproperty double x\nproperty double y\n"
        "property double z\nproperty float nx\nproperty float ny\nproperty float nz\nelement camera 1\n"
        "property list ushort float values\nelement face 7\nproperty list uchar uint vertex_index\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"
    )
    vertices = b"".join(struct.pack(">3d3f", *corner, 0, 0, 1) for corner in CORNERS.tolist())
    other = struct.pack(">H2f", 2, 0.5, 1.5)
    sides = [*SIDES[:5], *FACES[10:].tolist()]
    faces = [struct.pack(f">B{len(side)}I3B", len(side), *side, 10, 20, 200) for side in sides]
    (folder / "mesh.ply").write_bytes(header.encode() + vertices + other + b"".join(faces))


def write_obj_relative(folder: Path) -> None:
    """Faces that count backwards, with normals; colours at the vertices, libraries, a map with an option."""
    corners = rows(CORNERS, COLOURS / 255, before="v ") + rows(UV, before="vt ") + rows(NORMALS, before="vn ")
    named = ["f " + " ".join(f"{i - 8}/{i - 8}/{k - 6}" for i in side) for k, side in enumerate(SIDES)]
    plain = ["f " + " ".join(f"{i + 1}//1" for i in side) for side in SIDES[4:]]
    lines = [
        "mtllib one.mtl",
        "mtllib two.mtl",
        "o box",
        corners + "usemtl one",
        *named[:4],
        "usemtl two",
        *plain,
    ]
    (folder / "mesh.obj").write_text("\n".join(lines) + "\n")
    (folder / "one.mtl").write_text("newmtl one\nKd 1 1 1\nmap_Kd -blendu on -o 0 0 0 look.png\n")
    (folder / "two.mtl").write_text("newmtl two\nKd 0.2 0.4 0.6\nd 1\n")
    (folder / "look.png").write_bytes(texture())


def write_coff(folder: Path) -> None:
    faces = "".join(f"4 {' '.join(map(str, side))} 0.5 0.25 1.0\n" for side in SIDES)
    colours = np.column_stack([COLOURS, np.full(8, 255)])
    (folder / "mesh.off").write_text("COFF\n# a box\n8 6 0\n" + rows(CORNERS, colours) + faces)


def write_glb_packed(folder: Path) -> None:
    """Quantised vertices beside each other, sparse ones, a strip, colours and a texture that is turned."""
    picture = texture()
    points = np.zeros((8, 10), np.int16)  # x, y, z, -; u, v; r, g, b, a in the bytes of two
    points[:, :3] = np.round(CORNERS / 50 * 32767)
    points[:, 4:6] = np.round(UV * 65535).astype(np.uint16).view(np.int16)
    tints = np.column_stack([COLOURS, np.full(8, 255, np.uint8)])
    points[:, 6:8] = np.ascontiguousarray(tints).view(np.int16)
    strip = np.array([0, 1, 2, 3, 6, 7, 4, 5, 0, 1, 3], np.uint16)
    moved = np.array([1.2, 0.2, 0.1], np.float32).tobytes()
    views = [points.tobytes(), FACES.astype(np.uint32).tobytes(), strip.tobytes() + bytes(2)]
    views += [b"\0" * 4, moved, (CORNERS / 50).tobytes(), picture + bytes(-len(picture) % 4)]
    starts = np.cumsum([0] + [len(view) for view in views]).tolist()
    turned = {"KHR_texture_transform": {"offset": [0.1, 0.2], "rotation": 0.5, "scale": [2, 2]}}
    parts = [
        {"attributes": {"POSITION": 0, "TEXCOORD_0": 1, "COLOR_0": 2}, "indices": 3, "material": 0},
        {"attributes": {"POSITION": 5}, "indices": 4, "mode": 5},
    ]
    sparse = {"count": 1, "indices": {"bufferView": 3, "componentType": 5125}, "values": {"bufferView": 4}}
    short, packed = {"bufferView": 0, "count": 8, "normalized": True}, ["KHR_mesh_quantization"]
    matrix = np.diag([50.0, 50, 50, 1]).ravel().tolist()
    lists = {
        "asset": {"version": "2.0"},
        "extensionsUsed": [*packed, "KHR_texture_transform"],
        "extensionsRequired": packed,
        "nodes": [{"children": [1, 2]}, {"mesh": 0, "matrix": matrix}, {"mesh": 0, "scale": [9, 9, 9]}],
        "scenes": [{"nodes": [0]}],
        "meshes": [{"primitives": parts}],
        "materials": [
            {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0, "texCoord": 0, "extensions": turned}}}
        ],
        "textures": [{"source": 0}],
        "images": [{"bufferView": 6, "mimeType": "image/png"}],
        "accessors": [
            short | {"componentType": 5122, "type": "VEC3", "min": [-32767] * 3, "max": [32767] * 3},
            short | {"byteOffset": 8, "componentType": 5123, "type": "VEC2"},
            short | {"byteOffset": 12, "componentType": 5121, "type": "VEC4"},
            {"bufferView": 1, "componentType": 5125, "count": 36, "type": "SCALAR"},
            {"bufferView": 2, "componentType": 5123, "count": 11, "type": "SCALAR"},
            {"bufferView": 5, "componentType": 5126, "count": 8, "type": "VEC3", "sparse": sparse},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": start, "byteLength": len(view)}
            | ({"byteStride": 20} if k == 0 else {})
            for k, (start, view) in enumerate(zip(starts, views, strict=False))
        ],
        "buffers": [{"byteLength": starts[-1]}],
    }
    (folder / "mesh.glb").write_bytes(glb(lists, b"".join(views)))


def read_any_mesh(folder: Path) -> Mesh:
    return load_mesh(next(folder.glob("mesh.[pogs][lfbt]*")))


def check_mesh(mesh: Mesh) -> None:
    sound(
        len(mesh.faces) and mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices),
        "faces of no vertices",
    )
    sound(finite(mesh.vertices, mesh.normals), "vertices or normals that are not finite")
    lengths = np.linalg.norm(mesh.normals, axis=1)
    sound(((lengths < 1e-6) | (np.abs(lengths - 1) < 1e-3)).all(), "normals that are not of length 1")
    sound(MIN_DIAMETER <= diameter(mesh.vertices) <= MAX_DIAMETER, "a diameter that cannot be")
    sound(mesh.colors is None or mesh.colors.shape == mesh.vertices.shape, "not a colour for each vertex")
    if mesh.uv is not None:
        sound(
            len(mesh.uv) == len(mesh.vertices) and finite(mesh.uv), "texture coordinates that are not finite"
        )
        sound(mesh.texture.size > 0 and mesh.texture.shape[-1] == 3, "an empty texture")


def mesh(write: Callable[[Path], None], *files: tuple[str, str], whole: bool = True) -> Reader:
    return Reader(write, read_any_mesh, check_mesh, files, whole)


# Photos.


def write_photo(folder: Path, name: str, *, grey: bool = False, bits: int = 8, **options: Any) -> None:
    Image.fromarray(photo(3, grey=grey, bits=bits)).save(folder / name, **options)


def exif_of_a_camera() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 1  # orientation: upright
    exif.get_ifd(0x8769).update({0xA405: 35, 0x920A: 4.5})  # focal lengths in mm, on film and here
    return exif


def check_photo(image: torch.Tensor) -> None:
    sound(
        image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] == 3 and image.numel(),
        "no RGB image",
    )


def pictures(name: str, form: str = "binary", **options: Any) -> Reader:
    def write(folder: Path) -> None:
        write_photo(folder, name, **options)

    return Reader(write, lambda folder: read_image(folder / name), check_photo, [(name, form)])


# Cameras, masks and detections of a user's own photo.

FX, _, CX, _, FY, CY, *_ = K
SIZES = {"width": WIDTH, "height": HEIGHT}
ROS = {
    "image_width": WIDTH,
    "image_height": HEIGHT,
    "camera_name": "front",
    "camera_matrix": {"rows": 3, "cols": 3, "data": K},
    "distortion_model": "plumb_bob",
    "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.0] * 5},
}
BENT = ROS | {"distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.05, -0.02, 0.001, 0.0, 0.0]}}
CAMERAS = {
    "json-pinhole": ("camera.json", {"fx": FX, "fy": FY, "cx": CX, "cy": CY, "depth_scale": 1.0} | SIZES),
    "json-matrix": ("camera.json", {"cam_K": K}),
    "json-rows": ("camera.json", {"K": [K[:3], K[3:6], K[6:]], "resolution": [HEIGHT, WIDTH]}),
    "json-ros": ("camera.json", {"K": K, "D": [0.0] * 5, "distortion_model": "plumb_bob"} | SIZES),
    "json-realsense": (
        "camera.json",
        {"fx": FX, "fy": FY, "ppx": CX, "ppy": CY, "model": "distortion.brown_conrady", "coeffs": [0.0] * 5}
        | SIZES,
    ),
    "json-open3d": ("camera.json", {"intrinsic_matrix": [FX, 0, 0, 0, FY, 0, CX, CY, 1]} | SIZES),
    "yaml-ros": ("camera.yaml", ROS),
    "yaml-distorted": ("camera.yaml", BENT),
    "text-matrix": ("camera.txt", rows(np.reshape(K, (3, 3)))),
}


def camera(kind: str) -> Reader:
    name, content = CAMERAS[kind]

    def write(folder: Path) -> None:
        write_photo(folder, "photo.png")
        as_yaml = name.endswith("yaml")
        text = yaml.safe_dump(content) if as_yaml else json.dumps(content)
        (folder / name).write_text(content if isinstance(content, str) else text)

    def read(folder: Path) -> Shot:
        return shot(folder / "photo.png", CameraHint(file=str(folder / name)))

    return Reader(write, read, check_shot, [(name, "json" if name.endswith("json") else "text")])


KNOWN = CameraHint(K=[str(value) for value in (FX, FY, CX, CY)])


def shot(
    photo: Path, camera: CameraHint = KNOWN, *, mask: Path | None = None, found: Path | None = None
) -> Shot:
    """A photo as `run_demo.py` reads it, with a box where neither a mask nor detections are given."""
    if found is not None:
        places = PlaceHint(detections=found)
    else:
        places = PlaceHint(masks=[mask]) if mask is not None else PlaceHint(boxes=[(5, 6, 15, 18)])
    return read_shot(photo, camera, places, ["obj_000002"])


def check_shot(shot: Shot) -> None:
    height, width = shot.image.shape[:2]
    sound(
        is_camera(shot.K) and shot.K[0, 0] < 100 * width and shot.K[1, 1] < 100 * height,
        "no camera of this photo",
    )
    for place in shot.places:
        sound(place.mask.shape == (height, width) and place.mask.any(), "an empty mask, or of another size")


def read_with_exif(folder: Path) -> Shot:
    return shot(folder / "photo.jpg", CameraHint())


def write_masked(folder: Path) -> None:
    write_photo(folder, "photo.png")
    Image.fromarray(box_mask(5, 6, 10, 12).astype(np.uint8) * 255).save(folder / "mask.png")


def read_masked(folder: Path) -> Shot:
    return shot(folder / "photo.png", mask=folder / "mask.png")


MASKS = [box_mask(5, 6, 10, 12), box_mask(30, 20, 20, 8)]
BOP_LIST = [detection(3, k + 2, 0.9 - k / 4, (5, 6, 10, 12), mask=MASKS[k]) for k in range(2)]
MEGAPOSE_LIST = [{"label": "obj_000002", "bbox_modal": [5, 6, 15, 18]}]
COCO_FILE = {
    "images": [{"id": 3, "file_name": "000003.png"} | SIZES],
    "categories": [{"id": 2, "name": "obj_000002"}],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 2, "bbox": [5, 6, 10, 12], "iscrowd": 0}
        | {"area": 120, "segmentation": [[5, 6, 15, 6, 15, 18, 5, 18]]}
    ],
}


def places(content: Any) -> Reader:
    def write(folder: Path) -> None:
        write_photo(folder, "000003.png")
        dump(folder / "found.json", content)

    def read(folder: Path) -> Shot:
        return shot(folder / "000003.png", found=folder / "found.json")

    return Reader(write, read, check_shot, [("found.json", "json")])


# Data sets in BOP's layout: runs on them, and their scores.

SCENE = "toy/test/000001"
CSV = "method_toy-test.csv"


def write_bop(folder: Path) -> None:
    write_set(folder)
    write_set(folder, models="models_eval")
    truth = load(folder / SCENE / "scene_gt.json")
    dump(
        folder / SCENE / "scene_gt_info.json",
        {
            im_id: [{"visib_fract": 0.5, "bbox_obj": [5, 6, 10, 12]} for _ in found]
            for im_id, found in truth.items()
        },
    )
    results = [ImageResult(1, im_id, 0.5, (estimate(2), estimate(5)), {"poses": 0.5}) for im_id in (3, 7)]
    write_csv(folder / CSV, results)


def estimate(obj_id: int) -> Estimate:
    rotation, matches = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0), ((1.0, 2.0, 3.0, 4.5),)
    return Estimate(obj_id, 0.5, 0.75, rotation, (0.01, -0.02, 0.5), 0.9, 0.5, 3, 2, matches)


def read_run(folder: Path) -> list:
    dataset = BopTestSet(folder, "toy")
    return [*(dataset[k] for k in range(len(dataset))), dataset.objects, dataset.images]


def check_run(value: list) -> None:
    *observations, objects, _ = value
    for seen in observations:
        height, width = seen.image.shape[1:]
        sound(is_camera(seen.K) and seen.K[0, 0] < 100 * width, "no camera of this photo")
        sound(seen.masks.shape[1:] == (height, width) and seen.masks.any(dim=(1, 2)).all(), "an empty mask")
        sound(finite(seen.boxes, seen.scores, seen.seconds), "boxes or scores that are not finite")
    check_objects(objects)


def check_objects(objects: dict) -> None:
    for info in objects.values():
        sound(MIN_DIAMETER <= info.diameter <= MAX_DIAMETER, "a diameter that cannot be")
        sound(
            is_rotation(info.symmetries_discrete[:, :3, :3]) and finite(info.symmetries_discrete),
            "no rotations",
        )
        for turn in info.symmetries_continuous:
            sound(finite(turn.axis, turn.offset) and abs(np.linalg.norm(turn.axis) - 1) < 1e-6, "no axis")


def read_truth(folder: Path) -> GroundTruth:
    return load_ground_truth(folder / "toy/test", folder / "toy/test_targets_bop19.json", per_object=True)


def check_truth(truth: GroundTruth) -> None:
    for image, wanted in zip(truth.images, truth.targets, strict=True):
        poses = image.cam_from_obj
        sound(is_camera(image.K), "no camera")
        sound(is_rotation(poses[:, :, :3]) and finite(poses), "a pose that is none")
        sound(finite(image.depth_scale) and image.depth_scale > 0, "a scale of depth that cannot be")
        sound(
            ((image.visibility >= 0) & (image.visibility <= 1)).all(),
            "a share of visible pixels beyond 0 to 1",
        )
        sound(all(count >= 0 for count in wanted.values()), "a number of instances that cannot be")


def read_models(folder: Path) -> dict:
    return load_models(folder / "toy", [2, 5])


def check_models(models: dict) -> None:
    for model in models.values():
        sound(1 <= model.diameter <= 10_000, "a diameter that cannot be")
        sound(
            is_rotation(model.symmetries[:, :, :3]) and finite(model.symmetries),
            "symmetries that are no rotations",
        )
        sound(
            finite(model.vertices) and len(model.faces) and model.faces.max() < len(model.vertices), "no mesh"
        )


def read_scores(folder: Path) -> dict:
    return score_csv(folder / CSV, folder / "toy").as_json()


def check_scores(scores: dict) -> None:
    recalls = [value for name, value in scores.items() if isinstance(value, float) and "time" not in name]
    sound(recalls and all(0 <= value <= 1 for value in recalls), "scores beyond 0 to 1")
    json.dumps(scores)


def bop(read: Callable[[Path], Any], check: Callable[[Any], None], *files: tuple[str, str]) -> Reader:
    return Reader(write_bop, read, check, files, whole=not any(file == CSV for file, _ in files))


# What runs leave behind.

FINGERPRINT = {"method": "rendermatch", "hypotheses": 10}
FINISHED = [ImageResult(1, im_id, 0.5, (estimate(2), estimate(5)), {"poses": 0.5}) for im_id in (3, 7)]


def write_journal(folder: Path) -> None:
    with Journal(folder / "run", FINGERPRINT) as journal:
        for result in FINISHED:
            journal.append(result)


def read_journal(folder: Path) -> dict:
    found = read_journals(folder / "run", FINGERPRINT)
    with Journal(folder / "run", FINGERPRINT):
        pass
    write_csv(folder / "out.csv", found.values())
    write_details(folder / "out.json", found.values())
    return found


def check_journal(found: dict) -> None:
    for (scene_id, im_id), result in found.items():
        sound(isinstance(scene_id, int) and isinstance(im_id, int) and finite(result.seconds), "no image")
        for pose in result.estimates:
            sound(isinstance(pose.obj_id, int) and finite(pose.score, pose.translation), "no pose")
            sound(is_rotation(np.reshape(pose.rotation, (3, 3))), "no rotation")
            sound(pose.confidence is None or 0 <= pose.confidence <= 1, "a confidence beyond 0 to 1")


def check_details(found: list) -> None:
    for one in found:
        sound(
            finite(one.detection_score, one.inlier_ratio, *one.phases.values()), "numbers that are not finite"
        )
        sound(
            0 <= one.inlier_ratio <= 1 and one.template >= 0 and one.stage in (1, 2, 3),
            "numbers that cannot be",
        )


# Configurations and checkpoints.

CONFIG = {
    "method": "picopose",
    "model": {"backbone": "resnet10t", "size": 64, "dpt_channels": [32, 32, 32], "half_cell": 0.0},
    "train_dataset": {"meshes": ["meshes"], "shapes": 0.5},
    "train": {"lr": 1.0e-3, "betas": [0.9, 0.98], "steps": 100, "validate_on": ["toy"]},
    "test": {"threshold_px": 4, "hypotheses": 3},
    "log_dir": "log",
}


def write_config(folder: Path) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))


def check_config(config: Config) -> None:
    text = to_yaml(config)
    sound(SECRET not in text, "a configuration that holds a value of the environment")
    sound(".nan" not in text and ".inf" not in text, "numbers that are not finite")


class SmallNetwork(nn.Module):
    """What of a network its checkpoint fills."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.flow, self.viewing_ray, self.floored = SimpleNamespace(half_cell=0.0), True, False


@functools.cache
def trained() -> tuple[SmallNetwork, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = SmallNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    network.norm(network.first(torch.ones(2, 3))).square().sum().backward()
    optimizer.step()
    return network, optimizer


def snapshot() -> dict:
    network, optimizer = trained()
    content = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "step": 7, "best": 0.5}
    return content | {"config": yaml.safe_dump(CONFIG)}


def write_checkpoint(folder: Path, *, legacy: bool = False) -> None:
    torch.save(snapshot(), folder / "network.pt", _use_new_zipfile_serialization=not legacy)


def write_safetensors(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(trained()[0].state_dict(), folder / "network.safetensors")


def read_network(folder: Path) -> list:
    """The weights, and the configuration that an estimator of them would have."""
    from utils.checkpoint import read_checkpoint

    path = next(folder.glob("network.*"))
    network = SmallNetwork()
    load_network(network, path)
    written = read_checkpoint(path).get("config")
    config = (
        None
        if written is None
        else load_config("config/base.yaml", flags={"checkpoint": str(path)}, trained_with=written)
    )
    return [network.state_dict(), config]


def check_network(value: list) -> None:
    weights, config = value
    sound(all(tensor.isfinite().all() for tensor in weights.values()), "weights that are not finite")
    if config is not None:
        check_config(config)


def read_resumed(folder: Path) -> dict:
    """The state of a training run that goes on."""
    network = SmallNetwork()
    run = SimpleNamespace(
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), lr=1e-3),
        config=Config(),
        world=SimpleNamespace(rank=1),
    )
    Run.resume(run, folder / "network.pt")
    return {
        "model": network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "best": run.best,
    }


def check_resumed(state: dict) -> None:
    moments = [value for entry in state["optimizer"]["state"].values() for value in entry.values()]
    sound(
        all(tensor.isfinite().all() for tensor in [*state["model"].values(), *moments]), "numbers not finite"
    )
    sound(isinstance(state["step"], int) and state["step"] >= 0, "no number of steps")


# Training pairs: MegaPose's shards with templates, and pairs that were kept.

SIDE = 80  # px, of a square photo
PIXELS = np.mgrid[:SIDE, :SIDE]
DISC = ((PIXELS - SIDE / 2) ** 2).sum(axis=0) < 30**2
POSE = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 500], [0, 0, 0, 1]])  # mm


def shard_sample() -> dict[str, bytes]:
    rgb = np.stack([2 * PIXELS[0], 3 * PIXELS[1], PIXELS.sum(axis=0)], axis=-1).astype(np.uint8)
    jpeg, depth = io.BytesIO(), io.BytesIO()
    Image.fromarray(rgb).save(jpeg, "jpeg")
    Image.fromarray(np.where(DISC, 5000, 9000).astype(np.uint16)).save(depth, "png")
    tables = (
        {"cam_K": [90.0, 0, 39.5, 0, 90, 39.5, 0, 0, 1], "depth_scale": 0.1},
        [{"obj_id": 1, "cam_R_m2c": POSE[:3, :3].ravel().tolist(), "cam_t_m2c": POSE[:3, 3].tolist()}],
        [{"visib_fract": 1.0, "px_count_valid": int(DISC.sum())}],
        {"0": {"counts": runs_of(DISC), "size": [SIDE, SIDE]}},
    )
    contents = [jpeg.getvalue(), depth.getvalue(), *(json.dumps(table).encode() for table in tables)]
    return dict(zip(SUFFIXES, contents, strict=True))


def write_shards(folder: Path) -> None:
    import tarfile

    root = folder / "MegaPose-GSO"
    dump(root / "gso_models.json", [{"obj_id": 1, "gso_id": "mug"}])
    shards = root / "train_pbr_web"
    shards.mkdir()
    keys = ["000000_000000", "000000_000001"]
    with tarfile.open(shards / "shard-000000.tar", "w") as archive:
        for key in keys:
            for suffix, content in shard_sample().items():
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    dump(shards / "key_to_shard.json", dict.fromkeys(keys, 0))
    write_templates(folder)


def write_templates(folder: Path) -> None:
    """Two views of a disc, half a metre away."""
    templates = layouts.templates_dir(folder, "gso")
    width, height = layouts.TEMPLATE_SIZE
    y, x = np.mgrid[:height, :width]
    shown = (x - width / 2) ** 2 + (y - height / 2) ** 2 < 80**2
    rgba = np.stack([x % 256, y % 256, (x + y) % 256, shown * 255], axis=-1).astype(np.uint8)
    for view in range(2):
        image, depth = layouts.template_files(templates, "000001", view)
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgba).save(image)
        Image.fromarray(np.where(shown, 5000, 0).astype(np.uint16)).save(depth)
    path = layouts.template_poses(templates, "000001")
    path.parent.mkdir()
    turned = np.array([[-1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 500], [0, 0, 0, 1]])
    np.save(path, np.stack([POSE, turned]))


def read_pairs(folder: Path) -> list[Pair]:
    source = MegaPosePairs(folder, "gso", size=32, seed=0)
    return [source.sample(k) for k in range(2)]


def check_pairs(pairs: list[Pair]) -> None:
    for pair in pairs:
        sound(pair.real.mask.any(), "a photo that shows nothing")
        check_view(View.stack([pair.real, pair.template]))


def check_view(views: View) -> None:
    sound(all(tensor.isfinite().all() for tensor in vars(views).values()), "a view that is not finite")
    sound((views.depth >= 0).all() and (views.depth < 100).all(), "a depth that cannot be")
    sound(views.rgb.min() >= 0 and views.rgb.max() <= 1, "colours beyond 0 to 1")
    sound(all(map(is_camera, views.K)), "a camera that is none")
    sound(is_rotation(views.cam_from_obj[:, :3, :3]), "a pose that is none")
    sound(
        ((views.cam_from_obj[:, 2, 3] > 0) & (views.cam_from_obj[:, 2, 3] < 100)).all(),
        "a distance that cannot be",
    )


def write_kept(folder: Path) -> None:
    shown = torch.from_numpy(DISC)[None]
    views = crop_views(
        shown[:, None].expand(1, 3, SIDE, SIDE) / 2,
        shown * 0.5,
        shown,
        torch.tensor([[[90.0, 0, 39.5], [0, 90, 39.5], [0, 0, 1]]]),
        torch.from_numpy(np.where(POSE == 500, 0.5, POSE)).float()[None],
        16,
    )
    view = View(**{name: tensor[0] for name, tensor in vars(views).items()})
    begin_record(folder, {"size": 16}, seed=0)
    write_shard(folder, 0, [Pair(view, view)] * 2, 16)
    end_record(folder, 1)


def read_kept(folder: Path) -> list[Pair]:
    source = KeptPairs(folder, {"size": 16}, seed=0)
    return [source.sample(k) for k in range(2)]


READERS: dict[str, Reader] = {
    "mesh-ply-text": mesh(write_ply_text, ("mesh.ply", "text")),
    "mesh-ply-binary": mesh(write_ply_binary, ("mesh.ply", "headed")),
    "mesh-ply-texture": mesh(write_ply_texture, ("mesh.ply", "text"), ("look.png", "png")),
    "mesh-obj": mesh(write_obj, ("mesh.obj", "text"), ("look.mtl", "text"), ("look.png", "png"), whole=False),
    "mesh-ply-polygons": mesh(write_ply_polygons, ("mesh.ply", "headed")),
    "mesh-obj-relative": mesh(
        write_obj_relative,
        ("mesh.obj", "text"),
        ("mesh.obj", "text"),
        ("one.mtl", "text"),
        ("two.mtl", "text"),
        whole=False,
    ),
    "mesh-off-colours": mesh(write_coff, ("mesh.off", "text")),
    "mesh-glb-packed": mesh(write_glb_packed, ("mesh.glb", "glb")),
    "mesh-glb": mesh(write_glb, ("mesh.glb", "glb")),
    "mesh-gltf": mesh(write_gltf, ("mesh.gltf", "json"), ("mesh.bin", "binary"), ("look.png", "png")),
    "mesh-stl-text": mesh(write_stl_text, ("mesh.stl", "text"), whole=False),
    "mesh-stl-binary": mesh(write_stl_binary, ("mesh.stl", "binary")),
    "mesh-off": mesh(write_off, ("mesh.off", "text")),
    "photo-png": pictures("photo.png", "png"),
    "photo-png-16": pictures("photo.png", "png", grey=True, bits=16),
    "photo-jpeg": pictures("photo.jpg"),
    "photo-tiff": pictures("photo.tif"),
    "photo-tiff-packed": pictures("photo.tif", compression="tiff_lzw"),
    "photo-pgm": pictures("photo.pgm", "headed", grey=True),
    "photo-exif": Reader(
        lambda folder: write_photo(folder, "photo.jpg", exif=exif_of_a_camera()),
        read_with_exif,
        check_shot,
        [("photo.jpg", "binary")],
    ),
    "mask": Reader(write_masked, read_masked, check_shot, [("mask.png", "png")]),
    **{f"camera-{kind}": camera(kind) for kind in CAMERAS},
    "places-bop": places(BOP_LIST),
    "places-coco": places(COCO_FILE),
    "places-megapose": places(MEGAPOSE_LIST),
    "run-detections": bop(read_run, check_run, ("toy/detections.json", "json")),
    "run-targets": bop(read_run, check_run, ("toy/test_targets_bop19.json", "json")),
    "run-cameras": bop(read_run, check_run, (f"{SCENE}/scene_camera.json", "json")),
    "run-objects": bop(read_run, check_run, ("toy/models/models_info.json", "json")),
    "objects": bop(
        lambda folder: read_objects(folder / "toy/models"),
        check_objects,
        ("toy/models/models_info.json", "json"),
    ),
    "truth-targets": bop(read_truth, check_truth, ("toy/test_targets_bop19.json", "json")),
    "truth-poses": bop(read_truth, check_truth, (f"{SCENE}/scene_gt.json", "json")),
    "truth-visibility": bop(read_truth, check_truth, (f"{SCENE}/scene_gt_info.json", "json")),
    "truth-cameras": bop(read_truth, check_truth, (f"{SCENE}/scene_camera.json", "json")),
    "truth-models": bop(
        read_models,
        check_models,
        ("toy/models_eval/models_info.json", "json"),
        ("toy/models_eval/obj_000005.ply", "text"),
    ),
    "results-csv": bop(read_scores, check_scores, (CSV, "text")),
    "results-side-file": Reader(
        lambda folder: write_details(folder / "details.json", FINISHED),
        lambda folder: read_details(folder / "details.json"),
        check_details,
        [("details.json", "json")],
    ),
    "results-journal": Reader(
        write_journal, read_journal, check_journal, [("run/rank0.jsonl", "json lines")], whole=False
    ),
    "config": Reader(
        write_config,
        lambda folder: load_config(folder / "config.yaml"),
        check_config,
        [("config.yaml", "text")],
        whole=False,
    ),
    "checkpoint": Reader(write_checkpoint, read_network, check_network, [("network.pt", "zip")]),
    "checkpoint-legacy": Reader(
        lambda folder: write_checkpoint(folder, legacy=True),
        read_network,
        check_network,
        [("network.pt", "binary")],
    ),
    "checkpoint-safetensors": Reader(
        write_safetensors, read_network, check_network, [("network.safetensors", "safetensors")]
    ),
    "checkpoint-resumed": Reader(write_checkpoint, read_resumed, check_resumed, [("network.pt", "zip")]),
    "shards": Reader(
        write_shards,
        read_pairs,
        check_pairs,
        [("MegaPose-GSO/train_pbr_web/shard-000000.tar", "tar")],
        whole=False,
    ),
    "shards-list": Reader(
        write_shards, read_pairs, check_pairs, [("MegaPose-GSO/train_pbr_web/key_to_shard.json", "json")]
    ),
    "templates": Reader(
        write_templates,
        lambda folder: Templates(folder, "gso", "000001").read(32),
        check_view,
        [
            ("templates/gso/object_poses/000001.npy", "headed"),
            ("templates/gso/000001/000000.png", "png"),
            ("templates/gso/000001/000000_depth.png", "png"),
        ],
    ),
    "kept-pairs": Reader(
        write_kept, read_kept, check_pairs, [("pairs.json", "json"), ("pairs-000000.npy", "headed")]
    ),
}
