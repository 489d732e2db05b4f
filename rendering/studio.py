"""All that training data need of rendering, as one object to pass to a data set.

It can be sent to other processes; each creates its own OpenGL context when it first draws.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from picopose.rendering.decimation import decimated
from picopose.rendering.mesh import Mesh, hull_vertices, load_mesh, make_mesh
from picopose.rendering.mesh_views import drawing
from picopose.rendering.procedural.prints import random_texture
from picopose.rendering.procedural.shapes import random_shape
from picopose.rendering.procedural.variants import papered, stretched
from picopose.rendering.renderer import Light, Renderer, Rendering
from picopose.rendering.viewpoints import aim_point, object_poses
from picopose.utils.records import Drawing

Instance = tuple[Mesh, np.ndarray]  # a mesh and its cam_from_obj (4, 4) m


class Studio:
    """Meshes, images and a renderer.

    Args:
        views: number of template viewpoints, 42 or 162.
        cache_bytes: limit of the meshes that the renderer keeps.
        max_faces: to which meshes from files are simplified; None: not at all.
    """

    def __init__(self, *, views: int = 162, cache_bytes: int = 1 << 29, max_faces: int | None = None):
        self._views, self._cache_bytes, self._max_faces = views, cache_bytes, max_faces
        self._renderer: Renderer | None = None

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_renderer": None}

    def load(self, path: Path, unit: float) -> Mesh:
        """Loads a mesh for training; an origin too far off for templates is moved to the centre."""
        mesh = load_mesh(path, unit=unit)
        if self._max_faces:
            mesh = decimated(mesh, self._max_faces)
        return replace(mesh, vertices=mesh.vertices - aim_point(mesh.vertices).astype(np.float32))

    def random_shape(self, rng: np.random.Generator) -> Mesh:
        return random_shape(rng)

    def vary(self, rng: np.random.Generator, mesh: Mesh, image: np.ndarray | None) -> Mesh:
        """A variant of a mesh with other proportions and, given an image (H, W, 3) uint8, another surface."""
        mesh = stretched(rng, mesh)
        return mesh if image is None else papered(rng, mesh, image)

    def random_image(self, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        """(height, width, 3) uint8: a pattern, a print or a picture."""
        return random_texture(rng, height, width)

    def board(self, image: np.ndarray) -> Mesh:
        """A square of 1 m about the origin, in the plane z = 0, that shows an image (H, W, 3) uint8."""
        uv = np.float32([[0, 0], [1, 0], [1, 1], [0, 1]])
        vertices = np.column_stack([uv - 0.5, np.zeros(4)])
        return make_mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]]), uv=uv, texture=image)

    def hull(self, mesh: Mesh) -> np.ndarray:
        """(N, 3) float64 m: the vertices on the convex hull."""
        return hull_vertices(mesh.vertices)

    def template_poses(self, mesh: Mesh) -> np.ndarray:
        """cam_from_obj (V, 4, 4) of the mesh's templates."""
        return object_poses(mesh.vertices, self._views)

    def photo(
        self,
        instances: Sequence[Instance],
        K: np.ndarray,
        width: int,
        height: int,
        *,
        ambient: float | Sequence[float] = 1.0,
        suns: Sequence[tuple[Sequence[float], Sequence[float]]] = (),
    ) -> Rendering:
        """Draws instances; `suns` are directions (camera frame, towards the light) and RGB colours."""
        lights = [Light(at=tuple(at), directional=True, color=tuple(color)) for at, color in suns]
        return self._drawer().render(instances, K, width, height, ambient=ambient, lights=lights)

    def draw(self, mesh: Mesh, cam_from_obj: np.ndarray, K: np.ndarray, size: int) -> Drawing:
        """One mesh alone as `MeshViews.draw` shows it at test time, but of one view."""
        image = self._drawer().render([(mesh, cam_from_obj)], K, size, size)
        return drawing(image, cam_from_obj, K)

    def depth(
        self, mesh: Mesh, cam_from_obj: np.ndarray, K: np.ndarray, width: int, height: int
    ) -> np.ndarray:
        """Depth (height, width) m of one mesh alone; 0 where there is no surface."""
        return self._drawer().render_depth(mesh, cam_from_obj, K, width, height)

    def _drawer(self) -> Renderer:
        if self._renderer is None:
            self._renderer = Renderer(cache_bytes=self._cache_bytes)
        return self._renderer
