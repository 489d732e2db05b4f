"""LINEMOD's layouts: poses come back, frames are changed, and what is damaged is refused in one line."""

import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from picopose.datasets.linemod.backgrounds import find_backgrounds
from picopose.datasets.linemod.bop_photos import BopPhotos
from picopose.datasets.linemod.classes import read_classes
from picopose.datasets.linemod.fuse import FusePhotos
from picopose.datasets.linemod.initial_poses import read_initial_poses, read_posecnn, read_pvnet
from picopose.datasets.linemod.photos import Joined, K
from picopose.datasets.linemod.poses import rigid_pose
from picopose.datasets.linemod.refine import RefinePhotos
from picopose.utils.errors import InputError
from tests import small_bop
from tests import small_linemod as small


def close(tensor: torch.Tensor, matrix: np.ndarray, tolerance: float = 1e-6) -> bool:
    return np.abs(tensor.double().numpy()[:3] - matrix).max() < tolerance


def photo_of(number: int) -> torch.Tensor:
    return torch.from_numpy(small.photo(number)).permute(2, 0, 1)


def test_deepims_photos_come_once_for_each_noisy_pose(tmp_path):
    source = RefinePhotos.real(small.write_refine(tmp_path), "cup", "train")
    assert len(source) == 4
    for index, (number, k) in enumerate([(1, 0), (1, 1), (4, 0), (4, 1)]):
        photo = source.photo(index)
        assert torch.equal(photo.rgb, photo_of(number)) and photo.rgb.dtype == torch.uint8
        assert close(photo.cam_from_obj, small.pose(number))
        assert close(photo.initial, small.pose(100 * number + k))
        assert np.allclose(photo.depth, small.depth_mm(number) / 1000, atol=1e-7)
        assert torch.equal(photo.K, torch.from_numpy(K).float())
        assert all(t.dtype == torch.float32 for t in (photo.depth, photo.cam_from_obj, photo.initial))
    assert source.name(1).endswith("03/000001-color.png from 000001_1-pose.txt")


def test_photos_for_tests_have_no_pose_to_begin_with(tmp_path):
    source = RefinePhotos.real(small.write_refine(tmp_path), "cup", "test")
    assert len(source) == 1 and source.photo(0).initial is None and source.numbers == ["000007"]
    assert close(source.photo(0).cam_from_obj, small.pose(7))


def test_the_synthetic_set_goes_by_the_names_of_classes(tmp_path):
    source = RefinePhotos.synthetic(small.write_synthetic(tmp_path), "cup")
    assert len(source) == 1 and torch.equal(source.photo(0).rgb, photo_of(2))
    assert close(source.photo(0).initial, small.pose(200))


def test_fused_photos_change_their_frame(tmp_path):
    root, frames = small.write_fuse(tmp_path)
    source = FusePhotos(root, "cup", frames)
    assert len(source) == 2
    photo = source.photo(1)
    assert close(photo.cam_from_obj, small.pose(6)) and photo.K[1, 1] == 510
    seen = (photo.depth > 0).nonzero()
    assert seen.amin(dim=0).tolist() == [8, 8] and seen.amax(dim=0).tolist() == [15, 19]
    assert photo.depth.max() == np.float32(0.706) and photo.rgb.shape == (3, small.HEIGHT, small.WIDTH)
    assert source.name(0).endswith("cup/00005.jpg")


def bop_set(tmp_path: Path) -> Path:
    """A split with depth and masks, in which object 5 is seen twice, once too little."""
    folder = small_bop.write_set(tmp_path) / "test"
    scene = folder / "000001"
    infos = {"3": [{"visib_fract": 0.9}, {"visib_fract": 0.05}], "7": [{"visib_fract": 1.0}]}
    small_bop.dump(scene / "scene_gt_info.json", infos)
    for im_id in (3, 7):
        small.save(
            scene / f"depth/{im_id:06d}.png", np.full((small_bop.HEIGHT, small_bop.WIDTH), 500, np.uint16)
        )
        for index in range(2):
            small.save(scene / f"mask_visib/{im_id:06d}_{index:06d}.png", small_bop.box_mask(5, 6, 10, 12))
    return folder


def test_bop_photos_are_those_that_show_the_object_well(tmp_path):
    source = BopPhotos(bop_set(tmp_path), 5)
    assert len(source) == 1 and "image 7" in source.name(0)
    photo = source.photo(0)
    truth = [[0, 0, 1, 0.01], [1, 0, 0, -0.02], [0, 1, 0, 0.5]]
    assert close(photo.cam_from_obj, np.array(truth)) and (photo.depth > 0).sum() == 120
    assert photo.depth.max() == 0.5 and photo.K[0, 0] == small_bop.K[0]
    assert len(BopPhotos(tmp_path / "toy/test", 5, visible=0.01)) == 2


def test_sources_are_joined_in_order(tmp_path):
    real = RefinePhotos.real(small.write_refine(tmp_path), "cup", "train")
    root, frames = small.write_fuse(tmp_path)
    joined = Joined([real, FusePhotos(root, "cup", frames)])
    assert len(joined) == 6 and joined.name(4).endswith("00005.jpg") and joined.name(0) == real.name(0)
    assert close(joined.photo(5).cam_from_obj, small.pose(6))
    with pytest.raises(IndexError):
        joined.photo(6)


def test_rotations_of_files_become_exact():
    given = small.pose(1)
    given[:, :3] += 2e-4 * np.random.default_rng(0).normal(size=(3, 3))
    exact = rigid_pose(given, "it")
    square = given[:, :3].T @ given[:, :3]
    values, vectors = np.linalg.eigh(square)  # R (R^T R)^(-1/2)
    expected = given[:, :3] @ vectors @ np.diag(values**-0.5) @ vectors.T
    assert np.abs(exact[:3, :3] - expected).max() < 1e-12
    assert np.abs(exact[:3, :3] @ exact[:3, :3].T - np.eye(3)).max() < 1e-14


def test_linemods_own_classes_are_known_where_a_set_lists_none(tmp_path):
    classes = read_classes(tmp_path)
    assert len(classes) == 13 and classes["phone"].obj_id == 15 and classes["ape"].diameter == 0.0974298
    assert [name for name, known in classes.items() if known.symmetric] == ["eggbox", "glue"]
    small.write_classes(tmp_path)
    (tmp_path / "a/b").mkdir(parents=True)
    assert [known.obj_id for known in read_classes(tmp_path / "a/b/x.pkl").values()] == [3, 12]


IMAGES = {3: [(3, 7), (3, 9)], 12: [(12, 1)]}
TRUTH = {"cup": [small.pose(50), small.pose(51)], "jug": [small.pose(52)]}


def rows() -> dict[str, list[np.ndarray]]:
    return {name: [small.quaternion_row(matrix) for matrix in poses] for name, poses in TRUTH.items()}


def write_posecnn(root: Path, content=None) -> Path:
    small.write_classes(root)
    path = root / "init_poses/linemod_posecnn_results.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content if content is not None else rows()))
    return path


def write_pvnet(root: Path) -> Path:
    """A folder, the jug's poses in it as a table."""
    small.write_classes(root)
    changes = np.load(small.write_frames(root), allow_pickle=True).item()
    folder = root / "init_poses/pvnet"
    folder.mkdir(exist_ok=True)
    moved = {
        name: np.array(
            [(np.vstack([m, [0, 0, 0, 1]]) @ np.vstack([changes[name], [0, 0, 0, 1]]))[:3] for m in ms]
        )
        for name, ms in TRUTH.items()
    }
    np.save(folder / "cup.npy", moved["cup"])
    np.save(folder / "jug.npy", {"jug": moved["jug"]})
    return folder


def write_csv(root: Path) -> Path:
    small.write_classes(root)
    path = root / "initial.csv"
    lines = ["scene_id,im_id,obj_id,score,R,t,time"]
    for (obj_id, images), poses in zip(IMAGES.items(), TRUTH.values(), strict=True):
        for (scene_id, im_id), matrix in zip(images, poses, strict=True):
            rotation = " ".join(map(str, matrix[:, :3].ravel()))
            shift = " ".join(map(str, 1000 * matrix[:, 3]))
            lines.append(f"{scene_id},{im_id},{obj_id},1,{rotation},{shift},-1")
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("write", [write_posecnn, write_pvnet, write_csv])
def test_initial_poses_of_all_forms_are_the_same(tmp_path, write):
    found = read_initial_poses(write(tmp_path), IMAGES)
    assert found.scene_id.tolist() == [3, 3, 12] and found.im_id.tolist() == [7, 9, 1]
    assert found.obj_id.tolist() == [3, 3, 12] and (found.score == 1).all() and (found.time == -1).all()
    assert np.abs(found.cam_from_obj - np.array([*TRUTH["cup"], *TRUTH["jug"]])).max() < 1e-9


@pytest.mark.parametrize(
    "form",
    [
        lambda rows: np.array(rows),
        lambda rows: [{"pose": row} for row in rows],
        lambda rows: [row.tolist() for row in rows],
    ],
)
def test_containers_of_posecnn(tmp_path, form):
    found = read_posecnn(write_posecnn(tmp_path, {name: form(poses) for name, poses in rows().items()}))
    assert np.abs(found["cup"] - np.array(TRUTH["cup"])).max() < 1e-9


def test_pvnets_cam_is_linemods_camera(tmp_path):
    frames = small.write_frames(tmp_path)
    np.save(frames, {"cam": small.BOP_FROM_BLENDER})
    (tmp_path / "init_poses/pvnet").mkdir()
    np.save(tmp_path / "init_poses/pvnet/cam.npy", np.array([small.in_blender(small.pose(1))]))
    found = read_initial_poses(tmp_path / "init_poses/pvnet/cam.npy", {4: [(2, 3)]})
    assert np.abs(found.cam_from_obj[0] - small.pose(1)).max() < 1e-9 and found.obj_id.tolist() == [4]
    assert read_pvnet(tmp_path / "init_poses/pvnet").keys() == {"camera"}


def spoil_rows(change):
    """PoseCNN's table with a change to the first row of the cup."""

    def spoil(root: Path) -> None:
        content = rows()
        change(content["cup"][0])
        write_posecnn(root, content)

    return spoil


def put(index: int, value: float):
    return lambda row: row.__setitem__(index, value)


INITIAL = {
    "a count that does not fit": (
        lambda r: write_posecnn(r, rows() | {"cup": rows()["cup"][:1]}),
        r"1 poses of class cup.* 2 images",
    ),
    "no class": (lambda r: write_posecnn(r, {"jug": rows()["jug"]}), "no poses of class cup, only of jug"),
    "NaN": (spoil_rows(put(5, np.nan)), "pkl: cup has numbers that are not finite"),
    "no unit quaternion": (spoil_rows(put(0, 2.0)), "cup, pose 0: a quaternion of length"),
    "no table": (lambda r: write_posecnn(r, [1, 2]), "no table of poses by class"),
    "rows of six": (lambda r: write_posecnn(r, {"cup": np.zeros((2, 6))}), r"shape \(2, 6\)"),
    "words": (lambda r: write_posecnn(r, {"cup": [["a"] * 7]}), "no table of numbers"),
    "mm": (
        lambda r: write_posecnn(r, {n: [x * ([1] * 4 + [1000] * 3) for x in p] for n, p in rows().items()}),
        "give metres",
    ),
    "cut off": (lambda r: _cut(write_posecnn(r)), "truncated or no pickle"),
}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("case", INITIAL)
def test_damaged_initial_poses_are_refused(tmp_path, case):
    spoil, message = INITIAL[case]
    spoil(tmp_path)
    refused(lambda: read_initial_poses(tmp_path / "init_poses/linemod_posecnn_results.pkl", IMAGES), message)


FRAMES = "init_poses/pose_conversion/blender2bop_RT.npy"
PVNET = {
    "no frames": (
        lambda r: shutil.rmtree(r / "init_poses/pose_conversion"),
        r"blender2bop_RT\.npy cannot be read",
    ),
    "a frame missing": (
        lambda r: np.save(r / FRAMES, {"jug": small.BOP_FROM_BLENDER}),
        "lacks the frame of class cup",
    ),
    "a frame that is none": (lambda r: np.save(r / FRAMES, {"cup": np.eye(3)}), r"shape \(3, 3\)"),
    "frames that are no table": (lambda r: np.save(r / FRAMES, np.eye(4)), "no table of frames"),
    "another shape": (
        lambda r: np.save(r / "init_poses/pvnet/cup.npy", np.zeros((2, 3))),
        r"cup\.npy: cup has the shape \(2, 3\)",
    ),
    "no rotation": (
        lambda r: np.save(r / "init_poses/pvnet/cup.npy", np.ones((2, 3, 4))),
        "cup, pose 0 has no rotation",
    ),
    "no files": (lambda r: [p.unlink() for p in (r / "init_poses/pvnet").iterdir()], "holds no poses"),
    "cut off": (lambda r: _cut(r / "init_poses/pvnet/cup.npy"), r"cup\.npy is truncated"),
}


@pytest.mark.parametrize("case", PVNET)
def test_damaged_poses_of_pvnet_are_refused(tmp_path, case):
    write_pvnet(tmp_path)
    spoil, message = PVNET[case]
    spoil(tmp_path)
    refused(lambda: read_initial_poses(tmp_path / "init_poses/pvnet", IMAGES), message)


def test_files_of_no_known_kind_are_refused(tmp_path):
    refused(
        lambda: read_initial_poses(tmp_path / "poses.txt", IMAGES),
        "no initial poses: give a file of .csv, .pkl",
    )


def refused(call, message: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert re.search(message, str(caught.value)) and "\n" not in str(caught.value)


COLOR, DEPTH = "data/observed/03/000001-color.png", "data/gt_observed/cup/000001-depth.png"
POSE, NOISY, LIST = (
    "data/gt_observed/cup/000001-pose.txt",
    "data/rendered/cup/000001_0-pose.txt",
    "image_set/observed/cup_train.txt",
)
REFINE = {
    "no list": (lambda r: (r / LIST).unlink(), r"cup_train\.txt cannot be read"),
    "an empty list": (lambda r: (r / LIST).write_text("\n"), "no list of photos .it is empty"),
    "a list of something": (lambda r: (r / LIST).write_text("03/a\n"), "'a' is no number"),
    "no photo": (lambda r: (r / COLOR).unlink(), "000001-color.png not found"),
    "no pose": (lambda r: (r / POSE).unlink(), "000001-pose.txt not found"),
    "a photo cut off": (lambda r: _cut(r / COLOR), "000001-color.png"),
    "a depth cut off": (lambda r: _cut(r / DEPTH), "000001-depth.png"),
    "another size": (
        lambda r: small.save(r / DEPTH, np.ones((5, 6), np.uint16)),
        "000001-color.png has 32x24 px, and its depth 6x5 px",
    ),
    "a coloured depth": (lambda r: small.save(r / DEPTH, small.photo(1)), "no depth image"),
    "no header": (lambda r: (r / POSE).write_text("1 0 0 0\n0 1 0 0\n0 0 1 1\n"), "one header line"),
    "a row too few": (lambda r: (r / POSE).write_text("1\n1 0 0 0\n0 1 0 0\n"), "one header line"),
    "words": (lambda r: (r / POSE).write_text("1\n1 0 0 0\n0 1 a 0\n0 0 1 1\n"), "no three rows"),
    "a number too few": (lambda r: (r / POSE).write_text("1\n1 0 0\n0 1 0 0\n0 0 1 1\n"), "four numbers"),
    "NaN": (lambda r: (r / POSE).write_text("1\n1 0 0 nan\n0 1 0 0\n0 0 1 1\n"), "not finite"),
    "no rotation": (
        lambda r: (r / NOISY).write_text("1\n1 0 0 0\n0 1 1 0\n0 0 1 1\n"),
        r"000001_0-pose.txt has no rotation",
    ),
    "a mirror": (lambda r: (r / NOISY).write_text("1\n-1 0 0 0\n0 1 0 0\n0 0 1 1\n"), "no rotation"),
    "mm": (lambda r: small.save_pose(r / POSE, small.pose(1) * [1, 1, 1, 1000]), "give metres"),
    "behind the camera": (
        lambda r: small.save_pose(r / POSE, -small.pose(1) * [-1, -1, -1, 1]),
        "before the camera",
    ),
    "a pose in bytes": (lambda r: (r / POSE).write_bytes(b"\xff\xfe"), "no text file"),
    "no such class": (
        lambda r: (r.parents[1] / "classes.json").unlink(),
        "no class 'cup' in the set: choose one of ape",
    ),
    "classes cut off": (lambda r: _cut(r.parents[1] / "classes.json"), r"classes\.json is truncated"),
    "no classes": (lambda r: (r.parents[1] / "classes.json").write_text("{}"), "no list of classes"),
    "a class without id": (lambda r: _classes(r, [{"name": "cup"}]), "needs name, id and diameter"),
    "a class twice": (lambda r: _classes(r, small.CLASSES[:1] * 2), "lists a name twice"),
    "a name that leads away": (
        lambda r: _classes(r, [{"name": "../x", "id": 1, "diameter": 0.1}]),
        "is no word",
    ),
    "a diameter in mm": (lambda r: _classes(r, [{"name": "cup", "id": 1, "diameter": 100}]), "give metres"),
    "symmetric in words": (
        lambda r: _classes(r, [{"name": "cup", "id": 1, "diameter": 0.1, "symmetric": "no"}]),
        "true or false",
    ),
}


def _classes(root: Path, content: list) -> None:
    (root.parents[1] / "classes.json").write_text(json.dumps(content))


@pytest.mark.parametrize("case", REFINE)
def test_damaged_files_of_deepim_are_refused(tmp_path, case):
    root = small.write_refine(tmp_path)
    spoil, message = REFINE[case]
    spoil(root)
    refused(lambda: RefinePhotos.real(root, "cup", "train").photo(0), message)


def params(**changes):
    K = np.array([[500.0, 0, 16], [0, 510, 12], [0, 0, 1]])
    return pickle.dumps({"RT": small.pose(1), "K": K} | changes)


FUSE = {
    "no photos": (lambda f: [p.unlink() for p in f.glob("*.jpg")], r"holds no photos"),
    "no params": (lambda f: (f / "00005_params.pkl").unlink(), "00005_params.pkl not found"),
    "params cut off": (lambda f: _cut(f / "00005_params.pkl"), "00005_params.pkl is truncated"),
    "params without K": (
        lambda f: (f / "00005_params.pkl").write_bytes(pickle.dumps({"RT": 1})),
        "no table with RT and K",
    ),
    "no camera": (
        lambda f: (f / "00005_params.pkl").write_bytes(params(K=np.zeros((3, 3)))),
        "params.pkl: K",
    ),
    "a camera of words": (lambda f: (f / "00005_params.pkl").write_bytes(params(K="K")), "params.pkl: K"),
    "NaN": (
        lambda f: (f / "00005_params.pkl").write_bytes(params(RT=np.full((3, 4), np.nan))),
        "params.pkl: RT has numbers",
    ),
    "depth cut off": (lambda f: _cut(f / "00005_depth.npy"), "00005_depth.npy is truncated"),
    "negative depth": (lambda f: np.save(f / "00005_depth.npy", -np.ones((24, 32))), "negative, NaN"),
    "depth of colours": (lambda f: np.save(f / "00005_depth.npy", np.ones((24, 32, 3))), "no depth image"),
    "a mask of another size": (
        lambda f: small.save(f / "00005_mask_visb.png", np.ones((5, 6), np.uint8)),
        "32x24 px, and its mask 6x5 px",
    ),
    "a photo of another size": (
        lambda f: small.save(f / "00005.jpg", small.photo(1)[:9]),
        "00005.jpg has 32x9 px",
    ),
}


@pytest.mark.parametrize("case", FUSE)
def test_damaged_fused_photos_are_refused(tmp_path, case):
    root, frames = small.write_fuse(tmp_path)
    spoil, message = FUSE[case]
    spoil(root / "cup")
    refused(lambda: FusePhotos(root, "cup", frames).photo(0), message)


BOP = {
    "no scenes": (lambda s: shutil.rmtree(s), "holds no scenes"),
    "no such object": (lambda s: small_bop.dump(s / "scene_gt.json", {}), "shows object 5 nowhere"),
    "no mask": (lambda s: shutil.rmtree(s / "mask_visib"), "000007_000000.png not found"),
    "no depth": (lambda s: shutil.rmtree(s / "depth"), r"depth/000007\.png not found"),
    "another size": (
        lambda s: small.save(s / "depth/000007.png", np.ones((5, 6), np.uint16)),
        "a depth of 6x5 px, and a mask of 64x48 px",
    ),
}


@pytest.mark.parametrize("case", BOP)
def test_damaged_bop_folders_are_refused(tmp_path, case):
    split = bop_set(tmp_path)
    spoil, message = BOP[case]
    spoil(split / "000001")
    refused(lambda: BopPhotos(split, 5).photo(0), message)


def write_voc(root: Path) -> Path:
    """VOC2012 with three photos, the second of which shows no table."""
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/diningtable_trainval.txt").write_text("2008_1  1\n2008_2 -1\n2008_3  1\n")
    for number in (1, 2, 3):
        small.save(root / f"JPEGImages/2008_{number}.jpg", small.photo(number))
    return root


def test_backgrounds_of_voc_are_those_of_tables(tmp_path):
    voc = write_voc(tmp_path)
    assert [path.stem for path in find_backgrounds(voc, "it ")] == ["2008_1", "2008_3"]
    assert len(find_backgrounds(voc / "JPEGImages", "it ")) == 3
    (voc / "JPEGImages/2008_3.jpg").unlink()
    refused(lambda: find_backgrounds(voc, "it "), "2008_3.jpg not found")
    listing = voc / "ImageSets/Main/diningtable_trainval.txt"
    listing.write_text("2008_1 -1\n")
    refused(lambda: find_backgrounds(voc, "it "), "no photo that shows a table")
    listing.write_text("2008_1\n")
    refused(lambda: find_backgrounds(voc, "it "), "no list of names")
    refused(lambda: find_backgrounds(voc / "ImageSets", "backgrounds="), "^backgrounds=")
