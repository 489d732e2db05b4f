"""What mesh files say is what arrives: a test for each way of saying it, from files that the tests write."""

import base64
import io
import json
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from picopose.rendering import mesh as meshes
from picopose.rendering.mesh import Mesh, read_mesh, read_triangles
from picopose.utils.errors import InputError

# A box of 90 x 60 x 140, its corners in the order of their bits, and its sides, seen from outside.
BOX = np.array([[x, y, z] for z in (-70, 70) for y in (-30, 30) for x in (-45, 45)], float)
SIDES = np.array([[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]])
FACES = np.concatenate([SIDES[:, [0, 1, 2]], SIDES[:, [0, 2, 3]]])
COLOURS = np.array([[x, y, z] for z in (0, 255) for y in (0, 255) for x in (0, 255)])
UV = np.array([[(x + 45) / 90, (z + 70) / 140] for x, _, z in BOX])
SIZE = (90, 60, 140)


def size(mesh: Mesh) -> np.ndarray:
    return np.ptp(mesh.vertices, axis=0)


def volume(mesh: Mesh) -> float:
    """Positive where the faces look outwards."""
    return float(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).volume)


def corner_uv(mesh: Mesh) -> dict[tuple, tuple]:
    """Texture coordinates by position."""
    return {
        tuple(v): tuple(uv) for v, uv in zip(mesh.vertices.tolist(), mesh.uv[:, :2].tolist(), strict=True)
    }


def colours_at(mesh: Mesh) -> dict[tuple, tuple]:
    return {tuple(v): tuple(c) for v, c in zip(mesh.vertices.tolist(), mesh.colors.tolist(), strict=True)}


BOX_UV = {tuple(v): tuple(uv) for v, uv in zip(BOX.tolist(), UV.tolist(), strict=True)}
BOX_COLOURS = {tuple(v): tuple(c) for v, c in zip(BOX.tolist(), COLOURS.tolist(), strict=True)}


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_mesh(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def picture(kind: str = "PNG", color: tuple = (200, 100, 50)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(file, kind)
    return file.getvalue()


CODES = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
SHAPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}


class Glb:
    """A GLB file of the box, put together piece by piece."""

    def __init__(self, positions: np.ndarray | None = None, faces: np.ndarray | None = FACES, **accessor):
        positions = BOX.astype("f4") if positions is None else positions
        self.binary = b""
        self.lists = {"asset": {"version": "2.0"}, "accessors": [], "bufferViews": [], "scene": 0}
        self.primitive = {"attributes": {"POSITION": self.add(positions, **accessor)}}
        if faces is not None:
            self.primitive["indices"] = self.add(faces.reshape(-1, 1).astype("u2"))
        self.lists |= {"meshes": [{"primitives": [self.primitive]}], "nodes": [{"mesh": 0}]}
        self.lists |= {"scenes": [{"nodes": [0]}]}

    def view(self, content: bytes, **entries) -> int:
        self.binary += b"\0" * (-len(self.binary) % 4)
        view = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(content)} | entries
        self.binary += content
        self.lists["bufferViews"].append(view)
        return len(self.lists["bufferViews"]) - 1

    def add(self, values: np.ndarray, **entries) -> int:
        code, shape = CODES[values.dtype.str[1:]], SHAPES[values.shape[1]]
        accessor = {"bufferView": self.view(values.tobytes()), "componentType": code, "count": len(values)}
        self.lists["accessors"].append(accessor | {"type": shape} | entries)
        return len(self.lists["accessors"]) - 1

    def paint(self, content: bytes = b"", uv: np.ndarray = UV, **info) -> None:
        """A texture; uv are those of the format, with v downwards."""
        content = content or picture()
        self.primitive["attributes"].setdefault("TEXCOORD_0", self.add(uv.astype("f4")))
        self.primitive["material"] = 0
        image = {"bufferView": self.view(content), "mimeType": "image/png"}
        self.lists |= {"images": [image], "textures": [{"source": 0}]}
        self.lists["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0} | info}}]

    def write(self, path: Path) -> Path:
        self.lists["buffers"] = [{"byteLength": len(self.binary)}]
        text = json.dumps(self.lists).encode()
        text += b" " * (-len(text) % 4)
        binary = self.binary + b"\0" * (-len(self.binary) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0")
        length = 12 + len(chunks) + len(binary)
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, length) + chunks + binary)
        return path


@pytest.fixture
def glb(tmp_path) -> Path:
    return tmp_path / "box.glb"


@pytest.mark.parametrize("kind", ["i1", "i2", "u1", "u2"])
def test_gltf_normalised_positions(glb, kind):
    largest = np.iinfo(kind).max
    centre = 0.5 if kind[0] == "u" else 0.0
    share = BOX / 140 + centre
    file = Glb(np.round(share * largest).astype(kind), normalized=True)
    file.lists["nodes"][0] |= {"scale": [140, 140, 140], "translation": [-140 * centre] * 3}
    file.lists |= {"extensionsRequired": ["KHR_mesh_quantization"]}
    mesh = read_mesh(file.write(glb))
    np.testing.assert_allclose(mesh.vertices, BOX, atol=140 / largest)


def test_gltf_quantised_positions_that_are_not_normalised(glb):
    mesh = read_mesh(Glb(BOX.astype("i2")).write(glb))
    np.testing.assert_array_equal(mesh.vertices, BOX)


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_gltf_normalised_texture_coordinates(glb, kind):
    file = Glb()
    share = np.round(UV * np.iinfo(kind).max).astype(kind)
    file.primitive["attributes"]["TEXCOORD_0"] = file.add(share, normalized=True)
    file.paint()
    mesh = read_mesh(file.write(glb))
    np.testing.assert_allclose(mesh.uv[:, :2], UV * [1, -1] + [0, 1], atol=1e-6)


def blender_mapping(uv: np.ndarray, offset, rotation: float, scale) -> np.ndarray:
    """KHR_texture_transform as Blender's importer does it: a mapping of coordinates with v upwards."""
    u, v = uv[:, 0], 1 - uv[:, 1]
    x = offset[0] + scale[1] * np.sin(rotation)
    y = 1 - offset[1] - scale[1] * np.cos(rotation)
    moved_u = np.cos(rotation) * scale[0] * u - np.sin(rotation) * scale[1] * v + x
    moved_v = np.sin(rotation) * scale[0] * u + np.cos(rotation) * scale[1] * v + y
    return np.stack([moved_u, moved_v], axis=1)


@pytest.mark.parametrize("rotation", [0.0, 0.5])
def test_gltf_texture_transform(glb, rotation):
    transform = {"offset": [0.5, 0.1], "scale": [0.5, 0.25], "rotation": rotation}
    file = Glb()
    file.paint(extensions={"KHR_texture_transform": transform})
    expected = blender_mapping(UV, transform["offset"], rotation, transform["scale"])
    np.testing.assert_allclose(read_mesh(file.write(glb)).uv[:, :2], expected, atol=1e-6)


def test_gltf_takes_the_coordinates_that_the_texture_names(glb):
    for info in ({"texCoord": 1}, {"extensions": {"KHR_texture_transform": {"texCoord": 1}}}):
        file = Glb()
        file.primitive["attributes"]["TEXCOORD_1"] = file.add((UV / 2).astype("f4"))
        file.paint(**info)
        np.testing.assert_allclose(read_mesh(file.write(glb)).uv[:, :2], UV / 2 * [1, -1] + [0, 1], atol=1e-6)


def test_gltf_vertex_colours_beside_a_material(glb):
    for values, entries in ((COLOURS.astype("u1"), {"normalized": True}), ((COLOURS / 255).astype("f4"), {})):
        file = Glb()
        file.primitive["attributes"]["COLOR_0"] = file.add(values, **entries)
        file.primitive["material"] = 0
        file.lists["materials"] = [{"pbrMetallicRoughness": {"metallicFactor": 0}}]
        assert colours_at(read_mesh(file.write(glb))) == BOX_COLOURS
        file.lists["materials"][0]["pbrMetallicRoughness"]["baseColorFactor"] = [1, 0.6, 0.2, 1]
        np.testing.assert_array_equal(read_mesh(file.write(glb)).colors, COLOURS * [1, 0.6, 0.2])


@pytest.mark.parametrize(
    ("extension", "reason"),
    [
        ("KHR_draco_mesh_compression", "is compressed by KHR_draco.*: export it without compression"),
        ("EXT_meshopt_compression", "is compressed by EXT_meshopt.*: export it without compression"),
        ("KHR_texture_basisu", "needs KHR_texture_basisu: convert its textures to PNG or JPEG"),
        ("ACME_anything", "needs ACME_anything, which is not read: export it without"),
    ],
)
def test_gltf_extensions_that_are_needed_and_not_known_are_named(glb, extension, reason):
    file = Glb()
    file.lists["extensionsRequired"] = [extension]
    with pytest.raises(InputError, match=reason):
        read_mesh(file.write(glb))


def test_gltf_compression_that_is_only_listed_beside_plain_data(glb):
    file = Glb()
    file.primitive["extensions"] = {"KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {}}}
    np.testing.assert_array_equal(read_mesh(file.write(glb)).vertices, BOX)
    del file.lists["accessors"][0]["bufferView"]
    assert "is compressed by KHR_draco" in refused(file.write(glb))


@pytest.mark.parametrize(("mode", "corners"), [(5, [0, 1, 2, 3, 4]), (6, [4, 0, 1, 3])])
def test_gltf_strips_and_fans(glb, mode, corners):
    points = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [2, 0, 0]], "f4")
    file = Glb(points, np.array(corners))
    file.primitive["mode"] = mode
    mesh = read_mesh(file.write(glb))
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    assert len(mesh.faces) == len(corners) - 2 and (normals[:, 2] < 0).all()
    assert np.linalg.norm(normals, axis=1).sum() / 2 == pytest.approx(1.5)


def test_gltf_points_and_lines_are_no_surface(glb):
    file = Glb()
    for mode in (0, 1, 2, 3):
        file.primitive["mode"] = mode
        assert "no faces" in refused(file.write(glb))


def test_gltf_sparse_and_interleaved_numbers(glb):
    file = Glb(np.zeros((8, 3), "f4"))
    places = file.view(np.arange(8, dtype="u1").tobytes())
    values = file.view(BOX.astype("f4").tobytes())
    sparse = {
        "count": 8,
        "indices": {"bufferView": places, "componentType": 5121},
        "values": {"bufferView": values},
    }
    file.lists["accessors"][0]["sparse"] = sparse
    np.testing.assert_array_equal(read_mesh(file.write(glb)).vertices, BOX)
    file = Glb()
    rows = np.zeros(8, np.dtype([("position", "<f4", 3), ("uv", "<f4", 2)]))
    rows["position"], rows["uv"] = BOX, UV
    view = file.view(rows.tobytes(), byteStride=20)
    file.lists["accessors"][0]["bufferView"] = view
    file.lists["accessors"].append(
        {"bufferView": view, "byteOffset": 12, "componentType": 5126, "count": 8, "type": "VEC2"}
    )
    file.primitive["attributes"]["TEXCOORD_0"] = len(file.lists["accessors"]) - 1
    file.paint()
    mesh = read_mesh(file.write(glb))
    np.testing.assert_array_equal(mesh.vertices, BOX)
    np.testing.assert_allclose(mesh.uv[:, :2], UV * [1, -1] + [0, 1], atol=1e-6)


def test_gltf_files_beside_it_are_named_in_percent_encoding(tmp_path):
    file = Glb()
    file.paint()
    (tmp_path / "my box.bin").write_bytes(file.binary)
    (tmp_path / "größe 1.png").write_bytes(picture(color=(1, 2, 3)))
    file.lists["images"] = [{"uri": "gr%C3%B6%C3%9Fe%201.png"}]
    file.lists["buffers"] = [{"byteLength": len(file.binary), "uri": "my%20box.bin"}]
    path = tmp_path / "box.gltf"
    path.write_text(json.dumps(file.lists))
    assert (read_mesh(path).texture == [1, 2, 3]).all()
    assert [found.name for found in meshes.files_named(path)] == ["my box.bin", "größe 1.png"]
    data = base64.b64encode(file.binary).decode()
    file.lists["buffers"][0]["uri"] = f"data:application/octet-stream;base64,{data}"
    path.write_text(json.dumps(file.lists))
    np.testing.assert_array_equal(read_mesh(path).vertices, BOX)
    (tmp_path / "größe 1.png").unlink()
    assert "größe 1.png, which is not beside it" in refused(path)


def test_gltf_mirrored_nodes_look_outwards(glb):
    file = Glb()
    file.lists["nodes"] = [{"mesh": 0, "scale": [-1, 1, 1]}, {"mesh": 0, "translation": [500, 0, 0]}]
    file.lists["scenes"][0]["nodes"] = [0, 1]
    mesh = read_mesh(file.write(glb))
    assert volume(mesh) == pytest.approx(2 * np.prod(SIZE), rel=1e-5)
    outwards = mesh.vertices - np.repeat([[0.0, 0, 0], [500, 0, 0]], 8, axis=0)
    assert ((mesh.normals * outwards).sum(axis=1) > 0).all()


def test_gltf_nodes_are_placed_by_all_above_them(glb):
    """Against the product of the motions as SciPy and NumPy have it."""
    half = np.sqrt(0.5)
    turn, move = {"rotation": [0, 0, half, half]}, {"translation": [10, 20, 30]}
    stretch = np.array([[2, 0, 0, 5], [0, 3, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]], float)
    file = Glb()
    file.lists["nodes"] = [{"mesh": 0, **move}, {"children": [0], **turn}, {"children": [1]}]
    file.lists["nodes"][2]["matrix"] = stretch.T.ravel().tolist()
    file.lists["scenes"][0]["nodes"] = [2]
    turned = (BOX + np.array([10, 20, 30])) @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]).T
    expected = turned @ stretch[:3, :3].T + stretch[:3, 3]
    np.testing.assert_allclose(read_mesh(file.write(glb)).vertices, expected, rtol=1e-5, atol=1e-4)


def test_gltf_parts_that_share_their_vertices_bring_only_their_own(glb):
    file = Glb()
    file.primitive["indices"] = file.add(np.array([[0], [1], [2]], "u2"))
    mesh = read_mesh(file.write(glb))
    np.testing.assert_array_equal(mesh.vertices, BOX[:3])


def test_gltf_of_very_many_nodes(glb):
    count = 20_000
    file = Glb()
    file.lists["nodes"] = [{"mesh": 0, "translation": [k, 0, 0]} for k in range(count)]
    file.lists["scenes"][0]["nodes"] = list(range(count))
    mesh = read_mesh(file.write(glb))
    assert len(mesh.faces) == 12 * count and size(mesh)[0] == pytest.approx(90 + count - 1)
    expected = trimesh.Trimesh(BOX, FACES, process=False).vertex_normals
    np.testing.assert_allclose(mesh.normals, np.tile(expected, (count, 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda lists: lists["nodes"][0].update(children=[0]), "two parents"),
        (lambda lists: lists["scenes"][0].update(nodes=[0, 0]), "two parents"),
        (lambda lists: lists["nodes"][0].update(skin=0), "skeleton"),
        (lambda lists: lists["meshes"][0].update(weights=[0.5]), "shape keys"),
        (lambda lists: lists["nodes"][0].update(extensions={"EXT_mesh_gpu_instancing": {}}), "copies"),
        (lambda lists: lists["nodes"][0].update(mesh=7), "entry 7 of a list of 1"),
        (lambda lists: lists["accessors"][0].update(count=9), "it says that it has 9 numbers in 96 bytes"),
        (lambda lists: lists["accessors"][0].update(count=float("inf")), "whole number"),
        (lambda lists: lists["bufferViews"][0].update(byteLength=10**9), "bytes"),
        (lambda lists: lists["asset"].update(version="1.0"), "glTF 1.0: export it as glTF 2.0"),
        (lambda lists: lists.pop("accessors"), "lacks 'accessors'"),
    ],
)
def test_gltf_that_makes_no_sense_is_refused(glb, change, reason):
    file = Glb()
    change(file.lists)
    assert reason in refused(file.write(glb))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (picture()[:40], "cannot be read"),
        (picture("JPEG")[:300], "cannot be read"),
        (b"no picture", "cannot be read"),
        (b"\xabKTX 20\xbb\r\n\x1a\n", "compressed as KTX2: convert the textures to PNG or JPEG"),
    ],
)
def test_gltf_textures_that_cannot_be_shown_are_told(glb, content, reason):
    file = Glb()
    file.paint(content)
    assert reason in refused(file.write(glb))


def test_gltf_webp_of_an_extension(glb):
    file = Glb()
    file.paint(picture("WEBP", (0, 0, 0)))
    file.lists["textures"] = [{"extensions": {"EXT_texture_webp": {"source": 0}}}]
    file.lists["extensionsRequired"] = ["EXT_texture_webp"]
    assert read_mesh(file.write(glb)).texture.max() < 8


def test_gltf_textures_that_do_not_repeat(glb):
    file = Glb()
    file.paint(uv=2 * UV)
    assert read_mesh(file.write(glb)).uv[:, :2].min() == -1
    for wrap in (33071, 33648):
        file.lists["samplers"], file.lists["textures"] = [{"wrapS": wrap}], [{"source": 0, "sampler": 0}]
        assert "does not repeat (wrapS): bake it" in refused(file.write(glb))


@pytest.mark.parametrize("last_row", [[1e-9, 0, 0, 1], [0, 0, 0, 0.99999994]])
def test_gltf_matrices_that_are_rounded(glb, last_row):
    matrix = np.eye(4)
    matrix[:3, 3], matrix[3] = (10, 20, 30), last_row
    file = Glb()
    file.lists["nodes"][0]["matrix"] = matrix.T.ravel().tolist()
    np.testing.assert_allclose(read_mesh(file.write(glb)).vertices, BOX + np.array([10, 20, 30]))


def test_gltf_padding_and_line_breaks_of_exporters(glb):
    """Zero bytes behind the JSON text, and base64 in lines of 76 signs."""
    file = Glb()
    file.paint()
    file.lists["images"] = [{"uri": "data:image/png;base64," + base64.encodebytes(picture()).decode()}]
    for k in range(4):  # one of these lengths needs each padding
        file.lists["asset"]["generator"] = "x" * k
        content = bytearray(file.write(glb).read_bytes())
        end = 20 + struct.unpack_from("<I", content, 12)[0]
        text = bytes(content[20:end]).rstrip(b" ")
        content[20:end] = text.ljust(end - 20, b"\0")
        glb.write_bytes(content)
        assert (read_mesh(glb).texture == [200, 100, 50]).all()


def test_gltf_light_of_a_material_is_told(glb, caplog):
    file = Glb()
    file.paint()
    read_mesh(file.write(glb))
    assert not caplog.text
    file.lists["materials"][0]["emissiveFactor"] = [1, 1, 1]
    read_mesh(file.write(glb))
    assert "has emissive materials: their light is not shown" in caplog.text


def obj_lines(vertices: np.ndarray = BOX, faces: list[str] | None = None) -> str:
    faces = faces or [" ".join(str(k + 1) for k in side) for side in SIDES]
    lines = [f"v {' '.join(f'{value:g}' for value in row)}" for row in vertices]
    return "\n".join([*lines, *(f"f {face}" for face in faces)]) + "\n"


def textured_obj(
    folder: Path, *, mtl: str = "newmtl a\nmap_Kd t.png\n", head: str = "mtllib a.mtl\n"
) -> Path:
    (folder / "t.png").write_bytes(picture())
    (folder / "a.mtl").write_text(mtl)
    uv = "".join(f"vt {u} {v}\n" for u, v in UV)
    faces = [" ".join(f"{k + 1}/{k + 1}" for k in side) for side in SIDES]
    path = folder / "box.obj"
    path.write_text(head + "usemtl a\n" + uv + obj_lines(faces=faces))
    return path


def test_obj_relative_indices_count_back_from_their_line(tmp_path):
    second = BOX * 0.4 + [0, 0, 120]
    path = tmp_path / "parts.obj"
    sides = [" ".join(str(k - 8) for k in side) for side in SIDES]
    path.write_text(obj_lines(BOX, sides) + obj_lines(second, sides))
    mesh = read_mesh(path)
    np.testing.assert_allclose(mesh.vertices, np.concatenate([BOX, second]), atol=1e-5)
    assert volume(mesh) == pytest.approx(1.064 * np.prod(SIZE), rel=1e-5)
    path.write_text(obj_lines(BOX, ["-1 -2 -9"]))
    assert "does not exist" in refused(path)


@pytest.mark.parametrize("scale", [1, 255])
def test_obj_vertex_colours_beside_a_material(tmp_path, scale):
    (tmp_path / "a.mtl").write_text("newmtl a\nKd 0.75 0.75 0.75\n")
    path = tmp_path / "box.obj"
    path.write_text("mtllib a.mtl\nusemtl a\n" + obj_lines(np.hstack([BOX, COLOURS / 255 * scale])))
    assert colours_at(read_mesh(path)) == BOX_COLOURS


def test_obj_colours_of_some_vertices(tmp_path):
    path = tmp_path / "box.obj"
    lines = obj_lines(np.hstack([BOX, COLOURS / 255])).splitlines()
    lines[0] = "v -45 -30 -70"
    path.write_text("\n".join(lines))
    assert colours_at(read_mesh(path)) == BOX_COLOURS | {(-45.0, -30.0, -70.0): (180, 180, 180)}


def test_obj_faces_without_texture_coordinates_leave_the_others_theirs(tmp_path):
    path = textured_obj(tmp_path, mtl="newmtl a\nKd 0.2 0.4 0.6\nmap_Kd t.png\n")
    text = path.read_text().replace("f 2/2 4/4 8/8 6/6", "f 2 4/4 8/8 6")
    path.write_text(text)
    mesh = read_mesh(path)
    bare = mesh.uv[mesh.faces[:, 0], 2] < 0
    assert bare.sum() == 2 and (mesh.vertices[mesh.faces[bare], 0] == 45).all()
    np.testing.assert_array_equal(
        np.unique(mesh.colors[mesh.faces[bare]].reshape(-1, 3), axis=0), [[51, 102, 153]]
    )
    assert mesh.texture[0, 0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize(
    ("mtl", "head"),
    [
        ("\ufeffnewmtl a\nmap_Kd t.png\n", "mtllib a.mtl\n"),
        ("newmtl a\r\nmap_Kd t.png\r\n", "\ufeffmtllib a.mtl\r\n"),
        ("newmtl a\nmap_Kd -s 1 1 1 -o 0 0 0 -mm 0 1 -blendu on t.png\n", 'mtllib "a.mtl"\n'),
        ('newmtl a\n\tmap_Kd "t.png"\n', "mtllib b.mtl a.mtl\n"),
        ("newmtl a\nmap_Kd -clamp on -bm 0.5 -s 1 T.PNG\n", "mtllib A.MTL\n"),
        ("newmtl a\nmap_Kd C:\\Users\\me\\t.png\n", "mtllib c d.mtl\nmtllib a.mtl\n"),
    ],
)
def test_mtl_files_as_they_come(tmp_path, mtl, head):
    for other in ("b.mtl", "c d.mtl"):
        (tmp_path / other).write_text("newmtl other\nKd 1 0 0\n")
    path = textured_obj(tmp_path, mtl=mtl, head=head)
    mesh = read_mesh(path)
    assert (mesh.texture == [200, 100, 50]).all()
    assert corner_uv(mesh) == BOX_UV
    assert {"a.mtl", "t.png"} <= {file.name for file in meshes.files_named(path)}


@pytest.mark.parametrize(
    ("mtl", "reason"),
    [
        ("newmtl a\nmap_Kd -s 2 2 1 t.png\n", "option -s 2 2 1, which is not read: bake it"),
        ("newmtl a\nmap_Kd -o 0.5 t.png\n", "option -o 0.5"),
        ("newmtl a\nmap_Kd -mm 0.2 1 t.png\n", "option -mm 0.2 1"),
        ("newmtl b\nmap_Kd t.png\n", "uses material 'a', which its MTL file does not define"),
        ("newmtl a\nmap_Kd lost.png\n", "names lost.png, which is not beside it"),
        ("newmtl a\nKd spectral file.rfl\n", "not in red, green and blue"),
        ("newmtl a\nKd red\n", "cannot be read"),
    ],
)
def test_mtl_files_that_are_not_shown_as_meant_are_refused(tmp_path, mtl, reason):
    path = textured_obj(tmp_path, mtl=mtl)
    with pytest.raises(InputError, match=reason.replace("(", r"\(")):
        read_mesh(path)


def test_obj_in_other_encodings(tmp_path):
    path = tmp_path / "teil.obj"
    text = f"# Größe\n{obj_lines()}"
    for encoding in ("latin-1", "utf-8-sig", "utf-16", "gbk"):
        path.write_bytes(
            text.replace("öß", "").encode(encoding) if encoding == "gbk" else text.encode(encoding)
        )
        np.testing.assert_array_equal(size(read_mesh(path)), SIZE)
    textured = textured_obj(tmp_path, head="mtllib gehäuse.mtl\n")
    textured.write_bytes(textured.read_text().encode("latin-1"))
    assert "which is not beside it" in refused(textured)
    (tmp_path / "a.mtl").rename(tmp_path / "gehäuse.mtl")
    assert (read_mesh(textured).texture == [200, 100, 50]).all()


def test_obj_concave_polygons_keep_their_area(tmp_path):
    """Letters L and a spiral, whose fans would reach beyond them."""
    shapes = [
        [(0, 0), (3, 0), (3, 1), (1, 1), (1, 3), (0, 3)],
        [(1, 1), (0, 4), (0, 0), (4, 0)],  # an arrow head, from its notch
        [(0, 0), (5, 0), (5, 4), (1, 4), (1, 2), (2, 2), (2, 3), (4, 3), (4, 1), (0, 1)],
    ]
    path = tmp_path / "shape.obj"
    for corners in shapes:
        for start in range(len(corners)):
            x, y = np.roll(corners, start, axis=0).T.astype(float)
            area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2  # Gauss's formula
            in_slanted_plane = np.stack([x, y, 2 * x], axis=1)
            path.write_text(obj_lines(in_slanted_plane, [" ".join(map(str, range(1, len(corners) + 1)))]))
            mesh = read_mesh(path)
            a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
            normals = np.cross(b - a, c - a)
            assert np.linalg.norm(normals, axis=1).sum() / 2 == pytest.approx(area * np.sqrt(5), rel=1e-5)
            assert (normals @ normals.sum(axis=0) > 0).all()


def test_obj_polygons_with_holes_bridged_by_an_edge(tmp_path):
    corners = [(0, 0), (10, 0), (10, 10), (0, 10), (0, 0), (3, 3), (3, 7), (7, 7), (7, 3), (3, 3)]
    path = tmp_path / "hole.obj"
    for start in range(len(corners)):
        x, y = np.roll(corners, start, axis=0).T.astype(float)
        path.write_text(obj_lines(np.stack([x, y, 0 * x], axis=1), ["1 2 3 4 5 6 7 8 9 10"]))
        mesh = read_mesh(path)
        a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
        area = np.cross(b - a, c - a)[:, 2] / 2
        assert area.min() >= 0 and area.sum() == pytest.approx(100 - 16)


def test_obj_polygons_with_corners_twice_in_a_row(tmp_path):
    corners = np.repeat([(0, 0), (3, 0), (3, 1), (1, 1), (1, 3), (0, 3)], 2, axis=0)
    path = tmp_path / "shape.obj"
    for start in range(len(corners)):
        x, y = np.roll(corners, start, axis=0).T.astype(float)
        path.write_text(obj_lines(np.stack([y, 0 * x, x], axis=1), [" ".join(map(str, range(1, 13)))]))
        mesh = read_mesh(path)
        a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
        area = np.cross(b - a, c - a)[:, 1] / 2
        assert area.min() >= 0 and area.sum() == pytest.approx(5)


def test_obj_polygons_that_cross_themselves_do_not_take_long(tmp_path):
    corners = np.random.default_rng(0).random((900, 3))
    path = tmp_path / "tangle.obj"
    path.write_text(obj_lines(corners, [" ".join(map(str, range(1, 901)))]))
    begin = time.process_time()
    assert len(read_mesh(path).faces) == 898
    assert time.process_time() - begin < 10


def test_obj_round_polygons_of_very_many_corners(tmp_path):
    """Their corners are rounded, so some turn the other way."""
    angles = np.arange(20_000) / 10_000 * np.pi
    path = tmp_path / "round.obj"
    rows = [f"v {np.cos(angle):.6f} {np.sin(angle):.6f} 0" for angle in angles]
    path.write_text("\n".join(rows) + f"\nf {' '.join(map(str, range(1, 20_001)))}\n")
    mesh = read_mesh(path)
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    assert np.abs(np.cross(b - a, c - a)[:, 2]).sum() / 2 == pytest.approx(np.pi, rel=1e-5)


def test_obj_of_an_old_mac(tmp_path):
    path = textured_obj(tmp_path, head="# made by hand\nmtllib a.mtl\n")
    for file in (path, tmp_path / "a.mtl"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r"))
    assert corner_uv(read_mesh(path)) == BOX_UV
    assert {file.name for file in meshes.files_named(path)} == {"a.mtl", "t.png"}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_obj_comments_that_end_in_a_backslash_hide_no_line(tmp_path, end):
    path = tmp_path / "box.obj"
    text = "# D:\\parts\\\\\n# E:\\\n" + obj_lines(faces=["1 2 3", "4 \\\n5 7"])
    path.write_bytes(text.replace("\n", end).encode())
    mesh = read_mesh(path)
    np.testing.assert_array_equal(mesh.vertices[mesh.faces], BOX[[[0, 1, 2], [3, 4, 6]]])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("v 0 0\nf 1 1 1\n", "too few or too many numbers"),
        ("v 0 0 0 2\nf 1 1 1\n", "weight other than 1"),
        ("v 0 0 0\nf 1 0 1\n", "does not exist"),
        ("v 0 0 0\nf 1 2 1\n", "does not exist"),
        ("v 0 0 0\nf 1/1 1/1 1/1\n", "does not exist"),
        ("v 0 0 0\nf 1 1\n", "fewer than three corners"),
        ("v 0 0 0\nf 1/1/1/1 1 1\n", "an index too many"),
        ("v 0 0 0\nf 1.5 1 1\n", "not whole"),
        ("v 0,5 0 0\nf 1 1 1\n", "cannot be read"),
        ("v 0 0 0\nsurf 0 1 0 1 1 2\n", "free-form surfaces (surf)"),
        ("v 0 0 0\nfx 1 1 1\n", "line 2 begins with 'fx'"),
        ("v 0 0 0\n", "no faces"),
    ],
)
def test_obj_that_makes_no_sense_is_refused(tmp_path, text, reason):
    path = tmp_path / "bad.obj"
    path.write_text(text)
    assert reason in refused(path)


def test_obj_lines_that_go_on_and_comments_behind(tmp_path):
    path = tmp_path / "box.obj"
    path.write_text(obj_lines().replace("f 1 3 4 2", "f 1 3 \\\n 4 2 # bottom").replace("v ", "v\t", 3))
    np.testing.assert_array_equal(read_mesh(path).vertices, BOX)


def ply_text(
    columns: np.ndarray, properties: list[str], faces: list[str], head: str = "", face: str = ""
) -> str:
    lines = ["ply", "format ascii 1.0", *head.splitlines(), f"element vertex {len(columns)}"]
    lines += [f"property {kind}" for kind in ("float x", "float y", "float z", *properties)]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", *face.splitlines()]
    rows = [" ".join(f"{value:g}" for value in row) for row in columns]
    return "\n".join([*lines, "end_header", *rows, *faces]) + "\n"


TRIANGLES = [f"3 {a} {b} {c}" for a, b, c in FACES]
RGB = ["uchar red", "uchar green", "uchar blue"]


@pytest.mark.parametrize(
    ("columns", "properties"),
    [
        (np.hstack([BOX, UV, COLOURS]), ["float s", "float t", *RGB]),
        (np.hstack([BOX, COLOURS]), [f"uchar diffuse_{name}" for name in ("red", "green", "blue")]),
        (np.hstack([BOX, COLOURS / 255]), ["float red", "float green", "float blue"]),
        (np.hstack([BOX, COLOURS * 257]), ["ushort red", "ushort green", "ushort blue"]),
    ],
)
def test_ply_vertex_colours(tmp_path, columns, properties):
    path = tmp_path / "box.ply"
    path.write_text(ply_text(columns, properties, TRIANGLES))
    mesh = read_mesh(path)
    assert mesh.texture is None and colours_at(mesh) == BOX_COLOURS


@pytest.mark.parametrize(
    ("kind", "code", "factor"),
    [
        ("uchar", "u1", 1),
        ("ushort", "<u2", 257),
        ("int", "<i4", 1),
        ("uint16", "<u2", 1),
        ("int", "<i4", 257),
        ("int64", "<i8", 1),
    ],
)
@pytest.mark.parametrize("darkest", [False, True])
def test_ply_colours_of_every_type_of_whole_numbers(tmp_path, kind, code, factor, darkest):
    """In text and in binary; tools write colours up to 255 in wider types too."""
    colors = np.arange(24).reshape(8, 3) * 10
    if darkest and factor == 1:
        colors = colors > 0  # ones, which are no fractions here
    names = [f"{kind} {name}" for name in ("red", "green", "blue")]
    path = tmp_path / "box.ply"
    text = ply_text(np.hstack([BOX, colors * factor]), names, TRIANGLES)
    rows = np.zeros(8, np.dtype([("point", "<f4", 3), ("color", code, 3)]))
    rows["point"], rows["color"] = BOX, colors * factor
    head = text[: text.index("end_header")].replace("ascii", "binary_little_endian") + "end_header\n"
    faces = b"".join(struct.pack("<B3i", 3, *face) for face in FACES)
    for content in (text.encode(), head.encode() + rows.tobytes() + faces):
        path.write_bytes(content)
        np.testing.assert_array_equal(read_mesh(path).colors, colors)


def test_ply_colours_of_faces_without_the_texture(tmp_path, caplog):
    (tmp_path / "t.png").write_bytes(picture())
    head, face = "comment TextureFile t.png", "property int texnumber"
    faces = [f"{row} {-(k >= 6)}" for k, row in enumerate(TRIANGLES)]
    path = tmp_path / "box.ply"
    path.write_text(ply_text(np.hstack([BOX, UV, COLOURS]), ["float s", "float t", *RGB], faces, head, face))
    mesh = read_mesh(path)
    bare = mesh.faces[mesh.uv[mesh.faces[:, 0], 2] < 0]
    assert len(bare) == 6
    for vertex in np.unique(bare):
        assert tuple(mesh.colors[vertex].tolist()) == BOX_COLOURS[tuple(mesh.vertices[vertex].tolist())]
    assert "its colours only where it has none" in caplog.text
    face = "\n".join([face, *(f"property {kind}" for kind in RGB)])
    faces = [f"{row} {k} 0 200" for k, row in enumerate(faces)]
    path.write_text(ply_text(np.hstack([BOX, UV]), ["float s", "float t"], faces, head, face))
    mesh = read_mesh(path)
    bare = mesh.faces[mesh.uv[mesh.faces[:, 0], 2] < 0]
    np.testing.assert_array_equal(
        np.sort(mesh.colors[bare[:, 0]], axis=0), [[k, 0, 200] for k in range(6, 12)]
    )


def test_ply_textures_in_elements_of_their_own_are_refused(tmp_path):
    """As RealityCapture writes them."""
    path = tmp_path / "box.ply"
    more = "element multi_texture_vertex 1\nproperty uchar tx\nproperty float u\nproperty float v\n"
    more += "element multi_texture_face 1\nproperty uchar tx\nproperty uint tn\n"
    more += "property list uchar uint texture_vertex_indices\nend_header"
    text = ply_text(BOX, [], TRIANGLES, "comment TextureFile t.png").replace("end_header", more)
    path.write_text(text + "0 0.5 0.5\n0 0 3 0 0 0\n")
    assert "(multi_texture_face), which is not read: export it as OBJ or GLB" in refused(path)


@pytest.mark.parametrize("suffix", ["ply", "off"])
def test_vertices_of_no_face_do_not_count_for_the_size(tmp_path, suffix):
    points = np.vstack([[5000, 0, 0], BOX])
    rows = [f"3 {a} {b} {c}" for a, b, c in FACES + 1]
    path = tmp_path / f"box.{suffix}"
    path.write_text(ply_text(points, [], rows) if suffix == "ply" else off_text("OFF\n", points, rows))
    mesh = read_mesh(path)
    np.testing.assert_array_equal(mesh.vertices, BOX)
    np.testing.assert_array_equal(mesh.faces, FACES)
    if suffix == "ply":  # the pose errors are defined on all
        np.testing.assert_array_equal(read_triangles(path)[0], points)


def test_a_mesh_too_far_from_its_origin_for_single_precision_is_refused(tmp_path):
    """Such as a scan in the coordinates of a map."""
    path = tmp_path / "scan.obj"
    for distance, told in ((1e5, False), (5_412_312, True)):
        path.write_text("".join(f"v {x} {y + distance} {z}\n" for x, y, z in BOX) + "f 1 2 3\nf 5 6 7\n")
        if told:
            assert "times its size away from its origin" in refused(path)
        else:
            np.testing.assert_allclose(size(read_mesh(path)), SIZE, atol=0.02)


def test_ply_face_colours_and_normals(tmp_path):
    path = tmp_path / "box.ply"
    faces = [f"{row} {k} 0 200" for k, row in enumerate(TRIANGLES)]
    path.write_text(ply_text(BOX, [], faces, face="\n".join(f"property {kind}" for kind in RGB)))
    mesh = read_mesh(path)
    seen = np.unique(np.column_stack([mesh.colors[mesh.faces].reshape(-1, 9)]), axis=0)
    np.testing.assert_array_equal(seen, [[k, 0, 200] * 3 for k in range(12)])
    path.write_text(ply_text(np.hstack([BOX, 2 * BOX]), ["float nx", "float ny", "float nz"], TRIANGLES))
    expected = BOX / np.linalg.norm(BOX, axis=1, keepdims=True)
    np.testing.assert_allclose(read_mesh(path).normals, expected, atol=1e-6)


def test_ply_several_textures(tmp_path):
    colors = [(250, 0, 0), (0, 250, 0)]
    for name, color in zip("ab", colors, strict=True):
        (tmp_path / f"{name} 1.png").write_bytes(picture(color=color))
    head = "comment TextureFile a 1.png\ncomment TextureFile b 1.png"
    wedges = [
        f"{row} 6 {' '.join(f'{value:g}' for value in UV[face].ravel())}"
        for row, face in zip(TRIANGLES, FACES, strict=True)
    ]
    face = "property list uchar float texcoord\nproperty int texnumber"
    path = tmp_path / "box.ply"
    path.write_text(ply_text(BOX, [], [f"{row} {k % 2}" for k, row in enumerate(wedges)], head, face))
    mesh = read_mesh(path)
    assert corner_uv(mesh) == BOX_UV
    shown = mesh.texture[mesh.uv[mesh.faces[:, 0], 2].astype(int), 0, 0]
    corners = mesh.vertices[mesh.faces].reshape(-1, 9).tolist()
    by_face = {tuple(face): tuple(color) for face, color in zip(corners, shown.tolist(), strict=True)}
    assert [by_face[tuple(face)] for face in BOX[FACES].reshape(-1, 9).tolist()] == colors * 6
    path.write_text(ply_text(BOX, [], wedges, head, face.splitlines()[0]))
    assert "names 2 textures, but no face says which" in refused(path)


def binary_ply(order: str, polygons: list[list[int]], **changes) -> bytes:
    name = {"<": "little", ">": "big"}[order]
    points, count = changes.get("points", BOX), changes.get("count", len(polygons))
    head = f"ply\nformat binary_{name}_endian 1.0\nelement vertex {len(points)}\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    head += f"element face {count}\nproperty uchar flag\nproperty list uchar int vertex_indices\nend_header\n"
    rows = b"".join(struct.pack(f"{order}2B{len(p)}i", 7, len(p), *p) for p in polygons)
    return head.encode() + points.astype(f"{order}f4").tobytes() + rows


@pytest.mark.parametrize("order", ["<", ">"])
def test_ply_binary_polygons(tmp_path, order):
    """A six-sided prism: its sides have four corners, top and bottom six."""
    angles = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros(6)], axis=1)
    points = np.concatenate([ring, ring + np.array([0, 0, 2])])
    polygons = [
        [5, 4, 3, 2, 1, 0],
        *[[k, (k + 1) % 6, (k + 1) % 6 + 6, k + 6] for k in range(6)],
        [*range(6, 12)],
    ]
    path = tmp_path / "prism.ply"
    path.write_bytes(binary_ply(order, polygons, points=points))
    mesh = read_mesh(path)
    assert len(mesh.faces) == 20 and volume(mesh) == pytest.approx(3 * np.sqrt(3), rel=1e-5)
    np.testing.assert_array_equal(read_triangles(path)[0], points.astype("f4"))


def test_ply_strips(tmp_path):
    path = tmp_path / "strip.ply"
    corners = [0, 1, 2, 3, -1, 4, 6, 5, 7]
    text = (
        ply_text(BOX, [], []).replace("element face 0", "element tristrips 1").replace("uchar int", "int int")
    )
    path.write_text(text + f"{len(corners)} {' '.join(map(str, corners))}\n")
    vertices, faces = read_triangles(path)
    np.testing.assert_array_equal(vertices, BOX)
    np.testing.assert_array_equal(faces, [[0, 1, 2], [1, 3, 2], [4, 6, 5], [6, 7, 5]])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (binary_ply("<", SIDES.tolist(), count=7), "cut short"),
        (binary_ply("<", SIDES.tolist(), count=5), "bytes more than its header says"),
        (binary_ply("<", SIDES.tolist())[:-3], ""),
        (binary_ply("<", [*SIDES.tolist(), [0, 1]]), "fewer than three corners"),
        (binary_ply("<", [*SIDES.tolist(), [0, 1, 8]]), "does not exist"),
        (ply_text(BOX, [], TRIANGLES) + "3 0 1 2\n", "21 rows instead of 20"),
        (ply_text(BOX, [], [*TRIANGLES[:-1], "3 0 1"]), ""),
        (ply_text(BOX, [], [*TRIANGLES[:-1], "4 0 1 2"]), ""),
        (ply_text(BOX, [], [*TRIANGLES[:-1], "3 0 1 2.5"]), "not whole"),
        (ply_text(BOX, [], TRIANGLES, head="elephant vertex"), "its header has a line 'elephant vertex'"),
    ],
)
def test_ply_whose_counts_lie_is_refused(tmp_path, content, reason):
    path = tmp_path / "bad.ply"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert reason in refused(path) and "cannot be read as a mesh" in refused(path)


def stl_bytes(
    attributes: list[int] | int = 0, header: bytes = b"solid made by a tool", count: int = 12
) -> bytes:
    facets = np.zeros(12, np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")]))
    facets["corners"], facets["attribute"] = BOX[FACES], attributes
    return header.ljust(80, b" ") + struct.pack("<I", count) + facets.tobytes()


def test_stl_with_bytes_behind(tmp_path, caplog):
    path = tmp_path / "box.stl"
    path.write_bytes(stl_bytes())
    np.testing.assert_array_equal(size(read_mesh(path)), SIZE)
    path.write_bytes(stl_bytes() + b"\x01made by a tool")
    assert volume(read_mesh(path)) == pytest.approx(np.prod(SIZE))
    assert "the 15 bytes behind its 12 facets are not read" in caplog.text
    path.write_bytes(stl_bytes(count=10))
    assert "says that it has 10 facets, but has bytes of 12" in refused(path)
    path.write_bytes(stl_bytes(count=13))
    assert "says that it has 13 facets, but is too short" in refused(path)


def test_stl_colours(tmp_path):
    path = tmp_path / "box.stl"
    path.write_bytes(stl_bytes([0x8000 | 31 << 10 | 10 << 5, 0] * 6))  # VisCAM
    mesh = read_mesh(path)
    np.testing.assert_array_equal(mesh.colors[mesh.faces[:, 0]], [[255, 82, 0], [180, 180, 180]] * 6)
    path.write_bytes(stl_bytes([31 | 10 << 5, 0x8000] * 6, b"COLOR=\x01\x02\x03\xff"))  # Magics
    mesh = read_mesh(path)
    np.testing.assert_array_equal(mesh.colors[mesh.faces[:, 0]], [[255, 82, 0], [1, 2, 3]] * 6)


def test_stl_of_autodesk_names_the_colour_of_the_whole_alone(tmp_path):
    path = tmp_path / "box.stl"
    path.write_bytes(stl_bytes(0, b"STLB ATF 12.6.0.36 COLOR=\xa0\x80\x60\xff"))
    assert (read_mesh(path).colors == [0xA0, 0x80, 0x60]).all()


def test_stl_as_text(tmp_path):
    path = tmp_path / "box.stl"
    trimesh.Trimesh(BOX, FACES, process=False).export(path, file_type="stl_ascii")
    mesh = read_mesh(path)
    np.testing.assert_allclose(mesh.vertices[mesh.faces], BOX[FACES])
    text = path.read_bytes()
    path.write_bytes(text.replace(b"solid", b"solid Geh\xe4use", 1))
    np.testing.assert_array_equal(size(read_mesh(path)), SIZE)
    for damaged in (text[: len(text) // 2], text[: text.rindex(b"endsolid")]):
        path.write_bytes(damaged)
        assert "cannot be read as a mesh" in refused(path)


def off_text(
    head: str, columns: np.ndarray, faces: list[str] | None = None, counts: str | None = None
) -> str:
    faces = faces or [f"4 {' '.join(map(str, side))}" for side in SIDES]
    rows = [" ".join(f"{value:g}" for value in row) for row in columns]
    return (
        "\n".join([f"{head}{counts or f'{len(columns)} {len(faces)} 0'}", "# made by hand", *rows, *faces])
        + "\n"
    )


OPAQUE = np.full((8, 1), 255)


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("COFF\n", np.hstack([BOX, COLOURS, OPAQUE])),
        ("COFF ", np.hstack([BOX, COLOURS / 255, OPAQUE / 255])),
        ("COFF", np.hstack([BOX, COLOURS])),
        ("CNOFF\n", np.hstack([BOX, BOX, COLOURS])),
        ("STCNOFF\n", np.hstack([BOX, BOX, COLOURS, OPAQUE, UV])),
    ],
)
def test_off_vertex_colours(tmp_path, head, columns):
    path = tmp_path / "box.off"
    path.write_text(off_text(head, columns))
    mesh = read_mesh(path)
    assert colours_at(mesh) == BOX_COLOURS and volume(mesh) == pytest.approx(np.prod(SIZE))
    if "N" in head:
        np.testing.assert_allclose(mesh.normals, BOX / np.linalg.norm(BOX, axis=1, keepdims=True), atol=1e-6)


def test_off_face_colours(tmp_path):
    path = tmp_path / "box.off"
    faces = [f"4 {' '.join(map(str, side))}" for side in SIDES]
    path.write_text(off_text("OFF\n", BOX, [f"{faces[0]} 255 0 10", *faces[1:]]))
    mesh = read_mesh(path)
    painted = (mesh.colors == [255, 0, 10]).all(axis=1)
    assert painted.sum() == 4 and (mesh.vertices[painted, 2] == -70).all()
    np.testing.assert_array_equal(np.unique(mesh.colors[~painted]), [180])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (off_text("OFF\n", BOX, counts="9 6 0"), "says that it has 9 vertices"),
        (off_text("OFF\n", BOX, counts="8 5 0"), "and 5 faces"),
        (off_text("OFF\n", np.hstack([BOX, COLOURS])), "which its first word does not say"),
        (off_text("OFF BINARY\n", BOX), "save it as ASCII OFF or PLY"),
        (off_text("4OFF\n", BOX), "save it as ASCII OFF or PLY"),
        (off_text("OFF\n", BOX, ["4 0 1 2"]), "fewer corners than it says"),
        (off_text("OFF\n", BOX, ["3 0 1 8"]), "does not exist"),
        (off_text("OFF\n", BOX, ["3 0 1 2.5"]), "not whole"),
    ],
)
def test_off_that_makes_no_sense_is_refused(tmp_path, text, reason):
    path = tmp_path / "bad.off"
    path.write_text(text)
    assert reason in refused(path)


def test_textures_that_are_shrunk_to_fit_are_told(tmp_path, monkeypatch, caplog):
    path = textured_obj(tmp_path, mtl="newmtl a\nmap_Kd t.png\nnewmtl b\nmap_Kd dot.png\n")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    path.write_text(path.read_text() + "usemtl b\nf 1/1 2/2 3/3\n")
    assert read_mesh(path).texture.shape == (2, 8, 8, 3) and not caplog.text
    monkeypatch.setattr(meshes, "MAX_TEXELS", 50)
    assert read_mesh(path).texture.shape == (2, 5, 5, 3)
    assert f"{path}: its 2 textures are kept at 5 x 5 px at most" in caplog.text


def test_textures_of_16_bits_are_not_clipped(tmp_path):
    grey = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "t16.png")
    path = tmp_path / "box.ply"
    head = "comment TextureFile t16.png"
    path.write_text(ply_text(np.hstack([BOX, UV]), ["float s", "float t"], TRIANGLES, head))
    np.testing.assert_allclose(read_mesh(path).texture[0, ..., 0], grey / 257, atol=0.51)


def test_a_missing_package_is_not_told_as_damage(tmp_path, monkeypatch):
    def read(path: Path) -> list:
        raise ModuleNotFoundError("No module named 'charset_normalizer'")

    monkeypatch.setattr(meshes.ply, "read", read)
    path = tmp_path / "box.ply"
    path.write_text(ply_text(BOX, [], TRIANGLES))
    with pytest.raises(ModuleNotFoundError):
        read_mesh(path)
