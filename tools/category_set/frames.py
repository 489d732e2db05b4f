"""Draws frames, each a function of the seed and its number, and writes them in NOCS's layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picopose.datasets.nocs.detections import ImageResult, Truths, write_result, write_truths
from picopose.datasets.nocs.frames import BACKGROUND
from picopose.datasets.nocs.layout import CLASSES, SPLITS, FrameFiles
from picopose.datasets.training.backdrops import Backdrops, on_backdrop
from picopose.datasets.training.streams import stream
from picopose.rendering.studio import Studio
from picopose.utils.files import write_atomically
from picopose.utils.lru import Lru
from tools.category_set.detector import box_of, detected
from tools.category_set.objects import COUNTS, SYNSETS, CategoryObject, make_object, write_model
from tools.category_set.scenes import HEIGHT, WIDTH, K, Scene, compose
from tools.category_set.sensors import developed, measured_depth
from tools.mini_set.bop_files import write_image

OBJECTS = (3, 7)  # of a frame, from, to (exclusive)
FEWEST_SEEN = 200  # px of an object that counts as a truth and is detected
HANDLE_SEEN = 0.1  # share of a handle's pixels from which on it is visible
COMPRESSION = {"train": 1, "val": 9}  # of PNG files: quick where there are many
DETECTIONS = "segmentation_results/CAMERA25"


@dataclass(frozen=True)
class Frame:
    """A drawn image."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) uint16 mm as measured; 0 = missing
    coordinates: np.ndarray  # (H, W, 3) uint8 as NOCS stores them
    seen: np.ndarray  # (H, W) int, index of the object; -1 for none
    objects: list[tuple[CategoryObject, np.ndarray]]  # with cam_from_obj (4, 4) m
    handles_visible: list[bool]  # of the objects; true for those without


class FrameMaker:
    """Makes the frames of a set; it keeps objects and backdrops for the next ones."""

    def __init__(self, root: Path, backgrounds: list[Path], seed: int):
        self._root, self._seed = root, seed
        self._studio = Studio(cache_bytes=1 << 28)
        self._backdrops = Backdrops(self._studio, backgrounds, seed)
        self._objects = Lru(len(CLASSES) * sum(COUNTS.values()))

    def write(self, split: str, index: int) -> None:
        """Writes a frame of `train` or `val`, unless it is there already."""
        files = frame_files(self._root, split, index)
        if files.path("meta.txt").is_file():
            return
        frame = self.draw(split, index)
        for shown, _ in frame.objects:
            write_model(shown, self._root / files.split.models)
        _write_images(files, frame, COMPRESSION[split])
        if files.truth is not None:
            _write_detections(files, frame, stream("category detections", self._seed, index))
        _write_meta(files, frame)

    def draw(self, split: str, index: int) -> Frame:
        rng = stream(f"category {split}", self._seed, index)
        count = int(rng.integers(*OBJECTS))
        class_ids, numbers = (
            rng.integers(len(CLASSES), size=count) + 1,
            rng.integers(COUNTS[split], size=count),
        )
        picked = zip(class_ids.tolist(), numbers.tolist(), strict=True)
        objects = [self._object(split, *pick) for pick in dict.fromkeys(picked)]
        backdrops = [self._backdrops.pick(rng, index) for _ in range(3)]
        scene = compose(rng, objects, backdrops[:2])
        return self._shown(rng, scene, backdrops[2].image)

    def _object(self, split: str, class_id: int, number: int) -> CategoryObject:
        key = split, class_id, number
        return self._objects.get(key, lambda key: make_object(self._seed, *key))

    def _shown(self, rng: np.random.Generator, scene: Scene, backdrop: np.ndarray) -> Frame:
        instances, owners = [], []
        for index, (shown, pose) in enumerate(scene.objects):
            instances += [(part, pose) for part in shown.parts]
            owners += [index] * len(shown.parts)
        light = scene.light
        drawn = self._studio.photo(
            [*instances, *scene.boards], K, WIDTH, HEIGHT, ambient=light.ambient, suns=light.suns
        )
        owner_of = np.array([*owners, -1, -1, -1])  # of the boards, and of nothing
        seen = owner_of[drawn.ids]
        parts = np.bincount(drawn.ids[drawn.ids >= 0], minlength=len(instances))
        handles = {owner: parts[part] for part, owner in enumerate(owners)}  # its last part
        visible = [
            shown.handle is None or self._share(shown, pose, handles[index]) > HANDLE_SEEN
            for index, (shown, pose) in enumerate(scene.objects)
        ]
        rgb = developed(rng, on_backdrop(rng, drawn.rgb, drawn.mask, backdrop))
        depth = measured_depth(rng, drawn.depth, K[0, 0])
        return Frame(rgb, depth, _coordinates(drawn.depth, seen, scene), seen, scene.objects, visible)

    def _share(self, shown: CategoryObject, pose: np.ndarray, pixels: int) -> float:
        """Of a handle's pixels in the image, how many are seen."""
        alone = np.count_nonzero(self._studio.depth(shown.handle, pose, K, WIDTH, HEIGHT))
        return pixels / max(alone, 1)


def frame_files(root: Path, split: str, index: int) -> FrameFiles:
    """Where a frame lies: ten in a folder."""
    folder, number = divmod(index, 10)
    return FrameFiles(root, SPLITS[f"camera_{split}"], f"{folder:05d}", f"{number:04d}")


def _coordinates(depth: np.ndarray, seen: np.ndarray, scene: Scene) -> np.ndarray:
    """Canonical coordinates (H, W, 3) uint8 of the surfaces of an exact depth, as NOCS stores them."""
    stored = np.zeros((*depth.shape, 3), np.uint8)
    for index, (shown, pose) in enumerate(scene.objects):
        v, u = np.nonzero(seen == index)
        points = np.stack([u, v, np.ones(len(u))]) * depth[v, u]
        inside = (np.linalg.solve(K, points).T - pose[:3, 3]) @ pose[:3, :3] / shown.diagonal + 0.5
        inside[:, 2] = 1 - inside[:, 2]
        stored[v, u] = np.round(255 * inside.clip(0, 1))
    return stored


def _write_images(files: FrameFiles, frame: Frame, compression: int) -> None:
    mask = np.where(frame.seen < 0, BACKGROUND, frame.seen + 1).astype(np.uint8)
    parts = {"color": frame.rgb, "coord": frame.coordinates, "depth": frame.depth, "mask": mask}
    for part, image in parts.items():
        write_image(files.path(f"{part}.png"), image, compression=compression)


def _write_meta(files: FrameFiles, frame: Frame) -> None:
    """The list of the objects that are seen; written last, as where it is the frame is complete."""
    lines = [
        f"{index + 1} {shown.class_id} {SYNSETS[shown.class_id - 1]} {shown.name}\n"
        for index, (shown, _) in enumerate(frame.objects)
        if (frame.seen == index).any()
    ]
    with write_atomically(files.path("meta.txt")) as path:
        path.write_text("".join(lines), encoding="ascii")


def _write_detections(files: FrameFiles, frame: Frame, rng: np.random.Generator) -> None:
    """The truths of a frame, and a detection of each."""
    counts = np.bincount(frame.seen[frame.seen >= 0], minlength=len(frame.objects))
    kept = np.flatnonzero(counts >= FEWEST_SEEN)
    truths = _truths(frame, kept)
    found = [detected(rng, frame.seen == index) for index in kept]
    masks = np.array([mask for mask, _ in found], bool).reshape(-1, HEIGHT, WIDTH)
    write_truths(files.truth, truths)
    write_result(
        files.root / DETECTIONS / files.truth.name,
        ImageResult(
            image_path=f"data/{files.split.images}/{files.folder}/{files.number}",
            truths=truths,
            class_ids=truths.class_ids,
            boxes=np.array([box_of(mask) for mask, _ in found]).reshape(-1, 4),
            scores=np.array([score for _, score in found]),
            masks=np.ascontiguousarray(np.moveaxis(masks, 0, -1)),
        ),
    )


def _truths(frame: Frame, kept: np.ndarray) -> Truths:
    RTs, scales = np.zeros((len(kept), 4, 4)), np.zeros((len(kept), 3))
    for RT, scale, index in zip(RTs, scales, kept, strict=True):
        shown, pose = frame.objects[index]
        RT[:] = pose @ np.diag([*[shown.diagonal] * 3, 1])
        scale[:] = shown.size / shown.diagonal
    return Truths(
        class_ids=np.array([frame.objects[index][0].class_id for index in kept], int),
        boxes=np.array([box_of(frame.seen == index) for index in kept]).reshape(-1, 4),
        RTs=RTs,
        scales=scales,
        handle_visible=np.array([frame.handles_visible[index] for index in kept], bool),
    )
