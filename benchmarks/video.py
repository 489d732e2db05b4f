"""How well objects are followed through a film of known poses: a table, and a plot of the errors over time.

python -m tools.film --out FILM
python -m benchmarks.video FILM [--following redraw,confidence] [--frames 3000] [key=value ...]

The first poses are found in boxes about what is seen of the objects. A frame is lost for an object where no
pose is told, or one that is off by more than 15 degrees or a twentieth of the distance. The jitter is the
root mean square angle between poses and their mean while the camera rests, once it has done so for half a
second.
"""

import argparse
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation

from benchmarks.levels import markdown
from picopose.datasets.images import read_image
from picopose.pipeline.estimator import FOLLOWING, PoseEstimator
from picopose.pipeline.object_pose import ObjectPose
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import write_atomically
from picopose.utils.reading import read_json
from picopose.utils.symmetry import Symmetry
from tools.film import find_objects

TURNED, SHIFTED = 15.0, 0.05  # degrees and shares of the distance from which on an object is lost
SETTLED = 15  # frames after which a camera that rests has rested for long
HEADS = ("object", "frames", "lost", "rotation", "translation", "jitter at rest")


@dataclass(frozen=True, eq=False)
class Film:
    """Frames and true poses, see `tools.film`."""

    folder: Path
    K: np.ndarray  # (3, 3)
    names: list[str]
    cam_from_obj: np.ndarray  # (F, N, 4, 4) m
    boxes: np.ndarray  # (F, N, 4) px
    rests: list[slice]

    def frame(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8"""
        return read_image(self.folder / "frames" / f"{index:06d}.jpg").permute(1, 2, 0).numpy()

    def order(self, count: int | None) -> list[int]:
        """So many frames, forth, back, and forth again; None for all of them once."""
        there = list(range(len(self.cam_from_obj)))
        way = there + there[-2:0:-1]
        return there if count is None else [way[i % len(way)] for i in range(count)]


@dataclass(frozen=True, eq=False)
class Followed:
    """What was told of one object, and by how much it is off, in F frames."""

    degrees: np.ndarray  # (F,); not a number where there is no pose
    share: np.ndarray  # (F,) of the distance
    found: list[np.ndarray | None]  # (4, 4) m
    confidence: np.ndarray  # (F,)

    @property
    def lost(self) -> np.ndarray:
        """(F,) bool"""
        return ~((self.degrees <= TURNED) & (self.share <= SHIFTED))

    def jitter(self, rest: slice) -> float:
        """Degrees; not a number where the object was lost meanwhile."""
        poses = self.found[rest.start + SETTLED : rest.stop]
        if not poses or any(pose is None for pose in poses):
            return np.nan
        turns = Rotation.from_matrix(np.stack([pose[:3, :3] for pose in poses]))
        return float(np.degrees(np.sqrt(np.mean((turns * turns.mean().inv()).magnitude() ** 2))))


def read_film(folder: Path, names: Sequence[str] | None = None) -> Film:
    """A film with all of its objects, or those of these names."""
    truth = read_json(folder / "truth.json", remedy="make it with python -m tools.film")
    poses, boxes = np.array(truth["cam_from_obj"]), np.array(truth["boxes"])
    rests = [slice(*rest) for rest in truth["rests"]]
    names = list(names or truth["objects"])
    if unknown := set(names) - set(truth["objects"]):
        raise InputError(f"{folder} does not show {unknown.pop()}, but {', '.join(truth['objects'])}")
    chosen = [truth["objects"].index(name) for name in names]
    return Film(folder, np.array(truth["K"]), names, poses[:, chosen], boxes[:, chosen], rests)


def symmetries(names: Sequence[str]) -> dict[str, Symmetry]:
    return {
        obj.name: Symmetry(
            np.array(obj.discrete).reshape(-1, 4, 4),
            tuple((np.array(axis), np.zeros(3)) for axis in obj.continuous),
        )
        for obj in find_objects(names)
    }


def follow(
    film: Film, estimator: PoseEstimator, following: Sequence[str], order: Sequence[int]
) -> Iterator[tuple[list[ObjectPose], float]]:
    """The poses in each frame, and the seconds that they took."""
    tracker = estimator.track(film.K, following=following)
    for number, index in enumerate(order):
        image, began = film.frame(index), time.perf_counter()
        if number == 0:
            poses = tracker.start(image, film.boxes[index], objects=film.names)
        else:
            poses = tracker.update(image)
        yield poses, time.perf_counter() - began


def compare(film: Film, order: Sequence[int], poses: Sequence[list[ObjectPose]], track: int) -> Followed:
    """The poses of one object with the true ones."""
    symmetry = symmetries(film.names)[film.names[track]]
    degrees, share, confidence = np.full((3, len(order)), np.nan)
    found: list[np.ndarray | None] = [None] * len(order)
    for number, index in enumerate(order):
        true = film.cam_from_obj[index, track]
        for pose in [pose for pose in poses[number] if pose.track == track]:
            found[number], confidence[number] = pose.cam_from_obj, pose.confidence
            near = symmetry.nearest(pose.cam_from_obj, true)
            degrees[number] = np.degrees(Rotation.from_matrix(near[:3, :3] @ true[:3, :3].T).magnitude())
            share[number] = np.linalg.norm((near - true)[:3, 3]) / np.linalg.norm(true[:3, 3])
    return Followed(degrees, share, found, confidence)


def row(name: str, followed: Followed, rests: Sequence[slice]) -> list[str]:
    """The cells of a line of the table."""
    jitter = ", ".join(f"{followed.jitter(rest):.2f}" for rest in rests)
    return [
        name,
        str(len(followed.lost)),
        f"{100 * followed.lost.mean():.1f} %",
        f"{np.nanmedian(followed.degrees):.2f} degrees",
        f"{100 * np.nanmedian(followed.share):.2f} %",
        f"{jitter} degrees",
    ]


def plot(path: Path, names: Sequence[str], results: Sequence[Followed]) -> None:
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(3, sharex=True)
    for name, followed in zip(names, results, strict=True):
        for panel, values in zip(
            axes, (followed.degrees, 100 * followed.share, followed.confidence), strict=True
        ):
            panel.plot(values, label=name)
    titles = ("rotation (degrees)", "translation (% of the distance)", "confidence")
    for panel, title, top in zip(axes, titles, (TURNED, 100 * SHIFTED, 1), strict=True):
        panel.set(ylabel=title, ylim=(0, top))
    axes[0].legend()
    axes[-1].set(xlabel="frame")
    with write_atomically(path) as temporary:
        figure.savefig(temporary)


def resident() -> float:
    """MB of memory that the process holds."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("film", type=Path, help="folder that tools.film has made")
    parser.add_argument("--objects", help="of the film, such as cereal_box,teapot (default: all)")
    parser.add_argument("--following", default=",".join(FOLLOWING), help="stages")
    parser.add_argument("--frames", type=int, help="forth and back through the film; by default once")
    parser.add_argument("--threads", type=int, help="of PyTorch")
    parser.add_argument("--out", type=Path, help="PNG, the plot")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="entries of the config")
    arguments = parser.parse_intermixed_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    film = read_film(arguments.film, arguments.objects and arguments.objects.split(","))
    estimator = PoseEstimator(device="cpu", overrides=arguments.overrides)
    for obj in find_objects(film.names):
        estimator.add_object(obj.mesh, name=obj.name, symmetry=symmetries([obj.name])[obj.name])
    order, poses, seconds, memory = film.order(arguments.frames), [], [], []
    cpu = time.process_time()
    for found, took in follow(film, estimator, arguments.following.split(","), order):
        poses.append(found)
        seconds.append(took)
        memory.append(resident())
    cpu = time.process_time() - cpu
    results = [compare(film, order, poses, track) for track in range(len(film.names))]
    rests = film.rests if arguments.frames is None else []
    print(markdown(HEADS, [row(*pair, rests) for pair in zip(film.names, results, strict=True)]))
    settled = memory[min(100, len(memory) - 1)]
    print(
        f"{1 / np.median(seconds):.1f} frames/s, {1000 * cpu / len(order):.0f} ms of a core a frame; memory "
        f"{settled:.0f} MB after 100 frames, {memory[-1]:.0f} MB after {len(memory)}"
    )
    if arguments.out:
        plot(arguments.out, film.names, results)


if __name__ == "__main__":
    main()
