"""Writes a small MegaPose set for tests: shards of rendered images, and the templates of their objects."""

import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import trimesh
import webdataset

from picopose.datasets import layouts
from picopose.datasets.training.megapose import SUFFIXES
from picopose.rendering.mesh import Mesh, load_mesh
from picopose.rendering.render_templates import Job, render_object
from picopose.rendering.renderer import Renderer
from picopose.utils.mesh_file import MeshFile
from tests.small_bop import dump, runs_of

WIDTH, HEIGHT = 160, 120
K = np.array([[180.0, 0, 79.5], [0, 181.0, 59.5], [0, 0, 1]])
OBJECTS = {"000001": (1.6, 1.1, 0.7), "000004": (0.9, 1.2, 1.5)}  # sides of boxes, of 0.1 m each
DEPTH_SCALE = 0.1  # mm
PER_SHARD = 3


def write(data_dir: Path, *, shards: int = 3) -> tuple[Path, dict[str, Mesh]]:
    """Folder of the set's shards, and the meshes of its objects by name, in m."""
    root = data_dir / "MegaPose-GSO"
    meshes = {name: _write_mesh(data_dir, root, name) for name in OBJECTS}
    dump(root / "gso_models.json", [{"obj_id": int(name), "gso_id": name} for name in OBJECTS])
    folder = root / "train_pbr_web"
    folder.mkdir()
    listing = {}
    rng = np.random.default_rng(0)
    with Renderer() as renderer:
        for shard in range(shards):
            with webdataset.TarWriter(str(folder / f"shard-{shard:06d}.tar")) as tar:
                for view in range(PER_SHARD):
                    key = f"{shard:06d}_{view:06d}"
                    listing[key] = shard
                    tar.write({"__key__": key} | _sample(rng, renderer, meshes))
    dump(folder / "key_to_shard.json", listing)
    return folder, meshes


def unpack(folder: Path) -> None:
    """Turns the tars into folders of the same names."""
    for tar in folder.glob("*.tar"):
        with tarfile.open(tar) as archive:
            archive.extractall(tar.with_suffix(""), filter="data")
        tar.unlink()


def change(tar: Path, key: str, suffix: str, content: bytes) -> None:
    """Puts another content into a file of a sample."""
    with tarfile.open(tar) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}
    assert f"{key}.{suffix}" in files
    files[f"{key}.{suffix}"] = content
    with tarfile.open(tar, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def _write_mesh(data_dir: Path, root: Path, name: str) -> Mesh:
    path = root / "google_scanned_objects" / "models_normalized" / name / "meshes" / "model.obj"
    path.parent.mkdir(parents=True)
    trimesh.creation.box(OBJECTS[name]).export(path)
    file = MeshFile(path, 0.1, "centre")
    render_object(Job(file, layouts.templates_dir(data_dir, "gso"), name, 42, 1e-4))
    return load_mesh(path, unit=0.1)


def _sample(rng: np.random.Generator, renderer: Renderer, meshes: dict[str, Mesh]) -> dict[str, bytes]:
    """The files of an image with both objects, the first one nearer."""
    poses = []
    for k in range(len(meshes)):
        pose = trimesh.transformations.random_rotation_matrix(rng.random(3))
        pose[:3, 3] = [(-0.09, 0.09)[k], rng.uniform(-0.03, 0.03), (0.5, 0.6)[k]]
        poses.append(pose)
    image = renderer.render(list(zip(meshes.values(), poses, strict=True)), K, WIDTH, HEIGHT)
    masks = [image.ids == k for k in range(len(meshes))]
    jpeg = cv2.imencode(".jpg", image.rgb[..., ::-1])[1]
    depth = cv2.imencode(".png", np.round(image.depth * 1000 / DEPTH_SCALE).astype(np.uint16))[1]
    tables = (
        {"cam_K": K.ravel().tolist(), "depth_scale": DEPTH_SCALE},
        [
            {
                "obj_id": int(name),
                "cam_R_m2c": pose[:3, :3].ravel().tolist(),
                "cam_t_m2c": (1000 * pose[:3, 3]).tolist(),
            }
            for name, pose in zip(meshes, poses, strict=True)
        ],
        [{"visib_fract": 1.0, "px_count_valid": int(mask.sum())} for mask in masks],
        {str(k): {"counts": runs_of(mask), "size": [HEIGHT, WIDTH]} for k, mask in enumerate(masks)},
    )
    contents = [jpeg.tobytes(), depth.tobytes(), *(json.dumps(table).encode() for table in tables)]
    return dict(zip(SUFFIXES, contents, strict=True))
