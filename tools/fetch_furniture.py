"""Fetches Debian's free furniture models as training meshes: `python -m tools.fetch_furniture`.

The package sweethome3d-furniture is downloaded with apt-get and unpacked with dpkg, but not installed,
so none of its code runs. Its catalogues (.sh3f) are zip files with a list and OBJ models; each model under
CC0 or CC BY becomes a GLB file in metres, z up, with few faces and small textures. A table beside them lists
authors and licences.
"""

import argparse
import csv
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import trimesh
from PIL import Image

from picopose.rendering.decimation import decimated
from picopose.rendering.mesh import Mesh, read_mesh, vertex_colors
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import write_atomically
from picopose.utils.processes import end_with_parent
from picopose.utils.unpack import unpack

PACKAGE = "sweethome3d-furniture"
CATALOGUE = "PluginFurnitureCatalog.properties"
MAX_FACES, MAX_TEXTURE = 4000, 512  # a crop shows no more; px
FREE = {  # statement in a catalogue: licence; the first match counts
    r"public domain|\bcc.?0\b": "CC0 1.0",
    r"attribution 3\.0 united states": "CC BY 3.0 US",
    r"attribution 3\.0": "CC BY 3.0",
    r"attribution 4\.0": "CC BY 4.0",
}
UNFREE = r"non.?commercial|no.?deriv|share.?alike"


@dataclass(frozen=True)
class Piece:
    """A model of a catalogue."""

    file: str  # as a training mesh
    author: str
    licence: str
    source: str  # catalogue and path in it


def read_properties(text: str) -> dict[str, str]:
    """The entries of a Java properties file, including those on several lines."""
    lines = re.sub(r"\\\r?\n\s*", "", text).splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith(("#", "!")))
    return {key.strip(): value.strip() for key, value in pairs}


def licence_of(statement: str) -> str | None:
    """The licence that a catalogue's statement names, or None if it is not one of `FREE`."""
    statement = statement.lower()
    if re.search(UNFREE, statement):
        return None
    return next((name for pattern, name in FREE.items() if re.search(pattern, statement)), None)


def pieces(folder: Path, name: str) -> Iterator[tuple[Piece | None, Path]]:
    """Models of an unpacked catalogue with their files; None without a free licence."""
    try:
        entries = read_properties((folder / CATALOGUE).read_text(encoding="latin-1"))
    except OSError:
        raise InputError(f"{name}: no {CATALOGUE} in it; download it again") from None
    common, seen = entries.get("license", ""), set()
    for key, value in entries.items():
        if not key.startswith("model#") or value in seen:
            continue
        seen.add(value)
        number, path = key.removeprefix("model#"), PurePosixPath(value.lstrip("/"))
        author, licence = entries.get(f"creator#{number}", ""), entries.get(f"license#{number}", common)
        licence = licence_of(licence)
        inside = ".." not in path.parts
        file = re.sub(r"[^a-z0-9]+", "_", f"{path.parts[0]}_{path.stem}".lower())
        known = licence and author and inside
        yield Piece(file, author, licence, f"{name}/{path}") if known else None, folder / path


def convert(path: Path, out: Path) -> str | None:
    """Writes an OBJ model as GLB with few faces; returns the reason if that fails, else None."""
    try:
        mesh = decimated(_small_texture(read_mesh(path)), MAX_FACES)
    except InputError as error:
        return str(error)
    extent = np.ptp(mesh.vertices, axis=0)
    if not len(mesh.faces) or extent.min() < 1e-3 * extent.max():
        return f"{path.name} is flat"
    upright = mesh.vertices[:, [0, 2, 1]] * np.float32([1, -1, 1])
    normals = mesh.normals[:, [0, 2, 1]] * np.float32([1, -1, 1])
    # Catalogues are in centimetres, but training shows objects at any size.
    mesh = replace(mesh, vertices=upright * np.float32(0.5 / extent.max()), normals=normals)
    with write_atomically(out) as temporary:
        _scene(mesh).export(temporary)
    return None


def _small_texture(mesh: Mesh) -> Mesh:
    if mesh.texture is None:
        return mesh
    layers = mesh.texture.reshape(-1, *mesh.texture.shape[-3:])
    size = tuple(min(side, MAX_TEXTURE) for side in layers.shape[2:0:-1])
    small = [cv2.resize(layer, size, interpolation=cv2.INTER_AREA) for layer in layers]
    return replace(mesh, texture=np.stack(small))


def _scene(mesh: Mesh) -> trimesh.Scene:
    """One part per texture, and one for the rest."""
    layer = np.full(len(mesh.vertices), -1) if mesh.uv is None else mesh.uv[:, 2].round().astype(int)
    colors, scene = vertex_colors(mesh), trimesh.Scene()
    for number in np.unique(layer):
        faces = mesh.faces[layer[mesh.faces[:, 0]] == number]
        if not len(faces):
            continue
        used, faces = np.unique(faces, return_inverse=True)
        part = trimesh.Trimesh(
            mesh.vertices[used], faces.reshape(-1, 3), vertex_normals=mesh.normals[used], process=False
        )
        if number < 0:
            part.visual.vertex_colors = colors[used]
        else:
            image, tint = Image.fromarray(mesh.texture[number]), [*colors[used[0]], 255]
            material = trimesh.visual.material.PBRMaterial(baseColorTexture=image, baseColorFactor=tint)
            part.visual = trimesh.visual.TextureVisuals(uv=mesh.uv[used, :2], material=material)
        scene.add_geometry(part)
    return scene


def package(deb: Path | None, folder: Path) -> list[Path]:
    """The catalogues of the package, unpacked into the folder; downloads the package unless given."""
    if deb is None:
        _run(["apt-get", "download", PACKAGE], folder)
        deb = next(folder.glob(f"{PACKAGE}_*.deb"))
    _run(["dpkg", "-x", str(deb.resolve()), "package"], folder)
    return sorted((folder / "package").rglob("*.sh3f"))


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True)
    except (OSError, subprocess.CalledProcessError):
        what = " ".join(command)
        raise InputError(f"{what} failed: fetch {PACKAGE} on Debian or Ubuntu, or name its file") from None


def write_table(path: Path, kept: Iterable[Piece]) -> None:
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(field.name for field in fields(Piece))
        table.writerows(astuple(piece) for piece in sorted(kept, key=lambda piece: piece.file))


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("data/furniture"), help="folder for the meshes")
    parser.add_argument(
        "--table", type=Path, help="CSV of authors and licences; OUT/furniture.csv by default"
    )
    parser.add_argument("--deb", type=Path, help="the package, if it is there already")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    left_out: Counter[str] = Counter()
    kept: list[Piece] = []
    processes = ProcessPoolExecutor(options.processes, initializer=end_with_parent)
    with tempfile.TemporaryDirectory() as folder, processes as pool:
        jobs = []
        for archive in package(options.deb, Path(folder)):
            try:
                unpack(archive, Path(folder) / archive.stem)
                found = list(pieces(Path(folder) / archive.stem, archive.name))
            except InputError as error:
                left_out["damaged catalogue"] += 1
                print(error)
                continue
            left_out["no free licence or author"] += sum(piece is None for piece, _ in found)
            for piece, path in found:
                if piece is not None:
                    jobs.append((piece, pool.submit(convert, path, options.out / f"{piece.file}.glb")))
        for piece, job in jobs:
            if reason := job.result():
                left_out["unusable model"] += 1
                print(f"{piece.source}: {reason}")
            else:
                kept.append(piece)
    write_table(options.table or options.out / "furniture.csv", kept)
    print(f"{len(kept)} meshes in {options.out}; left out: {dict(left_out)}")


if __name__ == "__main__":
    main()
