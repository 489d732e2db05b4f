"""Makes the project's own small data sets in BOP's layout: `python -m tools.mini_set.make_mini`.

`--objects mini` is the set in `data/mini`; `--objects unseen` shows other objects, which training never sees.
`--meshes` shows your own meshes, with `--backgrounds` in front of your own photos.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from picopose.datasets.images import find_photos
from picopose.rendering.mesh import Mesh, load_mesh
from picopose.rendering.renderer import Renderer
from picopose.rendering.units import UNITS
from picopose.utils.errors import InputError, exits_cleanly
from tools.mini_set import bop_files, objects
from tools.mini_set.fake_detections import detect
from tools.mini_set.own_meshes import read_objects
from tools.mini_set.photos import photograph
from tools.mini_set.scenes import PROCEDURAL, Item, Setting, compose

WIDTH, HEIGHT = 640, 480
K = np.array([[612.3, 0.0, 319.6], [0.0, 611.8, 241.7], [0.0, 0.0, 1.0]])
SETS = {"mini": objects.MINI, "unseen": objects.UNSEEN}
OWN = "own"  # the set of `--meshes`
OWN_STRETCH = (0.9, 1.6)  # of its distances
PER_IMAGE, DISTRACTORS = 7, 4
DUPLICATE_EVERY = 4  # images: one object then appears twice
FAILURE_EVERY = 6  # images: a false detection, and a target without any


@dataclass(frozen=True)
class Content:
    """The content of a data set."""

    name: str  # part of the seed: no two sets share a background, a viewpoint or a light
    things: Sequence[objects.NamedObject]
    setting: Setting = PROCEDURAL


@dataclass(frozen=True)
class SceneStyle:
    """File formats of a scene; the two scenes differ, so that readers are tested on both."""

    scene_id: int
    suffix: str
    depth_scale: float  # mm per count
    share: float  # of the images


STYLES = (SceneStyle(1, ".jpg", 1.0, 0.7), SceneStyle(2, ".png", 0.1, 0.3))


class _Writer:
    """Writes a data set: image by image, then the files that list them."""

    def __init__(self, root: Path, renderer: Renderer, seed: list[int], setting: Setting):
        self.root, self.renderer, self.seed, self.setting = root, renderer, seed, setting
        self.detections, self.visibility = [], {}
        self.tables: dict[int, dict[str, dict]] = {}

    def add(self, style: SceneStyle, im_id: int, contents: list[tuple[int, Mesh]], *, mistake: bool) -> None:
        """Composes, photographs, annotates and writes one image; `mistake`: adds a false detection."""
        rng = np.random.default_rng([*self.seed, style.scene_id, im_id])
        scene = compose(rng, contents, DISTRACTORS, self.setting)
        photo = photograph(self.renderer, scene, K, WIDTH, HEIGHT, rng)
        folder = self.root / f"test/{style.scene_id:06d}"
        bop_files.write_image(folder / f"rgb/{im_id:06d}{style.suffix}", photo.rgb)
        counts = np.round(photo.depth * 1000 / style.depth_scale).astype(np.uint16)
        bop_files.write_image(folder / f"depth/{im_id:06d}.png", counts)
        depth = counts.astype(np.float32) * np.float32(style.depth_scale)
        numbered = [(index, item) for index, item in enumerate(scene.items) if item.obj_id]
        poses = [_rounded(scene.cam_from_world @ item.world_from_obj) for _, item in numbered]
        infos = self._annotate(folder, im_id, [item for _, item in numbered], poses, depth)
        table = self.tables.setdefault(style.scene_id, {"gt": {}, "gt_info": {}, "camera": {}})
        table["gt"][im_id] = [_gt(item, pose) for (_, item), pose in zip(numbered, poses, strict=True)]
        table["gt_info"][im_id] = infos
        table["camera"][im_id] = {"cam_K": K.ravel().tolist(), "depth_scale": style.depth_scale}
        shares = [info["visib_fract"] for info in infos]
        ids = [(index, item.obj_id) for index, item in numbered]
        self.visibility[style.scene_id, im_id] = [
            (obj_id, share) for (_, obj_id), share in zip(ids, shares, strict=True)
        ]
        others = [index for index, item in enumerate(scene.items) if not item.obj_id]
        for entry in detect(rng, photo.ids, ids, shares, others, mistake=mistake):
            self.detections.append({"scene_id": style.scene_id, "image_id": im_id, **entry})

    def _annotate(
        self, folder: Path, im_id: int, items: list[Item], poses: list[np.ndarray], depth: np.ndarray
    ) -> list[dict]:
        infos = []
        for gt_id, (item, pose) in enumerate(zip(items, poses, strict=True)):
            annotation = bop_files.annotate(self.renderer, item.mesh, pose, K, depth)
            for name, mask in (("mask", annotation.mask), ("mask_visib", annotation.mask_visib)):
                path = folder / name / f"{im_id:06d}_{gt_id:06d}.png"
                bop_files.write_image(path, mask.astype(np.uint8) * 255)
            infos.append(annotation.info)
        return infos

    def finish(self) -> None:
        """Writes the tables, the targets and the detections."""
        for scene_id, table in self.tables.items():
            for name, content in table.items():
                bop_files.write_json(self.root / f"test/{scene_id:06d}/scene_{name}.json", content)
        targets = bop_files.targets(self.visibility)
        bop_files.write_json(self.root / "test_targets_bop19.json", targets)
        rng = np.random.default_rng(self.seed)
        alone = [target for target in targets if target["inst_count"] == 1]
        lost = [alone[k] for k in rng.permutation(len(alone))[: len(self.visibility) // FAILURE_EVERY]]
        missed = {(target["scene_id"], target["im_id"], target["obj_id"]) for target in lost}
        kept = [d for d in self.detections if (d["scene_id"], d["image_id"], d["category_id"]) not in missed]
        bop_files.write_json(self.root / "detections.json", kept)
        camera = {"cx": K[0, 2], "cy": K[1, 2], "depth_scale": 1.0, "fx": K[0, 0], "fy": K[1, 1]}
        bop_files.write_json(self.root / "camera.json", camera | {"height": HEIGHT, "width": WIDTH})


def _rounded(pose: np.ndarray) -> np.ndarray:
    """The pose (m) as rounded in the files (mm)."""
    rounded = pose.copy()
    rounded[:3, :3] = pose[:3, :3].round(8)
    rounded[:3, 3] = (pose[:3, 3] * 1000).round(6) / 1000
    return rounded


def _gt(item: Item, pose: np.ndarray) -> dict:
    rotation, translation = pose[:3, :3].ravel().tolist(), (pose[:3, 3] * 1000).round(6).tolist()
    return {"cam_R_m2c": rotation, "cam_t_m2c": translation, "obj_id": item.obj_id}


def _schedule(rng: np.random.Generator, n_objects: int, images: int) -> list[list[int]]:
    """Object ids of every image: all equally often, one of them twice in every fourth image."""
    pool: list[int] = []
    chosen = []
    for image in range(images):
        contents: list[int] = []
        while len(contents) < min(PER_IMAGE, n_objects):
            if not pool:
                pool = (1 + rng.permutation(n_objects)).tolist()
            fresh = next((k for k in pool if k not in contents), None)
            if fresh is None:
                pool += (1 + rng.permutation(n_objects)).tolist()
                continue
            pool.remove(fresh)
            contents.append(fresh)
        if image % DUPLICATE_EVERY == 1:
            contents.append(contents[0])
        chosen.append(contents)
    return chosen


def named(name: str) -> Content:
    """The content of one of the `SETS`."""
    return Content(name, objects.named_objects(SETS[name]))


def own(meshes: Sequence[Path], *, unit: str, backgrounds: Path | None) -> Content:
    """The user's meshes, in front of the photos in a folder if given; see `own_meshes.read_objects`."""
    photos = find_photos(backgrounds, "--backgrounds ") if backgrounds else ()
    return Content(OWN, read_objects(meshes, unit), Setting(photos, OWN_STRETCH))


def make(out: Path, content: Content, *, images: int, seed: int) -> None:
    """Writes the data set to `out`; existing files of the set are replaced, others stay."""
    out.parent.mkdir(parents=True, exist_ok=True)
    things = content.things
    with (
        tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder,
        Renderer() as renderer,
    ):
        root = Path(folder)
        bop_files.write_models(root, things)
        paths = [root / f"models/obj_{k:06d}.ply" for k in range(1, len(things) + 1)]
        meshes = {k: load_mesh(path, unit="mm") for k, path in enumerate(paths, start=1)}
        if content.name == OWN:
            names = {k: thing.name for k, thing in enumerate(things, start=1)}
            bop_files.write_json(root / "models/names.json", names)
        own_seed = [seed, *content.name.encode()]
        writer = _Writer(root, renderer, own_seed, content.setting)
        plan = _schedule(np.random.default_rng(own_seed), len(things), images)
        for index, contents in enumerate(tqdm(plan, unit="image")):
            style = STYLES[index >= round(STYLES[0].share * images)]
            im_id = index if style is STYLES[0] else index - round(STYLES[0].share * images)
            shown = [(obj_id, meshes[obj_id]) for obj_id in contents]
            writer.add(style, im_id, shown, mistake=index % FAILURE_EVERY == 2)
        writer.finish()
        _publish(root, out)


def _publish(made: Path, out: Path) -> None:
    """Moves the finished files into place."""
    out.mkdir(parents=True, exist_ok=True)
    for entry in made.iterdir():
        target = out / entry.name
        if target.is_dir():
            shutil.rmtree(target)
        entry.replace(target)


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder of the data set; data/mini, data/unseen or data/own")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--objects", choices=sorted(SETS), default="mini", help="which named objects to show")
    shown.add_argument(
        "--meshes",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="mesh files, or folders of them, to show instead",
    )
    parser.add_argument(
        "--unit",
        choices=["auto", *UNITS],
        default="auto",
        help="of the meshes; auto: guessed from their sizes",
    )
    parser.add_argument("--backgrounds", type=Path, metavar="DIR", help="photos to show behind the meshes")
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args(argv)
    if options.images < 1:
        raise InputError(f"--images {options.images}: give at least 1")
    if options.backgrounds and not options.meshes:
        raise InputError("--backgrounds without --meshes: the project's own sets show none; pass --meshes")
    content = (
        own(options.meshes, unit=options.unit, backgrounds=options.backgrounds)
        if options.meshes
        else named(options.objects)
    )
    out = options.out or Path("data") / content.name
    make(out, content, images=options.images, seed=options.seed)


if __name__ == "__main__":
    main()
