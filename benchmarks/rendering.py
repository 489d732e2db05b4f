"""Views per second and core of the template renderer: `python -m benchmarks.rendering`.

A bottle of 20,480 faces at 640x480 on one core: the files of `render_templates`, the renderer alone, and
moderngl's bare loop (draw, read the colours). It covers as much of its templates, whose cameras stand two
diagonals away, as LM-O's objects do of theirs on average: 6 %.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import moderngl
import numpy as np
import trimesh

from picopose.rendering.context import create_context
from picopose.rendering.mesh import Mesh, make_mesh
from picopose.rendering.render_templates import Job, render_object, render_view
from picopose.rendering.renderer import Renderer
from picopose.rendering.viewpoints import object_poses
from picopose.utils import template_files
from picopose.utils.mesh_file import MeshFile

VIEWS = 162


def bottle() -> Mesh:
    """A body 11 cm high and 6 cm wide with bumps and smooth colours: 10,242 vertices, 20,480 faces."""
    sphere = trimesh.creation.icosphere(subdivisions=5)
    x, y, z = sphere.vertices.T
    radius = 0.055 + 0.005 * np.sin(9 * x) * np.sin(8 * y) * np.sin(7 * z)
    colors = (127 + 120 * np.sin(5 * sphere.vertices + [0, 1, 2])).astype(np.uint8)
    vertices = sphere.vertices * radius[:, None] / [1.8, 1.8, 1]
    return make_mesh(vertices, sphere.faces, colors=colors)


def bare_loop(mesh: Mesh, poses: np.ndarray) -> Callable[[], object]:
    """moderngl's own loop: one program, colours and depth test, colours read back."""
    width, height = template_files.SIZE
    ctx = create_context()
    ctx.enable_only(moderngl.DEPTH_TEST)
    program = ctx.program(
        vertex_shader="""
            #version 330
            uniform mat4 clip_from_obj;
            in vec3 position; in vec3 color; out vec3 v_color;
            void main() { gl_Position = clip_from_obj * vec4(position, 1.0); v_color = color; }""",
        fragment_shader="""
            #version 330
            in vec3 v_color; out vec4 rgba;
            void main() { rgba = vec4(v_color, 1.0); }""",
    )
    vertices = [(ctx.buffer(mesh.vertices), "3f", "position"), (ctx.buffer(mesh.colors), "3f1", "color")]
    array = ctx.vertex_array(program, vertices, ctx.buffer(mesh.faces))
    fbo = ctx.simple_framebuffer((width, height))
    (fx, _, cx), (_, fy, cy), _ = template_files.K
    near, far = 0.01, 1.0
    clip_from_cam = np.array(
        [
            [2 * fx / width, 0, (2 * cx + 1) / width - 1, 0],
            [0, 2 * fy / height, (2 * cy + 1) / height - 1, 0],
            [0, 0, (far + near) / (far - near), -2 * far * near / (far - near)],
            [0, 0, 1, 0],
        ]
    )

    def run() -> None:
        with ctx:
            fbo.use()
            for pose in poses:
                fbo.clear()
                program["clip_from_obj"].write((clip_from_cam @ pose).T.astype(np.float32).tobytes())
                array.render()
                fbo.read(components=4)

    return run


def file_loop(mesh: Mesh, folder: Path) -> Callable[[], object]:
    """All that `render_templates` does for an object: reading the mesh, the context, images, poses."""
    path = folder / "body.ply"
    colors = np.column_stack([mesh.colors, np.full(len(mesh.colors), 255, np.uint8)])
    trimesh.Trimesh(mesh.vertices * 1000, mesh.faces, vertex_colors=colors, process=False).export(path)
    job = Job(MeshFile(path, 1e-3), folder / "templates", "body", VIEWS, depth_unit=1e-3)
    return lambda: render_object(job)


def views_per_second(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Of the best repeat, by the clock and by the process's CPU time."""
    run()
    wall, cpu = [], []
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    return VIEWS / min(wall), VIEWS / min(cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    os.environ["LP_NUM_THREADS"] = "0"  # Mesa draws in this thread
    cv2.setNumThreads(0)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"640x480, one core, {create_context().info['GL_RENDERER']}")
    measure(bottle(), repeats)


def measure(mesh: Mesh, repeats: int) -> None:
    poses = object_poses(mesh.vertices, VIEWS)
    K, size = np.array(template_files.K), template_files.SIZE
    with tempfile.TemporaryDirectory() as folder, Renderer() as renderer:
        covered = np.mean([render_view(renderer, mesh, pose).mask.mean() for pose in poses])
        print(f"bottle, {len(mesh.faces)} faces, {100 * covered:.0f} % of the image covered")
        loops = {
            "templates with files": file_loop(mesh, Path(folder)),
            "Renderer.render": lambda: [render_view(renderer, mesh, pose) for pose in poses],
            "Renderer.render_depth": lambda: [renderer.render_depth(mesh, pose, K, *size) for pose in poses],
            "moderngl, bare": bare_loop(mesh, poses),
        }
        for loop, run in loops.items():
            by_clock, by_cpu = views_per_second(run, repeats)
            print(f"  {loop:22} {by_clock:6.1f} views/s ({by_cpu:.1f} by CPU time)")


if __name__ == "__main__":
    main()
