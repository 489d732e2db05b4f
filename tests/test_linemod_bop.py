"""LINEMOD's test photos in BOP's layout: what is read of the result is what the downloads hold."""

import re
import sys

import numpy as np
import pytest
import trimesh

from picopose.__main__ import main
from picopose.datasets.bop.objects import read_objects
from picopose.datasets.bop.targets import read_targets
from picopose.datasets.linemod.photos import K
from picopose.evaluation.eval_models import load_models
from picopose.evaluation.ground_truth import load_ground_truth
from picopose.evaluation.linemod_set import write_bop_set
from picopose.rendering.mesh import load_mesh
from picopose.utils.errors import InputError
from tests import small_linemod as small


def downloads(root):
    """Test photos 7 and 4, in this order, of the cup; its model is a box of 4 x 6 x 8 cm off the origin."""
    folder = small.write_refine(root)
    (folder / "image_set/observed/cup_test.txt").write_text("03/000007\n03/000004\n")
    models = root / "LM6d_converted/models/cup"
    models.mkdir(parents=True)
    box = trimesh.creation.box((0.04, 0.06, 0.08))
    box.apply_translation((0.01, 0, 0))
    box.export(models / "cup.ply")
    box.export(models / "textured.obj")
    return root


def converted(tmp_path, **changes):
    write_bop_set(downloads(tmp_path / "in"), tmp_path / "out/lm", **changes)
    return tmp_path / "out/lm"


def test_poses_cameras_and_order_are_those_of_the_downloads(tmp_path):
    lm = converted(tmp_path)
    targets = read_targets(lm / "test_targets_bop19.json")
    assert list(targets.images.items()) == [((3, 7), {3: 1}), ((3, 4), {3: 1})]
    truth = load_ground_truth(lm / "test", lm / "test_targets_bop19.json", per_object=True)
    for image, number in zip(truth.images, (7, 4), strict=True):
        assert np.abs(image.cam_from_obj[0] - small.pose(number)).max() < 1e-9
        rotation = image.cam_from_obj[0, :, :3]
        assert np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-12
        assert (image.K == K).all() and image.obj_id.tolist() == [3] and image.visibility.tolist() == [1]
        assert (
            image.photo.read_bytes()
            == (
                tmp_path / f"in/LM6d_converted/LM6d_refine/data/observed/03/{number:06d}-color.png"
            ).read_bytes()
        )
        assert image.depth().max() == np.float32(0.001) * (703 + number)


def test_rotations_that_are_off_are_made_exact(tmp_path):
    root = downloads(tmp_path / "in")
    path = root / "LM6d_converted/LM6d_refine/data/gt_observed/cup/000007-pose.txt"
    skewed = small.pose(7)
    skewed[:, :3] += 2e-4 * np.random.default_rng(0).normal(size=(3, 3))
    small.save_pose(path, skewed)
    write_bop_set(root, tmp_path / "lm")
    image = load_ground_truth(
        tmp_path / "lm/test", tmp_path / "lm/test_targets_bop19.json", per_object=True
    ).images[0]
    rotation = image.cam_from_obj[0, :, :3]
    assert np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-12
    assert 1e-5 < np.abs(rotation - skewed[:, :3]).max() < 1e-3


def test_models_are_in_mm_with_the_listed_diameter(tmp_path):
    lm = converted(tmp_path)
    for folder in ("models", "models_eval"):
        info = read_objects(lm / folder)[3]
        assert info.diameter == pytest.approx(0.1) and len(info.symmetry.discrete) == 0
        mesh = load_mesh(info.model_path, unit="mm")
        assert np.allclose(mesh.vertices.min(axis=0), (-0.01, -0.03, -0.04), atol=1e-6)
        assert np.allclose(np.ptp(mesh.vertices, axis=0), (0.04, 0.06, 0.08), atol=1e-6)
    assert len(load_models(lm, [3])[3].symmetries) == 1


def test_symmetric_objects_turn_by_half_about_their_middle(tmp_path, monkeypatch):
    monkeypatch.setattr(small, "CLASSES", [small.CLASSES[0] | {"symmetric": True}])
    symmetries = load_models(converted(tmp_path), [3])[3].symmetries
    assert len(symmetries) == 2
    turned = symmetries[1, :, :3] @ [0.03, 0.01, 0.02] + symmetries[1, :, 3]
    assert np.allclose(turned, [-0.01, -0.01, 0.02])  # the middle is at x = 0.01


def test_what_hides_an_object_is_known_by_the_measured_depth(tmp_path):
    root = downloads(tmp_path / "in")
    depth = small.depth_mm(7) + np.uint16(3)
    depth[6:12] = 600  # in front of the upper half
    small.save(root / "LM6d_converted/LM6d_refine/data/observed/03/000007-depth.png", depth)
    write_bop_set(root, tmp_path / "lm")
    truth = load_ground_truth(tmp_path / "lm/test", tmp_path / "lm/test_targets_bop19.json", per_object=True)
    assert truth.images[0].visibility.tolist() == [0.5] and truth.images[1].visibility.tolist() == [1]


def test_photos_without_measured_depth_are_enough(tmp_path):
    root = downloads(tmp_path / "in")
    for path in (root / "LM6d_converted/LM6d_refine/data/observed/03").glob("*-depth.png"):
        path.unlink()
    write_bop_set(root, tmp_path / "lm")
    truth = load_ground_truth(tmp_path / "lm/test", tmp_path / "lm/test_targets_bop19.json", per_object=True)
    assert not truth.has_depth and truth.images[0].visibility.tolist() == [1]


LISTS = "LM6d_converted/LM6d_refine/image_set/observed"
DAMAGE = {
    "no lists": (
        lambda r: [p.unlink() for p in (r / LISTS).glob("*_test.txt")],
        {},
        "holds no list of test photos",
    ),
    "a class without photos": (lambda r: None, {"names": ["jug"]}, r"jug_test\.txt cannot be read"),
    "no such class": (lambda r: None, {"names": ["ape"]}, "no class 'ape'"),
    "a photo twice": (
        lambda r: (r / LISTS / "cup_test.txt").write_text("000007\n000007\n"),
        {},
        "lists photo 7 twice",
    ),
    "no model": (lambda r: (r / "LM6d_converted/models/cup/cup.ply").unlink(), {}, r"cup\.ply not found"),
    "an object that is not there": (
        lambda r: small.save(
            r / "LM6d_converted/LM6d_refine/data/gt_observed/cup/000007-depth.png",
            np.zeros((24, 32), np.uint16),
        ),
        {},
        "shows no object",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_downloads_are_refused_and_leave_nothing(tmp_path, case):
    spoil, options, message = DAMAGE[case]
    root = downloads(tmp_path / "in")
    spoil(root)
    with pytest.raises(InputError) as caught:
        write_bop_set(root, tmp_path / "out/lm", **options)
    assert re.search(message, str(caught.value))
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_the_command_makes_the_set_once(tmp_path, monkeypatch, capsys):
    root = downloads(tmp_path / "in")
    monkeypatch.setattr(sys, "argv", ["picopose", "linemod", str(root), str(tmp_path / "out")])
    main()
    assert "lm is made" in capsys.readouterr().out and (tmp_path / "out/lm/camera.json").is_file()
    monkeypatch.setattr(sys, "argv", ["picopose", "linemod", str(root), str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        main()
    assert "not empty: name another folder" in capsys.readouterr().err
