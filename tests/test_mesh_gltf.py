"""Reading glTF and GLB files: geometry, textures, colours, and what is refused."""

import base64
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh

from picopose.rendering import mesh as meshes
from picopose.rendering.mesh import read_mesh
from picopose.utils.errors import InputError
from tests.box_files import (
    BOX,
    BOX_COLOURS,
    COLOURS,
    FACES,
    SIZE,
    UV,
    colours_at,
    picture,
    refused,
    size,
    volume,
)

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
