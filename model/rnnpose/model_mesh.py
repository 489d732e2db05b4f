"""The mesh that RNNPose sees of an object, whose vertices carry what the network knows, and its drawing."""

import logging

import numpy as np
from torch import Tensor

from picopose.model.rnnpose.network import Draw
from picopose.model.rnnpose.options import MOST_VERTICES
from picopose.rendering.decimation import decimated
from picopose.rendering.mesh import Mesh
from picopose.rendering.mesh_views import MeshViews
from picopose.rendering.subdivision import subdivided
from picopose.utils.errors import InputError

LOG = logging.getLogger(__name__)


def model_mesh(mesh: Mesh, longest_edge: float | None, name: str) -> Mesh:
    """A mesh with large triangles divided, or simplified if it has too many vertices; see `Options`."""
    if _places(mesh) > MOST_VERTICES:
        coarser = decimated(mesh, MOST_VERTICES)
        if _places(coarser) > MOST_VERTICES:
            raise InputError(f"{name} has more than {MOST_VERTICES} vertices: simplify its mesh")
        LOG.warning("%s: simplified from %d to %d vertices", name, _places(mesh), _places(coarser))
        return coarser
    if longest_edge is None:
        return mesh
    return subdivided(mesh, longest_edge * float(np.ptp(mesh.vertices, axis=0).max()))


def drawing(views: MeshViews, obj_id: int, size: int) -> Draw:
    """Draws an object of some views, in images of `size` px, on the device that its poses are on."""

    def draw(cam_from_obj: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
        drawn = views.draw_faces([obj_id] * len(K), cam_from_obj, K, size)
        return tuple(part.to(K.device) for part in drawn)

    return draw


def _places(mesh: Mesh) -> int:
    """The number of vertices that differ in more than their looks."""
    return len(np.unique(mesh.vertices, axis=0))
