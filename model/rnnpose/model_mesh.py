"""The mesh that RNNPose sees of an object, whose vertices carry what the network knows of it."""

import logging

import numpy as np

from picopose.model.rnnpose.options import MOST_VERTICES
from picopose.rendering.decimation import decimated
from picopose.rendering.mesh import Mesh
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


def _places(mesh: Mesh) -> int:
    """The number of vertices that differ in more than their looks."""
    return len(np.unique(mesh.vertices, axis=0))
