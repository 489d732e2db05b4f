"""The pairs that a training run asks for: rendered ones, MegaPose's, or both, with colours changed."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from picopose.datasets.images import find_photos
from picopose.datasets.layouts import find_meshes
from picopose.datasets.training.kept_pairs import KeptPairs
from picopose.datasets.training.megapose import MegaPosePairs
from picopose.datasets.training.object_pool import ObjectPool, Studio
from picopose.datasets.training.pairs import Augmented, Mixture, PairSource
from picopose.datasets.training.shared_scenes import SharedScenes
from picopose.datasets.training.synthetic import SyntheticPairs
from picopose.utils.config import TrainDatasetConfig
from picopose.utils.errors import InputError
from picopose.utils.mesh_file import MeshFile

Scenes = TypeVar("Scenes", bound=SharedScenes)
SCENES_PERIOD = 768  # scenes after which an object gives way to another: it is in some fifty pairs


def make_source(
    studio: Studio, data: TrainDatasetConfig, *, size: int, seed: int, held_out: bool = False
) -> PairSource:
    """A source of training pairs with crops of `size` px.

    held_out: whether MegaPose's images are those that are kept from training.

    Raises:
        InputError: a folder is missing, or nothing of use lies in it.
    """
    sources: list[PairSource] = []
    weights: list[float] = []
    if data.synthetic > 0:
        if data.kept:
            sources.append(KeptPairs(Path(data.kept), made_with(data, size), seed=seed))
        else:
            pool = _pool(studio, data, seed)
            sources.append(SyntheticPairs(studio, pool, size=size, seed=seed, **_surroundings(data)))
        weights.append(data.synthetic)
    if data.synthetic < 1:
        options = {"size": size, "seed": seed, "held_out": held_out}
        sources += [MegaPosePairs(data.data_dir, name, **options) for name in data.megapose]
        weights += [(1 - data.synthetic) / len(data.megapose)] * len(data.megapose)
    source = Mixture(sources, weights, seed=seed) if len(sources) > 1 else sources[0]
    return Augmented(source, seed=seed, share=data.augment) if data.augment > 0 else source


def description(data: TrainDatasetConfig) -> str:
    """What the pairs are of, in words."""
    shapes = data.shape_share
    objects = [f"{shapes:.0%} procedural shapes"] if shapes > 0 else []
    objects += [f"{1 - shapes:.0%} meshes of {', '.join(data.meshes)}"] if shapes < 1 else []
    rendered = f"{data.synthetic:.0%} rendered ({', '.join(objects)})" if data.synthetic > 0 else ""
    photos = f"{1 - data.synthetic:.0%} MegaPose's {', '.join(data.megapose)}" if data.synthetic < 1 else ""
    return ", ".join(filter(None, (rendered, photos)))


def idle_options(data: TrainDatasetConfig) -> dict[str, str]:
    """The options that were set and have no effect, each with the reason."""
    plain, reasons = TrainDatasetConfig(), {}
    renders = data.synthetic > 0 or bool(data.validation_meshes)
    nothing = "train_dataset.synthetic is 0, so nothing is rendered"
    if data.synthetic == 0:
        reasons |= dict.fromkeys(("meshes", "shapes", "kept"), nothing)
    if not renders:
        reasons |= dict.fromkeys(("resting", "backgrounds"), nothing)
    if not (renders and (data.meshes or data.validation_meshes)):
        reasons |= dict.fromkeys(("varied", "max_faces"), "it is for meshes, and none are rendered")
    if not data.megapose:
        reasons["data_dir"] = "train_dataset.megapose names no set"
    given = [name for name in reasons if getattr(data, name) != getattr(plain, name)]
    return {f"train_dataset.{name}": reasons[name] for name in given}


def make_scenes(
    studio: Studio, data: TrainDatasetConfig, *, size: int, seed: int, kind: type[Scenes] = SharedScenes
) -> Scenes:
    """Scenes that serve several objects each, as those whose pairs are kept do."""
    pool = _pool(studio, data, seed, period=SCENES_PERIOD)
    return kind(studio, pool, size=size, seed=seed, **_surroundings(data))


def made_with(data: TrainDatasetConfig, size: int) -> dict[str, Any]:
    """All that the pairs of scenes depend on but the seed; files by what they hold, wherever they lie."""
    return {
        "size": size,
        "meshes": [digest(file.path for file in folder.values()) for folder in _folders(data)],
        "backgrounds": digest(_photos(data)),
        "shapes": data.shape_share,
        **{name: getattr(data, name) for name in ("varied", "resting", "max_faces")},
    }


def digest(files: Iterable[Path]) -> str:
    """Of the names and contents of files."""
    total = hashlib.sha256()
    for path in files:
        total.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def mesh_files(folder: str, option: str = "train_dataset.meshes") -> dict[str, MeshFile]:
    """The meshes of a folder, or of a BOP data set, by name; an `InputError` names the folder's option."""
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"{option}={folder}: no such folder; pass one that holds meshes")
    return find_meshes(path.resolve().parent, path.resolve().name)


def _folders(data: TrainDatasetConfig) -> list[dict[str, MeshFile]]:
    return [mesh_files(folder) for folder in data.meshes] if data.shape_share < 1 else []


def _pool(studio: Studio, data: TrainDatasetConfig, seed: int, **options: int) -> ObjectPool:
    looks = {"shapes": data.shape_share, "varied": data.varied, "photos": _photos(data)}
    return ObjectPool(studio, _folders(data), **looks, seed=seed, **options)


def _surroundings(data: TrainDatasetConfig) -> dict[str, Any]:
    """What scenes show besides objects."""
    return {"resting": data.resting, "backgrounds": _photos(data)}


def _photos(data: TrainDatasetConfig) -> list[Path]:
    return find_photos(data.backgrounds, "train_dataset.backgrounds=") if data.backgrounds else []
