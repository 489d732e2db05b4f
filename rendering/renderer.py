"""Renders meshes off screen through any pinhole camera: colour, exact depth and instance ids.

It uses OpenGL through EGL, so it needs no display; NVIDIA's driver and Mesa's software renderer both work.
"""

import functools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import moderngl
import numpy as np

from picopose.rendering.context import create_context
from picopose.rendering.mesh import Mesh, vertex_colors
from picopose.rendering.shaders import MAX_LIGHTS, Features, sources
from picopose.rendering.solidity import is_solid

NEAR_SHARE = 1e-3  # near plane in diameters of an instance


@dataclass(frozen=True)
class Light:
    """A light in the camera frame; its brightness does not fall off with distance."""

    at: tuple[float, float, float]  # position in m, or the direction towards it
    directional: bool = False
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)  # in [0, 1]
    intensity: float = 1.0


@dataclass(frozen=True)
class Rendering:
    """The images of one camera."""

    rgb: np.ndarray  # (H, W, 3) uint8, black where there is no surface
    depth: np.ndarray  # (H, W) float32 m, along the optical axis; 0 where there is no surface
    ids: np.ndarray  # (H, W) int32, index of the nearest surface's instance; -1 where there is none

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool: where there is a surface."""
        return self.ids >= 0


class Renderer:
    """An OpenGL context that keeps the most recently drawn meshes.

    It belongs to the process and thread that created it. `cache_bytes` limits the meshes kept on the device;
    the one drawn last is always kept. Raises `InputError` if EGL is missing.
    """

    def __init__(self, *, cache_bytes: int = 1 << 30):
        self._ctx = create_context()
        self._ctx.enable_only(moderngl.DEPTH_TEST)
        self._ctx.front_face = "cw"  # rows run top-down, which mirrors every triangle
        self._color = _Target(self._ctx, (("f1", 4), ("f4", 2)))  # RGBA; depth and id + 1
        self._depth = _Target(self._ctx, (("f4", 1),))
        self._faces = _Target(self._ctx, (("f1", 4), ("f4", 1)))  # RGBA; number of the triangle + 1
        self._programs: dict[Features, moderngl.Program] = {}
        self._meshes: OrderedDict[Mesh, _DeviceMesh] = OrderedDict()
        self._cache_bytes = cache_bytes

    def render(
        self,
        instances: Sequence[tuple[Mesh, np.ndarray]],
        K: np.ndarray,
        width: int,
        height: int,
        *,
        ambient: float | Sequence[float] = 1.0,
        lights: Sequence[Light] = (),
    ) -> Rendering:
        """Draws instances (mesh, cam_from_obj (4, 4) m) with the camera K (3, 3); the nearest surface wins.

        Pixel (i, j) is the ray through u = i, v = j exactly. With the default light (white, ambient) colours
        are those of the mesh; each `Light` adds Lambert's and a modest specular term (Blinn-Phong).
        """
        lighting = _light_uniforms(ambient, lights)
        with self._ctx:  # makes it the current one
            self._color.begin(width, height)
            camera = _camera_uniforms(K, width, height, self._near(instances))
            for index, (mesh, cam_from_obj) in enumerate(instances):
                features = Features(color=True, textured=mesh.texture is not None, lit=bool(lights))
                self._draw(mesh, cam_from_obj, features, camera | lighting | {"instance": index})
            rgba = self._color.read(0, np.uint8, 4)
            surface = self._color.read(1, np.float32, 2)
        return Rendering(
            rgb=cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB),
            depth=np.ascontiguousarray(surface[..., 0]),
            ids=surface[..., 1].astype(np.int32) - 1,
        )

    def render_depth(
        self,
        mesh: Mesh,
        cam_from_obj: np.ndarray,
        K: np.ndarray,
        width: int,
        height: int,
        *,
        front_only: bool = False,
    ) -> np.ndarray:
        """Depth (H, W) float32 m of one mesh at cam_from_obj (4, 4), 0 where there is no surface.

        Several times as fast as `render`, with the same depth. front_only: skip a solid body's back
        faces, which saves up to half the time and changes single outline pixels by fractions of a millimetre.
        """
        with self._ctx:
            self._depth.begin(width, height)
            camera = _camera_uniforms(K, width, height, self._near([(mesh, cam_from_obj)]))
            device_mesh = self._device_mesh(mesh)
            if front_only and device_mesh.solid and _is_before_camera(cam_from_obj, device_mesh.sphere):
                self._ctx.enable(moderngl.CULL_FACE)
            self._draw(mesh, cam_from_obj, Features(), camera)
            self._ctx.disable(moderngl.CULL_FACE)
            return self._depth.read(0, np.float32, 1)[..., 0]

    def render_faces(
        self, mesh: Mesh, cam_from_obj: np.ndarray, K: np.ndarray, width: int, height: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Colours (H, W, 3) uint8 without light, and the triangles (H, W) int32 that are seen, -1 for none.

        One mesh of at most 2^24 triangles at cam_from_obj (4, 4).
        """
        with self._ctx:
            self._faces.begin(width, height)
            camera = _camera_uniforms(K, width, height, self._near([(mesh, cam_from_obj)]))
            features = Features(color=True, textured=mesh.texture is not None, faces=True)
            self._draw(mesh, cam_from_obj, features, camera | _light_uniforms(1.0, ()))
            rgba, faces = self._faces.read(0, np.uint8, 4), self._faces.read(1, np.float32, 1)
        return cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), faces[..., 0].astype(np.int32) - 1

    def forget(self, mesh: Mesh) -> None:
        """Frees the device memory of a mesh."""
        if mesh in self._meshes:
            with self._ctx:
                self._meshes.pop(mesh).release()

    def close(self) -> None:
        """Frees the context and its device memory."""
        targets = self._color, self._depth, self._faces
        with self._ctx:
            for resource in (*self._meshes.values(), *self._programs.values(), *targets):
                resource.release()
        self._meshes.clear()
        self._ctx.release()

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _draw(self, mesh: Mesh, cam_from_obj: np.ndarray, features: Features, uniforms: dict) -> None:
        if features not in self._programs:
            self._programs[features] = self._ctx.program(**sources(features))
        program = self._programs[features]
        pose = np.asarray(cam_from_obj, dtype=np.float32).T.tobytes()
        for name, value in (uniforms | {"cam_from_obj": pose}).items():
            if name not in program:  # a uniform that this program does not use
                continue
            if isinstance(value, bytes):
                program[name].write(value)
            else:
                program[name] = value
        self._device_mesh(mesh).draw(program)

    def _near(self, instances: Sequence[tuple[Mesh, np.ndarray]]) -> float:
        """A near plane (m) in front of every instance before the camera."""
        planes = []
        for mesh, cam_from_obj in instances:
            centre, radius = self._device_mesh(mesh).sphere
            pose = np.asarray(cam_from_obj, dtype=np.float64)
            radius = radius * np.linalg.norm(pose[:3, :3], 2)
            z = pose[2, :3] @ centre + pose[2, 3]
            if z + radius > 0:
                planes.append(max(0.99 * (z - radius), NEAR_SHARE * 2 * radius))
        return min(planes, default=1.0)

    def _device_mesh(self, mesh: Mesh) -> "_DeviceMesh":
        if mesh not in self._meshes:
            while self._meshes and sum(m.nbytes for m in self._meshes.values()) > self._cache_bytes:
                self._meshes.popitem(last=False)[1].release()
            self._meshes[mesh] = _DeviceMesh(self._ctx, mesh)
        self._meshes.move_to_end(mesh)
        return self._meshes[mesh]


class _Target:
    """A framebuffer that grows to the largest image asked for."""

    def __init__(self, ctx: moderngl.Context, formats: Sequence[tuple[str, int]]):
        self._ctx, self._formats = ctx, formats
        self._fbo: moderngl.Framebuffer | None = None

    def begin(self, width: int, height: int) -> None:
        """Binds this target and clears an image of width x height px."""
        if self._fbo is None or self._fbo.width < width or self._fbo.height < height:
            self._grow(width, height)
        self._fbo.use()
        self._fbo.viewport = (0, 0, width, height)
        self._fbo.clear(viewport=self._fbo.viewport)

    def read(self, attachment: int, dtype: type, components: int) -> np.ndarray:
        """The image (H, W, components) of one attachment."""
        _, _, width, height = viewport = self._fbo.viewport
        image = np.empty((height, width, components), dtype)
        kind = "f1" if dtype is np.uint8 else "f4"
        self._fbo.read_into(image, viewport, components, attachment=attachment, dtype=kind)
        return image

    def release(self) -> None:
        if self._fbo is not None:
            for resource in (*self._fbo.color_attachments, self._fbo.depth_attachment, self._fbo):
                resource.release()

    def _grow(self, width: int, height: int) -> None:
        if self._fbo is not None:
            width, height = max(width, self._fbo.width), max(height, self._fbo.height)
        self.release()
        size = (width, height)
        colors = [
            self._ctx.renderbuffer(size, components, dtype=dtype) for dtype, components in self._formats
        ]
        self._fbo = self._ctx.framebuffer(colors, self._ctx.depth_renderbuffer(size))


class _DeviceMesh:
    """A mesh in device memory; its parts are uploaded when a program first needs them."""

    def __init__(self, ctx: moderngl.Context, mesh: Mesh):
        self._ctx, self._mesh = ctx, mesh
        self.sphere = _box_sphere(mesh.vertices)
        self._index = ctx.buffer(np.ascontiguousarray(mesh.faces))
        self._attributes: dict[str, moderngl.Buffer] = {}
        self._arrays: dict[moderngl.Program, moderngl.VertexArray] = {}
        self._texture: moderngl.TextureArray | None = None
        self.nbytes = self._index.size

    @functools.cached_property
    def solid(self) -> bool:
        return is_solid(self._mesh.vertices, self._mesh.faces)

    def draw(self, program: moderngl.Program) -> None:
        if program not in self._arrays:
            content = [
                (self._attribute(name), kind, name) for name, kind in _KINDS.items() if name in program
            ]
            self._arrays[program] = self._ctx.vertex_array(program, content, self._index)
        if "layers" in program:
            self._texture = self._texture or self._send_texture()
            self._texture.use()
        self._arrays[program].render(moderngl.TRIANGLES)

    def release(self) -> None:
        texture = [] if self._texture is None else [self._texture]
        for resource in (*self._arrays.values(), *self._attributes.values(), self._index, *texture):
            resource.release()

    def _attribute(self, name: str) -> moderngl.Buffer:
        if name not in self._attributes:
            self._attributes[name] = self._ctx.buffer(
                np.ascontiguousarray(_attribute_values(self._mesh, name))
            )
            self.nbytes += self._attributes[name].size
        return self._attributes[name]

    def _send_texture(self) -> moderngl.TextureArray:
        layers = np.ascontiguousarray(self._mesh.texture).reshape(-1, *self._mesh.texture.shape[-3:])
        count, height, width, _ = layers.shape
        texture = self._ctx.texture_array((width, height, count), 3, layers, alignment=1)
        texture.build_mipmaps()
        texture.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
        self.nbytes += layers.nbytes * 4 // 3
        return texture


def _box_sphere(vertices: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (3,) and radius of the sphere about the vertices' bounding box: quick, if a bit large."""
    centre = (vertices.min(axis=0) + vertices.max(axis=0)).astype(np.float64) / 2
    return centre, float(np.linalg.norm(vertices - centre, axis=1).max())


def _is_before_camera(cam_from_obj: np.ndarray, sphere: tuple[np.ndarray, float]) -> bool:
    """Whether an object's sphere lies in front of the camera plane, and the pose does not mirror it."""
    pose, (centre, radius) = np.asarray(cam_from_obj, dtype=np.float64), sphere
    depth = pose[2, :3] @ centre + pose[2, 3]
    return depth > radius * np.linalg.norm(pose[2, :3]) and np.linalg.det(pose[:3, :3]) > 0


_KINDS = {"position": "3f", "normal": "3f", "color": "3f1", "uv": "3f"}  # moderngl's formats


def _attribute_values(mesh: Mesh, name: str) -> np.ndarray:
    if name == "position":
        return mesh.vertices
    if name == "normal":
        return mesh.normals
    if name == "color":
        return vertex_colors(mesh)
    uv = np.zeros((len(mesh.vertices), 3), np.float32)
    uv[:, : mesh.uv.shape[1]] = mesh.uv
    return uv


def _camera_uniforms(K: np.ndarray, width: int, height: int, near: float) -> dict[str, bytes | float]:
    """Clip x and y (times depth) from camera points; pixel u lies at u + 1/2 of `width`, top row first."""
    ndc_from_pixel = np.array([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]])
    clip_from_cam = ndc_from_pixel @ np.asarray(K, dtype=np.float64)
    return {"clip_from_cam": clip_from_cam.T.astype(np.float32).tobytes(), "near": near}


def _light_uniforms(ambient: float | Sequence[float], lights: Sequence[Light]) -> dict[str, bytes | int]:
    if len(lights) > MAX_LIGHTS:
        raise ValueError(f"{len(lights)} lights given: at most {MAX_LIGHTS} can be drawn")
    at, color = np.zeros((MAX_LIGHTS, 4), np.float32), np.zeros((MAX_LIGHTS, 3), np.float32)
    for index, light in enumerate(lights):
        at[index] = *light.at, 0.0 if light.directional else 1.0
        color[index] = light.intensity * np.asarray(light.color)
    ambient = np.broadcast_to(np.asarray(ambient, dtype=np.float32), 3)
    return {
        "ambient": ambient.tobytes(),
        "n_lights": len(lights),
        "light_at": at.tobytes(),
        "light_color": color.tobytes(),
    }
