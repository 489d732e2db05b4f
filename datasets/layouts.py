"""Folder layouts of data sets: BOP, the two MegaPose training sets and plain mesh folders.

No other module knows the name of a folder.
"""

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from picopose.datasets.bop.objects import listed_unit, model_files
from picopose.utils.downloads import command_for
from picopose.utils.errors import InputError
from picopose.utils.mesh_file import MESH_SUFFIXES, MeshFile, is_gltf
from picopose.utils.reading import integer, read_json

BOP_CORE = ("lmo", "tless", "tudl", "icbin", "itodd", "hb", "ycbv")

_LONGEST_NAME = 255  # bytes, limit of file systems
_TEST_SPLIT = {"tless": "test_primesense", "hb": "test_primesense"}
_MODELS = {"tless": "models_cad"}


@dataclass(frozen=True)
class _TrainingSet:
    """The differences between MegaPose's two training sets, whose meshes have a radius of about 1."""

    folder: str  # of the release
    models: str  # folder of the meshes
    listing: str  # JSON: obj_id and the keys of the mesh's folder
    keys: tuple[str, ...]
    mesh: str  # below the object's folder
    aim: str  # of the templates' cameras


_TRAINING_SETS = {
    "gso": _TrainingSet(
        folder="MegaPose-GSO",
        models="google_scanned_objects/models_normalized",
        listing="gso_models.json",
        keys=("gso_id",),
        mesh="meshes/model.obj",
        aim="centre",
    ),
    "shapenet": _TrainingSet(
        folder="MegaPose-ShapeNetCore",
        models="shapenetcorev2",
        listing="shapenet_models.json",
        keys=("shapenet_synset_id", "shapenet_source_id"),
        mesh="models/model_normalized.obj",
        aim="origin",
    ),
}
_NORMALISED_UNIT = 0.1  # MegaPose's scenes show the normalised meshes at a tenth of a metre per unit


def names_in(folder: Path, limit: int = 12) -> str:
    """The content of a folder, for error messages."""
    if not folder.is_dir():
        return "no such folder"
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "") if names else "nothing"


def fetching(name: str, data_dir: Path | str, what: str) -> str:
    """How to get what is missing of a data set, for error messages: by a command, where there is one."""
    command = command_for(name, data_dir)
    return f"run `{command}`" if command else f"download {what}"


def _first(candidates: Iterable[Path]) -> Path | None:
    return next((path for path in candidates if path.exists()), None)


def dataset_name(given: str) -> str:
    """The name of a data set as typed, without the slash that shells append.

    Raises an `InputError` for a path, which could lead out of `data_dir`.
    """
    name = given.rstrip("/")
    _check_name(name, given)
    return name


def dataset_names(given: str) -> list[str]:
    """The data sets that a name stands for: all are the seven core ones of BOP."""
    name = dataset_name(given)
    return list(BOP_CORE) if name == "all" else [name]


def _check_name(name: str, given: str | None = None) -> None:
    if name in ("", "..") or Path(name).name != name or len(name.encode()) > _LONGEST_NAME:
        shown = name if given is None else given
        raise InputError(
            f"data set {shown!r}: give a name, not a path; its parent folder is test_dataset.data_dir"
        )


def dataset_dir(data_dir: Path | str, name: str) -> Path:
    """`<data_dir>/<name>`; an `InputError` lists the folders there if this one is missing."""
    _check_name(name)
    folder = Path(data_dir) / name
    if not folder.is_dir():
        raise InputError(
            f"{folder} not found: set data_dir or {fetching(name, data_dir, name)} "
            f"(in {data_dir}: {names_in(folder.parent)})"
        )
    return folder


def models_dir(data_dir: Path | str, name: str) -> Path:
    """Folder with a BOP data set's meshes and `models_info.json`."""
    folder = dataset_dir(data_dir, name)
    models = folder / _MODELS.get(name, "models")
    if not models.is_dir():
        raise InputError(
            f"{models} not found: {fetching(name, data_dir, f'the models of {name}')} "
            f"(in {folder}: {names_in(folder)})"
        )
    return models


def bop_test_split(data_dir: Path | str, name: str) -> str:
    """Name of a BOP data set's test folder, such as `test` or `test_primesense`."""
    folder = dataset_dir(data_dir, name)
    if name in BOP_CORE:
        splits = [_TEST_SPLIT.get(name, "test")]
    else:
        splits = ["test", *sorted(path.name for path in folder.glob("test_*") if path.is_dir())]
    found = _first(folder / split for split in splits)
    if found is None:
        raise InputError(
            f"{folder / splits[0]} not found: {fetching(name, data_dir, 'the test images')} "
            f"(in {folder}: {names_in(folder)})"
        )
    return found.name


def find_detections(folder: Path | str, name: str) -> Path:
    """The detections of a BOP data set: its own `detections.json`, else the CNOS file that BOP ships.

    `folder` is that of the data sets, or one with BOP's default detections as downloaded.
    """
    folder, shipped = Path(folder), f"cnos-fastsam_{glob.escape(name)}-test_*.json"
    own = folder / name / "detections.json"
    if own.is_file():
        return own
    places = (shipped, f"*/{shipped}", f"detections/**/{shipped}", f"default_detections/**/{shipped}")
    found = sorted({path for place in places for path in folder.glob(place)})
    if len(found) != 1:
        state = f"several detection files ({', '.join(map(str, found))})" if found else "no detections"
        remedy = (
            f"put {shipped} into {folder / 'detections'} or name a file with test_dataset.detections=FILE"
        )
        if name in BOP_CORE and not found:
            remedy = f"run `{command_for('cnos-detections', folder)}`, or {remedy}"
        raise InputError(f"{state} for {name}: {remedy}")
    return found[0]


def templates_dir(data_dir: Path | str, name: str) -> Path:
    """Folder of a data set's rendered templates."""
    _check_name(name)
    return Path(data_dir) / "templates" / name


def template_depth_unit(name: str) -> float:
    """Metres per count of the 16-bit depth of a data set's templates, as in the original's files."""
    return 1e-4 if name in _TRAINING_SETS else 1e-3


def find_meshes(data_dir: Path | str, name: str) -> dict[str, MeshFile]:
    """The meshes of a data set by object name, sorted.

    BOP and MegaPose objects are named by six-digit ids, those of a plain folder by their files.
    """
    if name in _TRAINING_SETS:
        return _training_meshes(Path(data_dir), name, _TRAINING_SETS[name])
    folder = dataset_dir(data_dir, name)
    if (folder / _MODELS.get(name, "models")).is_dir() or name in BOP_CORE:
        return _bop_meshes(models_dir(data_dir, name))
    return _plain_meshes(folder)


def _bop_meshes(models: Path) -> dict[str, MeshFile]:
    files = model_files(models)
    if not files:
        raise InputError(f"no obj_*.ply in {models}: download the models (there: {names_in(models)})")
    return {
        f"{obj_id:06d}": MeshFile(path, partial(listed_unit, path) if is_gltf(path) else 1e-3)
        for obj_id, path in files.items()
    }


def _plain_meshes(folder: Path) -> dict[str, MeshFile]:
    meshes: dict[str, MeshFile] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in MESH_SUFFIXES:
            continue
        if path.stem in meshes:
            raise InputError(f"{path} and {meshes[path.stem].path} have the same name: rename one of them")
        meshes[path.stem] = MeshFile(path, 1.0)
    if not meshes:
        kinds = " ".join(MESH_SUFFIXES)
        raise InputError(
            f"no meshes ({kinds}) and no models/ in {folder}: put some there (there: {names_in(folder)})"
        )
    return meshes


def training_dir(data_dir: Path | str, name: str) -> Path:
    """Root folder of MegaPose's `gso` or `shapenet`: the first that contains its list of models."""
    data_dir, kind = Path(data_dir), _TRAINING_SETS[name]
    release = data_dir / "MegaPose-Training-Data" / kind.folder
    roots = (data_dir / kind.folder, release, data_dir / name, data_dir)
    found = _first(root / kind.listing for root in roots)
    if found is None:
        raise InputError(
            f"{kind.listing} not found in {data_dir / kind.folder} or {data_dir / name}: "
            f"download it with the {kind.folder} shards (in {data_dir}: {names_in(data_dir)})"
        )
    return found.parent


def shards_dir(training: Path) -> Path:
    """The folder of a training set's shards: `train_pbr_web`, or the set's own folder."""
    web = training / "train_pbr_web"
    own = next(training.glob("shard-*"), None)
    return training if own is not None and next(web.glob("shard-*"), None) is None else web


def _training_meshes(data_dir: Path, name: str, kind: _TrainingSet) -> dict[str, MeshFile]:
    root = training_dir(data_dir, name)
    models = root / kind.models
    if not models.is_dir():
        raise InputError(
            f"{models} not found: download the meshes of {kind.folder} (in {root}: {names_in(root)})"
        )
    listing = root / kind.listing
    entries, meshes = read_json(listing), {}
    try:
        for entry in entries:
            path = models.joinpath(*(str(entry[key]) for key in kind.keys), kind.mesh)
            number = integer(entry["obj_id"], f"{listing}: obj_id")
            meshes[f"{number:06d}"] = MeshFile(path, _NORMALISED_UNIT, kind.aim)
    except (KeyError, TypeError, ValueError):
        meshes = {}
    if not meshes:
        expected = ", ".join(("obj_id", *kind.keys))
        raise InputError(f"{listing} is no list of objects with {expected}: download it again")
    return dict(sorted(meshes.items()))
