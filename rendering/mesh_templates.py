"""Renders the templates of meshes in memory on demand; the estimator prepares objects from them."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from picopose.rendering.mesh import Mesh
from picopose.rendering.mesh_digest import content_digest
from picopose.rendering.render_templates import render_view
from picopose.rendering.renderer import Renderer
from picopose.rendering.viewpoints import object_poses
from picopose.utils import template_files
from picopose.utils.crop import crop_views
from picopose.utils.records import View

CHUNK = 8  # whole templates held at a time, 2 MB each

# Called with the numbers of templates that are done and of all.
Progress = Callable[[int, int], None]


class MeshTemplates:
    """The templates of meshes by id, as `model.templates.store` asks for them.

    Args:
        meshes: by id; may grow later.
        size: side of the crops in px.

    Attributes:
        progress: called after every few templates; None for nobody.
    """

    def __init__(self, meshes: Mapping[int, Mesh], n_views: int, size: int):
        self._meshes, self._n_views, self._size = meshes, n_views, size
        self.progress: Progress | None = None

    def digest(self, obj_id: int) -> str:
        return content_digest(self._meshes[obj_id], self._n_views)

    def views(self, obj_id: int) -> Iterator[View]:
        """Renders and crops the templates, a few at a time."""
        mesh = self._meshes[obj_id]
        poses = object_poses(mesh.vertices, self._n_views)
        K = torch.tensor(template_files.K, dtype=torch.float32)
        # A new context: it belongs to this thread, and is needed only if something is rendered.
        with Renderer() as renderer:
            for start in range(0, len(poses), CHUNK):
                part = poses[start : start + CHUNK]
                images = [render_view(renderer, mesh, pose) for pose in part]
                rgb = torch.from_numpy(np.stack([image.rgb for image in images])).permute(0, 3, 1, 2) / 255
                depth = torch.from_numpy(np.stack([image.depth for image in images]))
                cam_from_obj = torch.from_numpy(part).float()
                yield crop_views(rgb, depth, depth > 0, K.expand(len(part), 3, 3), cam_from_obj, self._size)
                if self.progress:
                    self.progress(start + len(part), len(poses))
