"""Where the meshes of a data set are looked for, and how files are read and written."""

import json
import os

import pytest

from picopose.datasets.layouts import dataset_dir, dataset_name, find_meshes, templates_dir
from picopose.datasets.training.sources import mesh_files
from picopose.rendering.mesh import READERS
from picopose.utils.errors import InputError
from picopose.utils.files import write_atomically
from picopose.utils.mesh_file import MESH_SUFFIXES, MeshFile
from picopose.utils.reading import iterate_json, read_json
from tests.small_bop import dump, write_set


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mesh")
    return path


def test_bop_meshes_are_in_millimetres(tmp_path):
    folder = write_set(tmp_path, "tless", split="test_primesense", models="models_cad")
    touch(folder / "models/obj_000001.ply")
    assert find_meshes(tmp_path, "tless") == {
        "000002": MeshFile(folder / "models_cad/obj_000002.ply", 0.001),
        "000005": MeshFile(folder / "models_cad/obj_000005.ply", 0.001),
    }


@pytest.mark.parametrize("root", ["gso", "MegaPose-GSO", "MegaPose-Training-Data/MegaPose-GSO", "."])
def test_gso_meshes(tmp_path, root):
    dump(
        tmp_path / root / "gso_models.json", [{"obj_id": 7, "gso_id": "Mug"}, {"obj_id": 0, "gso_id": "Shoe"}]
    )
    models = tmp_path / root / "google_scanned_objects/models_normalized"
    touch(models / "Mug/meshes/model.obj")
    assert list(find_meshes(tmp_path, "gso").items()) == [
        ("000000", MeshFile(models / "Shoe/meshes/model.obj", 0.1, "centre")),
        ("000007", MeshFile(models / "Mug/meshes/model.obj", 0.1, "centre")),
    ]


def test_shapenet_meshes(tmp_path):
    entry = {"obj_id": 3, "shapenet_synset_id": "02691156", "shapenet_source_id": "10155655"}
    dump(tmp_path / "shapenet/shapenet_models.json", [entry])
    path = tmp_path / "shapenet/shapenetcorev2/02691156/10155655/models/model_normalized.obj"
    touch(path)
    assert find_meshes(tmp_path, "shapenet") == {"000003": MeshFile(path, 0.1)}


def test_a_plain_folder_of_meshes(tmp_path):
    for name in ("cup.glb", "box.STL", "notes.txt"):
        touch(tmp_path / "things" / name)
    assert find_meshes(tmp_path, "things") == {
        "box": MeshFile(tmp_path / "things/box.STL", 1.0),
        "cup": MeshFile(tmp_path / "things/cup.glb", 1.0),
    }


@pytest.mark.parametrize("name", ["/abs", "../data/toys", "toys/", "a/b", "..", ".", "", "./toys", "/"])
def test_a_path_is_no_name_of_a_data_set(tmp_path, name):
    touch(tmp_path / "toys/cup.ply")
    for ask in (dataset_dir, templates_dir, find_meshes):
        with pytest.raises(InputError, match=f"data set '{name}': give a name, not a path.*data_dir"):
            ask(tmp_path, name)


def test_a_typed_name_may_end_in_a_slash():
    assert [dataset_name(given) for given in ("toys", "toys/", "my.toys-2//")] == [
        "toys",
        "toys",
        "my.toys-2",
    ]
    for given in ("/abs", "../data/mini", "a/b/", "../", "./", "/", ""):
        with pytest.raises(InputError, match=f"data set '{given}': give a name"):
            dataset_name(given)


def test_the_folder_of_training_meshes_is_a_path(tmp_path, monkeypatch):
    touch(tmp_path / "toys/cup.ply")
    monkeypatch.chdir(tmp_path / "toys")
    for folder in (".", "../toys/", str(tmp_path / "toys")):
        assert mesh_files(folder) == {"cup": MeshFile(tmp_path / "toys/cup.ply", 1.0)}


MISSING = {
    "things": ("no meshes .*there: notes.txt", "things/notes.txt"),
    "twins": ("cup.ply and .*cup.obj have the same name", "twins/cup.obj"),
    "absent": ("absent not found.*: twins", "twins/cup.obj"),
    "tless": ("models_cad not found.*: models", "tless/models/obj_000001.ply"),
    "lmo": ("no obj_.*there: cup.ply", "lmo/models/cup.ply"),
    "gso": ("gso_models.json not found.*MegaPose-GSO", "other/notes.txt"),
    "shapenet": ("shapenetcorev2 not found", "shapenet/shapenet_models.json"),
}


@pytest.mark.parametrize("name", MISSING)
def test_missing_meshes_are_named_with_what_is_there(tmp_path, name):
    problem, file = MISSING[name]
    touch(tmp_path / file)
    if name == "twins":
        touch(tmp_path / "twins/cup.ply")
    with pytest.raises(InputError, match=problem):
        find_meshes(tmp_path, name)


@pytest.mark.parametrize("content", [{}, [1], [{"obj_id": 1}], [{"obj_id": "x", "gso_id": "Mug"}]])
def test_a_list_of_training_models_that_is_none(tmp_path, content):
    dump(tmp_path / "gso/gso_models.json", content)
    (tmp_path / "gso/google_scanned_objects/models_normalized").mkdir(parents=True)
    with pytest.raises(InputError, match=r"gso_models.json .* obj_id, gso_id"):
        find_meshes(tmp_path, "gso")


@pytest.mark.parametrize("text", ["", "[1, 2", '{"a": "b', "[" * 100_000, "nonsense", "1" * 5000])
def test_damaged_json_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    for read in (read_json, lambda path: list(iterate_json(path))):
        with pytest.raises(InputError, match=r"a\.json .*: download or create it again") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_a_folder_or_binary_file_is_no_json(tmp_path):
    (tmp_path / "b.json").write_bytes(os.urandom(100))
    for path in (tmp_path, tmp_path / "b.json"):
        with pytest.raises(InputError, match=str(path)):
            read_json(path)


def test_large_lists_are_read_in_pieces(tmp_path):
    entries = [{"number": number, "text": "]}, {" * (number % 50)} for number in range(20_000)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(entries, indent=1))
    assert path.stat().st_size > 2 << 20
    assert list(iterate_json(path)) == entries


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with pytest.raises(RuntimeError), write_atomically(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    with write_atomically(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists() and temporary.suffix == ".txt"
    assert [entry.read_text() for entry in path.parent.iterdir()] == ["whole"]


def test_the_mesh_files_that_are_found_are_those_that_are_read():
    assert set(MESH_SUFFIXES) == set(READERS)
