"""The set like LINEMOD that the project makes: all its layouts are read, and agree with its models."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from picopose.datasets.linemod.classes import read_classes
from picopose.datasets.linemod.fuse import FusePhotos
from picopose.datasets.linemod.initial_poses import read_initial_poses
from picopose.datasets.linemod.photos import Photos
from picopose.datasets.linemod.refine import RefinePhotos
from picopose.rendering.mesh import Mesh, diameter, load_mesh, read_triangles
from picopose.rendering.renderer import Renderer
from picopose.utils.errors import InputError
from picopose.utils.geometry import rotation_angle
from tests.rendered import renderer
from tools.linemod_set import __main__ as linemod_set
from tools.linemod_set import drawing
from tools.mini_set.photos import Photo

COUNTS = linemod_set.Counts(train=2, test=2, initial=2, synthetic=2, fused=2, backdrops=1)
NAMES = ("mug", "detergent_jug")


def plain_photograph(renderer: Renderer, scene, K, width, height, rng) -> Photo:
    """In place of the simulated photo, which takes seconds."""
    items = [*scene.items, *scene.surroundings]
    instances = [(item.mesh, scene.cam_from_world @ item.world_from_obj) for item in items]
    drawn = renderer.render(instances, K, width, height)
    return Photo(drawn.rgb, drawn.depth, drawn.ids)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("linemod") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "photograph", plain_photograph)
        linemod_set.make(root, COUNTS, seed=3)
    return root


def mesh(root: Path, name: str) -> Mesh:
    return load_mesh(root / f"LM6d_converted/models/{name}/textured.obj", unit="m")


def sources(root: Path, name: str) -> dict[str, Photos]:
    converted, frames = root / "LM6d_converted", root / "init_poses/pose_conversion/blender2bop_RT.npy"
    return {
        "train": RefinePhotos.real(converted / "LM6d_refine", name, "train"),
        "test": RefinePhotos.real(converted / "LM6d_refine", name, "test"),
        "synthetic": RefinePhotos.synthetic(converted / "LM6d_refine_syn", name),
        "fuse": FusePhotos(root / "LINEMOD/fuse_formatted", name, frames),
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_layout_has_the_object_where_its_pose_is(made, name):
    counts = {kind: len(source) for kind, source in sources(made, name).items()}
    assert counts == {"train": 4, "test": 2, "synthetic": 2, "fuse": 2}
    shown = mesh(made, name)
    for kind, source in sources(made, name).items():
        for index in range(len(source)):
            photo = source.photo(index)
            pose, K = photo.cam_from_obj.double().numpy(), photo.K.double().numpy()
            alone, own = renderer().render_depth(shown, pose, K, 640, 480), photo.depth.numpy()
            both = (alone > 0) & (own > 0)
            assert np.count_nonzero(own) - np.count_nonzero(both) <= 3  # of outlines, by rounding
            assert np.count_nonzero(both) > 0.3 * np.count_nonzero(alone)
            assert np.abs(alone - own)[both].max() < 6e-4  # rounded to mm
            assert (photo.initial is None) == (kind in ("test", "fuse"))


def test_poses_to_begin_with_are_off_but_not_by_much(made):
    photos = [
        source.photo(index)
        for name in NAMES
        for kind, source in sources(made, name).items()
        for index in range(len(source))
        if kind in ("train", "synthetic")
    ]
    turns = [rotation_angle(p.initial[:3, :3] @ p.cam_from_obj[:3, :3].mT) for p in photos]
    turns = torch.rad2deg(torch.stack(turns))
    assert 10 < turns.median() < 35 and turns.max() <= 45.1 and len(turns) == 12
    shifts = torch.stack([(p.initial - p.cam_from_obj)[:3, 3] for p in photos])
    assert shifts[:, :2].abs().max() < 0.05 and 0.01 < shifts[:, 2].std() < 0.12


def test_initial_poses_of_all_files_are_the_same(made):
    ids = {name: read_classes(made)[name].obj_id for name in NAMES}
    images = {obj_id: [(obj_id, 2), (obj_id, 3)] for obj_id in ids.values()}
    names = ("linemod_posecnn_results.pkl", "pvnet", "initial_lm-test.csv")
    found = [read_initial_poses(made / "init_poses" / name, images) for name in names]
    for other in found[1:]:
        assert np.abs(other.cam_from_obj - found[0].cam_from_obj).max() < 1e-6
        assert other.im_id.tolist() == [2, 3, 2, 3] and other.obj_id.tolist() == [1, 1, 5, 5]


def test_models_are_of_a_size_for_vertex_features(made):
    for name in NAMES:
        shown = mesh(made, name)
        places, _ = read_triangles(made / f"LM6d_converted/models/{name}/{name}.ply")
        assert 700 <= len(places) <= len(shown.vertices) <= 2000 and shown.texture is not None
        assert read_classes(made)[name].diameter == pytest.approx(diameter(shown.vertices), abs=1e-6)
        assert cKDTree(places).query(shown.vertices)[0].max() < 1e-8
        assert cKDTree(shown.vertices).query(places)[0].max() < 1e-8


def test_backgrounds_are_listed_as_vocs(made):
    folder = made / "VOCdevkit/VOC2012"
    listed = (folder / "ImageSets/Main/diningtable_trainval.txt").read_text().split()
    assert listed == ["2012_000000", "1"] and (folder / "JPEGImages/2012_000000.jpg").is_file()


def test_a_seed_decides_everything(made, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "photograph", plain_photograph)
    linemod_set.make(tmp_path / "again", COUNTS, seed=3)
    files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert len(files) > 80
    assert files == sorted(
        p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file()
    )
    assert all((made / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match="not empty"):
        linemod_set.make(tmp_path, COUNTS, seed=0)
