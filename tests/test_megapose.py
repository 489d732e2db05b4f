"""MegaPose shards: pairs from tars and unpacked folders, damage, order, and the geometry of the pairs."""

import io
import json
import logging
import math
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from picopose.datasets.training.loader import Share, sample_loader
from picopose.datasets.training.megapose import EpochOrder, MegaPosePairs, part, read_photo
from picopose.datasets.training.shards import Shards
from picopose.utils.errors import InputError
from picopose.utils.geometry import cell_centres, transform
from picopose.utils.records import Pair
from tests import small_shards
from tests.raycast import surface_points

SIZE = 64


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The set as it is downloaded; tests that damage it copy its links first."""
    data_dir = tmp_path_factory.mktemp("data")
    _, meshes = small_shards.write(data_dir)
    return data_dir, meshes


@pytest.fixture
def copied(written, tmp_path):
    """A copy whose shards may be damaged; meshes and templates are shared."""
    source, _ = written
    (tmp_path / "templates").symlink_to(source / "templates")
    root = tmp_path / "MegaPose-GSO"
    folder = root / "train_pbr_web"
    folder.mkdir(parents=True)
    (root / "gso_models.json").symlink_to(source / "MegaPose-GSO" / "gso_models.json")
    for file in (source / "MegaPose-GSO" / "train_pbr_web").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return tmp_path, folder


def source(data_dir, seed: int = 0) -> MegaPosePairs:
    return MegaPosePairs(data_dir, "gso", size=SIZE, seed=seed)


def same(a: Pair, b: Pair) -> bool:
    return torch.equal(a.real.rgb, b.real.rgb) and torch.equal(a.template.depth, b.template.depth)


@pytest.mark.parametrize("side", ["real", "template"])
def test_depth_is_that_of_a_ray_cast(written, side):
    data_dir, meshes = written
    pairs, rng = source(data_dir), np.random.default_rng(0)
    for index in range(6):
        view = getattr(pairs.sample(index), side)
        pixels = rng.permutation(np.flatnonzero(view.depth > 0))[:80]
        xy = cell_centres(SIZE, SIZE)[pixels].double().numpy()
        errors = []
        for mesh in meshes.values():  # the pair shows one of the two
            pose = view.cam_from_obj.double()
            xyz, hit = surface_points(xy, view.K.double().numpy(), pose.numpy(), mesh.vertices, mesh.faces)
            gap = (transform(pose, torch.from_numpy(xyz))[:, 2] - view.depth.flatten()[pixels]).abs()
            errors.append(gap.median().item() if hit.mean() > 0.9 else np.inf)
        assert min(errors) < 3e-4  # m: depths of 0.1 mm, colours and masks resized


def test_views_are_of_one_object_with_colours_of_their_own(written):
    data_dir, meshes = written
    pairs = source(data_dir)
    for index in range(6):
        pair = pairs.sample(index)
        distance = pair.template.cam_from_obj[:3, 3].norm().item()
        diagonals = [np.linalg.norm(np.ptp(mesh.vertices, axis=0)) for mesh in meshes.values()]
        assert min(abs(distance - 2 * diagonal) for diagonal in diagonals) < 1e-4
        overlap = pair.real.mask & (pair.real.depth > 0)
        assert overlap.sum() > 0.4 * pair.real.mask.sum()
        assert pair.real.rgb.shape == (3, SIZE, SIZE)
        # The object's grey fills the mask; JPEG and the window's rim leave a little more.
        assert pair.real.rgb[:, overlap].median() > 0.5


def test_unpacked_folders_give_the_same_pairs(written, copied):
    data_dir, folder = copied
    small_shards.unpack(folder)
    assert not list(folder.glob("*.tar"))
    tars, unpacked = source(written[0]), source(data_dir)
    expected = [tars.sample(i) for i in range(6)]
    assert all(same(expected[i], unpacked.sample(i)) for i in range(6))
    for sub in [path for path in folder.iterdir() if path.is_dir()]:
        for file in sub.iterdir():
            file.rename(folder / file.name)
        sub.rmdir()
    unpacked = source(data_dir)
    assert all(same(expected[i], unpacked.sample(i)) for i in range(6))


def test_truncated_tar_is_named_once_and_the_rest_is_used(copied, caplog):
    data_dir, folder = copied
    tar = folder / "shard-000001.tar"
    content = tar.read_bytes()
    tar.write_bytes(content[: len(content) // 2 + 100])
    with caplog.at_level(logging.WARNING):
        reader = source(data_dir)
        pairs = [reader.sample(i) for i in range(18)]
    assert len(pairs) == 18
    assert sum("shard-000001.tar" in record.message for record in caplog.records) == 1
    assert len(caplog.records) == 1
    shards = Shards(folder, folder / "key_to_shard.json", small_shards.SUFFIXES)
    assert set(shards.read(3)) == set(small_shards.SUFFIXES)  # the first of the damaged shard is whole


@pytest.mark.parametrize("damage", ["empty", "noise", "missing", "bad images"])
def test_other_damage_is_survived_and_named(copied, caplog, damage):
    data_dir, folder = copied
    tar = folder / "shard-000002.tar"
    if damage == "missing":
        tar.unlink()
    elif damage == "bad images":
        content = tar.read_bytes()
        start = content.index(b"\xff\xd8\xff")
        tar.write_bytes(content.replace(b"\xff\xd8\xff", b"\0\0\0") if start else content)
    else:
        tar.write_bytes(b"" if damage == "empty" else np.random.default_rng(0).bytes(20_000))
    with caplog.at_level(logging.WARNING):
        reader = source(data_dir)
        pairs = [reader.sample(i) for i in range(9)]
    assert len(pairs) == 9
    assert ["shard-000002.tar" in record.message for record in caplog.records] == [True]


NESTED = b"[" * 100_000 + b"]" * 100_000
FAR = [1e3] * 3
TURN = [1, 0, 0, 0, 1, 0, 0, 0, 1]


def pose(**changes) -> bytes:
    """A table of two objects' poses; json writes infinity as 1e999 is read."""
    entry = {"obj_id": 1, "cam_R_m2c": TURN, "cam_t_m2c": FAR} | changes
    return json.dumps([entry, entry]).replace("Infinity", "1e999").encode()


def masks(runs: list[int], height: int, width: int) -> bytes:
    return json.dumps([{"counts": runs, "size": [height, width]}] * 2).encode()


def blank(suffix: str, height: int, width: int) -> bytes:
    return cv2.imencode(suffix, np.zeros((height, width), np.uint8))[1].tobytes()


UNREADABLE = {
    "nested": ("gt.json", NESTED, "RecursionError"),
    "no JSON": ("gt_info.json", b"{", "JSONDecodeError"),
    "an infinite number of an object": ("gt.json", pose(obj_id=math.inf), "obj_id must be an integer"),
    "a pose beyond all": ("gt.json", pose(cam_t_m2c=[10**400] * 3), "cam_t_m2c must be 3 finite numbers"),
    "no rotation": ("gt.json", pose(cam_R_m2c=[2] * 9), "cam_R_m2c is no rotation"),
    "behind the camera": ("gt.json", pose(cam_t_m2c=[0, 0, -500]), "object 0 is behind the camera"),
    "no numbers of a camera": ("camera.json", b'{"cam_K": [NaN], "depth_scale": 1}', "cam_K must be 9"),
    "no focal length": (
        "camera.json",
        b'{"cam_K": [0,0,1,0,0,1,0,0,1], "depth_scale": 1}',
        "focal lengths 0",
    ),
    "a mask of another size": ("mask_visib.json", masks([0, 320 * 240], 240, 320), "a mask of 320x240 px"),
    "a huge mask": ("mask_visib.json", masks([0, 60_000**2], 60_000, 60_000), "claims 60000x60000 px"),
    "an infinite mask": ("mask_visib.json", b'[{"counts": [1], "size": [1e999, 1]}, {}]', "Error"),
    "a mask of text": ("mask_visib.json", b'["mask", "mask"]', "Error"),
    "a huge photo": ("rgb.jpg", blank(".jpg", 5000, 5000), "claims 5000x5000 px"),
    "half a photo": ("rgb.jpg", blank(".jpg", 120, 160)[:-40], "truncated"),
    "a depth image of another size": ("depth.png", blank(".png", 60, 80), "no images of one size"),
}


@pytest.mark.parametrize("damage", UNREADABLE)
def test_an_unreadable_sample_is_named_and_the_others_are_used(copied, caplog, damage):
    data_dir, folder = copied
    suffix, content, reason = UNREADABLE[damage]
    small_shards.change(folder / "shard-000001.tar", "000001_000001", suffix, content)
    with caplog.at_level(logging.WARNING):
        reader = source(data_dir)
        assert len([reader.sample(i) for i in range(9)]) == 9
    (record,) = caplog.records
    assert "shard-000001.tar is damaged" in record.message
    assert "(sample 000001_000001: " in record.message and reason in record.message


def test_photos_are_taken_as_they_are_stored(copied):
    _, folder = copied
    tar, key = folder / "shard-000001.tar", "000001_000001"
    shards = Shards(folder, folder / "key_to_shard.json", small_shards.SUFFIXES)
    position = next(i for i in range(len(shards)) if shards.key(i) == key)
    plain = read_photo(shards.read(position))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3  # upside down, for viewers
    small_shards.change(tar, key, "rgb.jpg", with_exif(shards.read(position)["rgb.jpg"], exif))
    again = Shards(folder, folder / "key_to_shard.json", small_shards.SUFFIXES)
    turned = again.read(position)
    assert Image.open(io.BytesIO(turned["rgb.jpg"])).getexif()[ExifTags.Base.Orientation] == 3
    assert np.array_equal(read_photo(turned).rgb, plain.rgb)


def with_exif(jpeg: bytes, exif: Image.Exif) -> bytes:
    """A JPEG file with EXIF data, its pixels untouched."""
    content = exif.tobytes()
    return jpeg[:2] + b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content + jpeg[2:]


def test_nothing_but_damage_is_an_error(copied):
    data_dir, folder = copied
    for tar in folder.glob("*.tar"):
        tar.write_bytes(b"no tar")
    with pytest.raises(InputError, match=r"\d+ of \d+ samples cannot be read, .*: download the shards again"):
        source(data_dir).sample(0)


def test_shards_beside_their_tables_as_they_are_downloaded(written, copied):
    data_dir, folder = copied
    for file in folder.iterdir():
        file.rename(folder.parent / file.name)
    ours, theirs = source(data_dir), source(written[0])
    assert all(same(ours.sample(i), theirs.sample(i)) for i in range(4))
    folder.rmdir()
    assert same(source(data_dir).sample(0), theirs.sample(0))


def test_a_run_taken_up_again_sees_the_same_pairs(written):
    data_dir, _ = written
    reader = source(data_dir, seed=1)
    whole = [reader.sample(i) for i in range(12)]
    loader = sample_loader(source(data_dir, seed=1), Share(3), first_step=2, steps=4, workers=0)
    for step, batch in enumerate(loader, start=2):
        assert same(batch, Pair.stack(whole[3 * step : 3 * step + 3]))
    other = source(data_dir, seed=2)
    assert not all(same(other.sample(i), whole[i]) for i in range(4))


def test_every_epoch_shows_every_sample_once_and_in_another_order():
    starts = np.concatenate([[0], np.cumsum(np.arange(1, 40))])
    order = EpochOrder(starts, np.diff(starts, append=1000), seed=0)
    epochs = [[order.position(epoch * 1000 + i) for i in range(1000)] for epoch in range(2)]
    assert all(sorted(epoch) == list(range(1000)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    shards = np.searchsorted(starts, epochs[0], side="right")
    assert len(set(shards[:100])) <= 16
    assert len(set(shards[:100])) > 8


def test_shards_for_training_and_those_held_out_have_nothing_in_common():
    starts = np.arange(0, 2500, 10)
    (ours, sizes), (held_out, few) = (part(starts, 2500, held_out=flag) for flag in (False, True))
    assert sorted([*ours, *held_out]) == starts.tolist() and len(held_out) == 3
    assert sizes.sum() + few.sum() == 2500
    order = EpochOrder(held_out, few, seed=0)
    assert sorted(order.position(i) for i in range(30)) == list(range(2470, 2500))


def test_an_object_with_damaged_templates_is_left_out_and_named(copied, caplog):
    data_dir, _ = copied
    shutil.copytree((data_dir / "templates").resolve(), data_dir / "own")
    (data_dir / "templates").unlink()
    (data_dir / "own").rename(data_dir / "templates")
    for path in (data_dir / "templates").rglob("000001/*.png"):
        path.write_bytes(b"no image")
    pairs = [source(data_dir).sample(i) for i in range(6)]
    assert len(pairs) == 6
    assert "object 000001 is left out" in caplog.text


def test_templates_in_another_unit_than_the_photos_are_told(copied, caplog):
    """Depth and poses in mm, which nothing but the object's size tells from both in 0.1 mm."""
    data_dir, _ = copied
    shutil.copytree((data_dir / "templates").resolve(), data_dir / "own")
    (data_dir / "templates").unlink()
    (data_dir / "own").rename(data_dir / "templates")
    for path in (data_dir / "templates").rglob("000001/*_depth.png"):
        cv2.imwrite(str(path), (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / 10).astype(np.uint16))
    assert len([source(data_dir).sample(i) for i in range(6)]) == 6
    left_out = (
        r"object 000001 is left out: its template shows a surface about 0\.01\d* m wide and a photo one"
    )
    assert re.search(left_out, caplog.text)
    assert "000004 is left out" not in caplog.text


def test_name_says_shard_and_sample(written):
    name = source(written[0]).name(4)
    assert "shard-00000" in name
    assert "pair 4" in name


def test_what_is_missing_is_named(written, copied):
    data_dir, folder = copied
    (data_dir / "templates").unlink()
    with pytest.raises(InputError, match=r"picopose templates --dataset gso"):
        source(data_dir)
    (folder / "key_to_shard.json").unlink()
    with pytest.raises(InputError, match=r"key_to_shard\.json"):
        source(data_dir)
