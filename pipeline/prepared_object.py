"""The objects of a `PoseEstimator`: made from meshes, found by name, paired with boxes or masks."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import trimesh

from picopose.datasets.bop.objects import read_symmetry
from picopose.model.stage import Thing
from picopose.pipeline.object_pose import ObjectPose
from picopose.rendering.mesh import Mesh, bounding_sphere, diameter, from_trimesh, read_mesh, to_metres
from picopose.rendering.units import describe, guess_unit
from picopose.utils.errors import InputError
from picopose.utils.records import Estimates
from picopose.utils.symmetry import Symmetry, parse_symmetry

LOG = logging.getLogger(__name__)

AnyMesh = Path | str | Mesh | trimesh.Trimesh | trimesh.Scene


@dataclass(frozen=True, eq=False, kw_only=True)
class PreparedObject(Thing):
    """A thing with its mesh, in the frame of its file."""

    mesh: Mesh  # m, in the frame of its file
    unit: str | float  # that the file was read in
    centre: np.ndarray  # (3,) m: origin of the templates, so that results do not depend on the mesh's origin

    def cam_from_centre(self, pose: ObjectPose) -> np.ndarray:
        """The pose (4, 4) m of the object's centre, the origin of its templates."""
        moved = pose.cam_from_obj.copy()
        moved[:3, 3] += pose.cam_from_obj[:3, :3] @ self.centre
        return moved

    def cam_from_file(self, cam_from_centre: np.ndarray) -> np.ndarray:
        """The pose (4, 4) m of the frame of the mesh's file, from that of the object's centre."""
        moved = cam_from_centre.copy()
        moved[:3, 3] -= cam_from_centre[:3, :3] @ self.centre
        return moved

    def equivalent(self, pose: ObjectPose, last: Sequence[ObjectPose]) -> ObjectPose:
        """Of all poses that look the same, the one nearest to the last pose, or else the canonical one."""
        if self.symmetry is None:
            return pose
        before = [other.cam_from_obj for other in last if other.name == self.name]
        if not before:
            return replace(pose, cam_from_obj=self.symmetry.canonical(pose.cam_from_obj))
        centre = np.append(self.centre, 1)  # the same for all equivalent poses
        nearest = min(before, key=lambda other: np.linalg.norm((other - pose.cam_from_obj) @ centre))
        return replace(pose, cam_from_obj=self.symmetry.nearest(pose.cam_from_obj, nearest))


def read_object(
    mesh: AnyMesh, obj_id: int, name: str | None, unit: str | float, symmetry: str | Symmetry | None
) -> PreparedObject:
    """Reads an object; see `PoseEstimator.add_object` for the arguments."""
    file = Path(mesh) if isinstance(mesh, Path | str) else None
    loaded, unit = _in_metres(mesh if file is None else file, unit)
    centre = bounding_sphere(loaded.vertices)[0]
    if isinstance(symmetry, str):
        symmetry = parse_symmetry(symmetry, centre)
    elif not isinstance(symmetry, Symmetry | None):
        raise InputError(f"symmetry of type {type(symmetry).__name__}: give text such as z4, or a Symmetry")
    elif symmetry is None and file is not None:
        symmetry = read_symmetry(file)
    name = name or (file.stem if file else f"object {obj_id}")
    size = diameter(loaded.vertices)
    LOG.info("%s: %s", file or name, describe(size, unit))
    return PreparedObject(obj_id, name, size, symmetry, mesh=loaded, unit=unit, centre=centre)


def _in_metres(given: AnyMesh, unit: str | float) -> tuple[Mesh, str | float]:
    """The mesh in metres, and the unit that it was in."""
    if isinstance(given, Path):
        mesh = read_mesh(given)
        unit = guess_unit(diameter(mesh.vertices)) if unit == "auto" else unit
        return to_metres(mesh, unit, where=str(given)), unit
    if isinstance(given, trimesh.Trimesh | trimesh.Scene):
        given = from_trimesh(given)
    if not isinstance(given, Mesh):
        raise InputError(f"mesh of type {type(given).__name__}: give a file, a Mesh or a trimesh.Trimesh")
    unit = "m" if unit == "auto" else unit
    return to_metres(given, unit, where="mesh"), unit


def find_object(objects: Mapping[str, PreparedObject], name: str) -> PreparedObject:
    """The object of this name; raises an `InputError` that lists the names there are."""
    if name not in objects:
        raise InputError(f"no object named {name}: there are {', '.join(objects) or 'none'}")
    return objects[name]


def pair(
    objects: Mapping[str, PreparedObject], names: str | Sequence[str | None] | None, places: int | None
) -> list[tuple[int, PreparedObject]]:
    """Which objects to look for at which places, as pairs of the place's index and the object.

    names: see `objects` of `PoseEstimator.estimate`; places: the number of boxes or masks; None: there are
    none, and each object is looked for in the whole photo.
    """
    if not objects:
        raise InputError("no object to look for: add one with add_object(mesh)")
    if isinstance(names, str):
        names = [names] * (1 if places is None else places)
    if places is None:
        names = names or list(objects)
    elif names is None:
        names = list(objects) if places == len(objects) else [None] * places
    elif len(names) != places:
        raise InputError(f"{len(names)} objects for {places} places: name one for each box or mask")
    return [
        (place, obj)
        for place, name in enumerate(names)
        for obj in (objects.values() if name is None else [find_object(objects, name)])
    ]


def object_pose(found: Estimates, index: int, obj: PreparedObject, box: list[float]) -> ObjectPose:
    """One estimate, in the frame of the object's file."""
    matches = found.matches
    points = torch.zeros(0, 4)
    if matches is not None:
        points = torch.cat([matches.photo[index], matches.template[index]], dim=1)
        points = points[matches.weight[index] > 0]
    return ObjectPose(
        name=obj.name,
        cam_from_obj=obj.cam_from_file(found.cam_from_obj[index].double().numpy()),
        confidence=float(found.confidence[index]),
        inlier_ratio=0.0 if found.inlier_ratio is None else float(found.inlier_ratio[index]),
        template=-1 if found.view is None else int(found.view[index]),
        matches=points.double().numpy(),
        drawn=matches is None or matches.drawn,
        box=np.array(box, dtype=np.float64),
    )
