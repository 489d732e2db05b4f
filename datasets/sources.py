"""The pairs that a training run asks for: rendered ones, MegaPose's, or both, with colours changed."""

from pathlib import Path

from datasets.megapose import MegaPosePairs
from datasets.object_pool import ObjectPool, Studio
from datasets.pairs import Augmented, Mixture, PairSource
from datasets.synthetic import SyntheticPairs
from utils.errors import InputError
from utils.images import find_photos
from utils.layouts import MeshFile, find_meshes


def make_source(
    studio: Studio,
    *,
    size: int,
    seed: int,
    synthetic: float,
    meshes: list[str],
    shapes: float,
    resting: float,
    backgrounds: str | None,
    megapose: list[str],
    data_dir: str,
    augment: float,
    held_out: bool = False,
) -> PairSource:
    """A source of training pairs with crops of `size` px; see `utils.config.TrainDatasetConfig`.

    held_out: whether MegaPose's images are those that are kept from training.

    Raises:
        InputError: a folder is missing, or nothing of use lies in it.
    """
    sources: list[PairSource] = []
    weights: list[float] = []
    if synthetic > 0:
        folders = [mesh_files(folder) for folder in meshes] if shapes < 1 else []
        pool = ObjectPool(studio, folders, shapes=shapes, seed=seed)
        photos = find_photos(backgrounds, "train_dataset.backgrounds=") if backgrounds else []
        sources.append(
            SyntheticPairs(studio, pool, size=size, seed=seed, resting=resting, backgrounds=photos)
        )
        weights.append(synthetic)
    if synthetic < 1:
        options = {"size": size, "seed": seed, "held_out": held_out}
        sources += [MegaPosePairs(data_dir, name, **options) for name in megapose]
        weights += [(1 - synthetic) / len(megapose)] * len(megapose)
    source = Mixture(sources, weights, seed=seed) if len(sources) > 1 else sources[0]
    return Augmented(source, seed=seed, share=augment) if augment > 0 else source


def mesh_files(folder: str) -> dict[str, MeshFile]:
    """The meshes of a folder, or of a BOP data set, by name."""
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"train_dataset.meshes={folder}: no such folder; pass one that holds meshes")
    return find_meshes(path.resolve().parent, path.resolve().name)
