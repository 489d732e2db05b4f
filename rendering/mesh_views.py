"""Draws meshes by id from any pose, for methods that render while they search."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch import Tensor

from picopose.rendering.mesh import Mesh, hull_vertices
from picopose.rendering.mesh_digest import content_digest
from picopose.rendering.renderer import Renderer, Rendering
from picopose.rendering.viewpoints import object_poses
from picopose.utils.lru import Lru
from picopose.utils.records import Drawing

KEPT = 256  # objects whose hulls and digests are kept
SOFTNESS = 1.5  # px, standard deviation: blurs edges as lenses and sensors do


class MeshViews:
    """Draws the meshes of a mapping by id; usable from any thread.

    Args:
        meshes: by id, in metres; may grow later, but an id stays that of one mesh.

    Attributes:
        progress: is called with the numbers of views that are drawn of an object and of all; None for nobody.
    """

    def __init__(self, meshes: Mapping[int, Mesh]):
        self._meshes = meshes
        # An OpenGL context belongs to one thread, so this object keeps one.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="renderer")
        self._renderer: Renderer | None = None
        self._hulls, self._digests = Lru(KEPT), Lru(KEPT)
        self.progress: Callable[[int, int], None] | None = None

    def mesh(self, obj_id: int) -> Mesh:
        return self._meshes[obj_id]

    def digest(self, obj_id: int) -> str:
        """Identifies a mesh and the way it is drawn."""
        return self._digests.get(obj_id, lambda key: content_digest(self._meshes[key]))

    def hull(self, obj_id: int) -> Tensor:
        """(N, 3) float64 m: the corners of a mesh's convex hull."""
        return self._hulls.get(
            obj_id, lambda key: torch.from_numpy(hull_vertices(self._meshes[key].vertices))
        )

    def template_poses(self, obj_id: int, n_views: int) -> Tensor:
        """cam_from_obj (V, 4, 4) float64 m of the paper's template views: 42, 162 or 642."""
        return torch.from_numpy(object_poses(self._meshes[obj_id].vertices, n_views))

    def draw(self, obj_ids: Sequence[int], cam_from_obj: Tensor, K: Tensor, size: int) -> Drawing:
        """A drawing (B, ...) on the CPU for each object id, pose (B, 4, 4) and camera (B, 3, 3).

        The light is white and ambient; the depth is 0 where there is no surface.
        """
        poses, cameras = cam_from_obj.cpu().double().numpy(), K.cpu().double().numpy()
        images = self._thread.submit(self._draw, list(obj_ids), poses, cameras, size).result()
        return Drawing.stack([drawing(*image) for image in zip(images, poses, cameras, strict=True)])

    def draw_faces(
        self, obj_ids: Sequence[int], cam_from_obj: Tensor, K: Tensor, size: int
    ) -> tuple[Tensor, Tensor]:
        """Colours (B, 3, size, size) in [0, 1], and the triangles (B, size, size) long seen, -1 for none.

        Edges are hard, the light is white and ambient. Otherwise as `draw`.
        """
        poses, cameras = cam_from_obj.detach().cpu().double().numpy(), K.detach().cpu().double().numpy()
        images = self._thread.submit(self._draw_faces, list(obj_ids), poses, cameras, size).result()
        rgb, faces = (torch.from_numpy(np.stack(part)) for part in zip(*images, strict=True))
        return rgb.permute(0, 3, 1, 2) / 255, faces.long()

    def silhouette(self, obj_id: int, pose: np.ndarray, K: np.ndarray, width: int, height: int) -> np.ndarray:
        """The pixels (H, W) bool where a camera K (3, 3) sees a mesh at pose cam_from_obj (4, 4) m."""
        return self._thread.submit(self._depth, obj_id, pose, K, width, height).result() > 0

    def forget(self, obj_id: int) -> None:
        """Drops all that is cached of a mesh; call it before the mesh leaves the mapping."""
        self._hulls.forget(lambda key: key == obj_id)
        self._digests.forget(lambda key: key == obj_id)
        if self._renderer is not None:
            self._thread.submit(self._renderer.forget, self._meshes[obj_id]).result()

    def _depth(self, obj_id: int, pose: np.ndarray, K: np.ndarray, width: int, height: int) -> np.ndarray:
        self._renderer = self._renderer or Renderer()
        return self._renderer.render_depth(self._meshes[obj_id], pose, K, width, height)

    def _draw(self, obj_ids: list[int], poses: np.ndarray, cameras: np.ndarray, size: int) -> list[Rendering]:
        self._renderer = self._renderer or Renderer()
        return [
            self._renderer.render([(self._meshes[obj_id], pose)], K, size, size)
            for obj_id, pose, K in zip(obj_ids, poses, cameras, strict=True)
        ]

    def _draw_faces(
        self, obj_ids: list[int], poses: np.ndarray, cameras: np.ndarray, size: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        self._renderer = self._renderer or Renderer()
        return [
            self._renderer.render_faces(self._meshes[obj_id], pose, K, size, size)
            for obj_id, pose, K in zip(obj_ids, poses, cameras, strict=True)
        ]


def drawing(image: Rendering, cam_from_obj: np.ndarray, K: np.ndarray) -> Drawing:
    """A rendering of one mesh at a pose (4, 4) through a camera (3, 3), with soft edges."""
    depth, soft = torch.from_numpy(image.depth), torch.from_numpy(_softened(image)).permute(2, 0, 1) / 255
    return Drawing(
        rgb=soft[:3].contiguous(),
        cover=soft[3].contiguous(),
        mask=depth > 0,
        K=torch.from_numpy(K).float(),
        depth=depth,
        cam_from_obj=torch.from_numpy(cam_from_obj).float(),
    )


def _softened(image: Rendering) -> np.ndarray:
    """(H, W, 4) uint8: colours and coverage."""
    return cv2.GaussianBlur(np.dstack([image.rgb, image.mask * np.uint8(255)]), (0, 0), SOFTNESS)
