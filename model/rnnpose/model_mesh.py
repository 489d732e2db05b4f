"""The mesh that RNNPose sees of an object, whose vertices carry what the network knows of it."""

import logging

import numpy as np

from picopose.model.rnnpose.options import MOST_VERTICES
from picopose.rendering.decimation import decimated
from picopose.rendering.mesh import Mesh
from picopose.rendering.subdivision import subdivided

LOG = logging.getLogger(__name__)


def model_mesh(mesh: Mesh, longest_edge: float | None, name: str) -> Mesh:
    """A mesh with large triangles divided, or simplified if it has too many vertices; see `Options`."""
    if len(mesh.vertices) > MOST_VERTICES:
        coarser = decimated(mesh, MOST_VERTICES)
        LOG.warning("%s: simplified from %d to %d faces", name, len(mesh.faces), len(coarser.faces))
        return coarser
    if longest_edge is None:
        return mesh
    return subdivided(mesh, longest_edge * float(np.ptp(mesh.vertices, axis=0).max()))
