"""Readers of training pairs: MegaPose's shards with templates, and pairs that were kept."""

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from picopose.datasets import layouts
from picopose.datasets.templates import StoredViews
from picopose.datasets.training.kept_pairs import KeptPairs, begin_record, end_record, write_shard
from picopose.datasets.training.megapose import SUFFIXES, MegaPosePairs
from picopose.utils import template_files
from picopose.utils.crop import crop_views
from picopose.utils.records import Pair, View
from tests.mutated.soundness import is_camera, is_rotation, sound
from tests.mutation_cases import Reader
from tests.small_bop import dump, runs_of

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
    width, height = template_files.SIZE
    y, x = np.mgrid[:height, :width]
    shown = (x - width / 2) ** 2 + (y - height / 2) ** 2 < 80**2
    rgba = np.stack([x % 256, y % 256, (x + y) % 256, shown * 255], axis=-1).astype(np.uint8)
    for view in range(2):
        image, depth = template_files.image_files(templates, "000001", view)
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgba).save(image)
        Image.fromarray(np.where(shown, 5000, 0).astype(np.uint16)).save(depth)
    path = template_files.poses_file(templates, "000001")
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
        lambda folder: StoredViews(folder, "gso", "000001").read(32),
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
