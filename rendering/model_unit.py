"""The unit of a BOP data set's glTF models: the format's metres or BOP's mm, by the listed size."""

from functools import cache
from pathlib import Path

from datasets.objects import read_objects
from rendering.mesh import diameter, read_mesh
from utils.errors import InputError

UNITS = (1.0, 1e-3)  # m
TOLERANCE = 1.1  # factor: the listed diameter may be of another version of the mesh


def listed_unit(path: Path) -> float:
    """Metres per unit of `obj_000001.glb` by its diameter in the `models_info.json` beside it."""
    listing = path.with_name("models_info.json")
    info = read_objects(path.parent).get(int(path.stem.removeprefix("obj_")))
    if info is None:
        raise InputError(
            f"{listing} lacks the object of {path.name}, whose unit it tells: download the models"
        )
    size = _size(path, path.stat().st_mtime_ns)
    for unit in UNITS:
        if 1 / TOLERANCE < unit * size / (1e-3 * info.diameter) < TOLERANCE:
            return unit
    raise InputError(
        f"{path} is {size:g} units across, and {listing} lists a diameter of {info.diameter:g} mm: "
        "scale the mesh to metres or mm"
    )


@cache
def _size(path: Path, changed: int) -> float:
    """Diameter of a mesh in its own unit; a file that was changed is read again."""
    return diameter(read_mesh(path).vertices)
