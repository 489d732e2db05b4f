"""How fast the BOP evaluator is: per estimate and model size, and from result file to scores.

python -m benchmarks.scoring [--vertices 5000 20000 50000]

The data are made up: bumpy closed models, and a data set of LM-O's size (8 objects, 200 photos, 1445 targets,
1205 estimates, depth images). "In all" is the command from start to end, in one process. Figures are the best
of a few runs. Processor time is that of all threads: on an idle machine the clock shows no more.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from picopose.datasets.bop import MM
from picopose.evaluation.errors import mspd, mssd
from picopose.evaluation.eval_models import EvalModel, symmetry_transforms
from picopose.evaluation.ground_truth import ImageTruth
from picopose.evaluation.vsd import VsdScorer
from picopose.rendering.mesh import Mesh, make_mesh
from picopose.rendering.renderer import Renderer
from picopose.utils.symmetry import Symmetry

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 640, 480
K = np.array([[572.4, 0, 325.3], [0, 573.6, 242.0], [0, 0, 1]])
DIAMETERS = {1: 102, 5: 201, 6: 155, 8: 261, 9: 109, 10: 165, 11: 176, 12: 162}  # mm, by object of LM-O
IMAGES, TARGETS, ESTIMATES = 200, 1445, 1205
ROUNDS = 40


def bumpy_model(n_vertices: int, diameter: float, seed: int) -> EvalModel:
    """A closed star-shaped model of about n_vertices vertices."""
    rng = np.random.default_rng(seed)
    rings = round(np.sqrt(n_vertices / 2))
    grid = trimesh.creation.uv_sphere(count=[rings, rings])
    waves = rng.uniform(-6, 6, (6, 3))
    radius = 1 + 0.08 * np.sin(grid.vertices @ waves.T + rng.uniform(0, 6, 6)).sum(axis=1)
    vertices = grid.vertices * radius[:, None] * [1.0, 0.8, 0.6]
    vertices *= diameter / np.ptp(vertices[:, 0])
    exact, faces = np.float32(vertices).astype(float), grid.faces.astype(np.int32)
    return EvalModel(seed, exact, faces, diameter, np.eye(4)[None, :3], f"shape {seed}")


def random_poses(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 3, 4) poses in view, 0.6 to 1.2 m away."""
    depth = rng.uniform(0.6, 1.2, count)
    xy = rng.uniform([80, 80], [WIDTH - 80, HEIGHT - 80], (count, 2))
    translation = np.linalg.inv(K) @ np.column_stack([xy, np.ones(count)]).T * depth
    return np.concatenate([Rotation.random(count, rng=rng).as_matrix(), translation.T[..., None]], axis=2)


def estimates_of(rng: np.random.Generator, poses: np.ndarray) -> np.ndarray:
    """Poses a few degrees and mm beside the true ones."""
    turn = Rotation.from_rotvec(rng.normal(0, 0.06, (len(poses), 3))).as_matrix()
    shift = rng.normal(0, [0.003, 0.003, 0.012], (len(poses), 3))
    return np.concatenate([turn @ poses[..., :3], poses[..., 3:] + shift[..., None]], axis=2)


def milliseconds(run: Callable[[], object]) -> float:
    """Processor time of all threads, best of five, ms."""
    run()
    times = []
    for _ in range(5):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def per_estimate(n_vertices: int) -> str:
    """One line: ms per estimate and error."""
    rng = np.random.default_rng(0)
    model = bumpy_model(n_vertices, 0.16, 1)
    truths = random_poses(rng, ROUNDS)
    estimates, cameras = estimates_of(rng, truths), np.repeat(K[None], ROUNDS, axis=0)
    image = ImageTruth(Path(), 0, 0, K, 1.0, np.ones(ROUNDS, int), truths, np.ones(ROUNDS))
    depth = np.full((HEIGHT, WIDTH), 2, np.float32)
    turns = symmetry_transforms(Symmetry(np.empty((0, 4, 4)), ((np.array([0.0, 0, 1]), np.zeros(3)),)))
    with Renderer() as renderer:
        scorer = VsdScorer(renderer, delta=0.015)

        def vsd():
            for i in range(ROUNDS):
                scorer.errors(estimates[i : i + 1], truths[i : i + 1], model, image, depth)

        figures = [milliseconds(vsd)]
    for count in (1, 8, len(turns)):
        pair = estimates, truths, model.vertices, turns[:count]
        figures += [
            milliseconds(lambda p=pair: mssd(*p, 0.16)),
            milliseconds(lambda p=pair: mspd(*p, cameras)),
        ]
    return f"{len(model.vertices):>9}" + "".join(f"{figure / ROUNDS:>11.2f}" for figure in figures)


def make_dataset(folder: Path, n_vertices: int, *, n_images: int = IMAGES) -> Path:
    """Writes a data set like LM-O below `folder`; returns the path of a result file for it."""
    rng = np.random.default_rng(0)
    data, scene = folder / "lmo", folder / "lmo" / "test" / "000002"
    (data / "models_eval").mkdir(parents=True)
    (scene / "depth").mkdir(parents=True)
    meshes = {}
    for obj_id, diameter in DIAMETERS.items():
        model = bumpy_model(n_vertices, MM * diameter, obj_id)
        mesh = trimesh.Trimesh(model.vertices / MM, model.faces, process=False)
        mesh.export(data / "models_eval" / f"obj_{obj_id:06d}.ply")
        meshes[obj_id] = make_mesh(model.vertices, model.faces)
    infos = {obj_id: {"diameter": diameter} for obj_id, diameter in DIAMETERS.items()}
    (data / "models_eval" / "models_info.json").write_text(json.dumps(infos))
    targets, lines = _write_scene(rng, scene, meshes, n_images)
    (data / "test_targets_bop19.json").write_text(json.dumps(targets))
    kept = sorted(rng.choice(len(lines), ESTIMATES * len(lines) // TARGETS, replace=False))
    result = folder / "benchmark_lmo-test.csv"
    result.write_text("".join(lines[i] for i in kept))
    return result


def _write_scene(
    rng: np.random.Generator, scene: Path, meshes: dict[int, Mesh], n_images: int
) -> tuple[list[dict], list[str]]:
    """Depth images and annotations; returns the targets and a result line for each."""
    targets, lines, truths, infos, cameras = [], [], {}, {}, {}
    with Renderer() as renderer:
        for im_id in range(n_images):
            count = TARGETS // IMAGES + (im_id < TARGETS % IMAGES)
            obj_ids = sorted(rng.choice(list(meshes), count, replace=False))
            poses = random_poses(rng, count)
            _write_depth(scene / "depth" / f"{im_id:06d}.png", renderer, [meshes[o] for o in obj_ids], poses)
            truths[im_id] = [
                {
                    "obj_id": int(o),
                    "cam_R_m2c": p[:, :3].ravel().tolist(),
                    "cam_t_m2c": (p[:, 3] / MM).tolist(),
                }
                for o, p in zip(obj_ids, poses, strict=True)
            ]
            infos[im_id] = [{"visib_fract": 0.9}] * count
            cameras[im_id] = {"cam_K": K.ravel().tolist(), "depth_scale": 0.1}
            for obj_id, pose in zip(obj_ids, estimates_of(rng, poses), strict=True):
                targets.append({"scene_id": 2, "im_id": im_id, "obj_id": int(obj_id), "inst_count": 1})
                numbers = (" ".join(map(str, values.ravel())) for values in (pose[:, :3], pose[:, 3] / MM))
                lines.append(f"2,{im_id},{obj_id},1.0,{','.join(numbers)},0.5\n")
    for name, content in (("gt", truths), ("gt_info", infos), ("camera", cameras)):
        (scene / f"scene_{name}.json").write_text(json.dumps(content))
    return targets, lines


def _write_depth(path: Path, renderer: Renderer, meshes: list[Mesh], poses: np.ndarray) -> None:
    """The objects before a slanted wall, with sensor noise, in counts of 0.1 mm."""
    placed = np.tile(np.eye(4), (len(poses), 1, 1))
    placed[:, :3] = poses
    depth = 1e4 * renderer.render(list(zip(meshes, placed, strict=True)), K, WIDTH, HEIGHT).depth
    wall = 14000 + 4 * np.arange(WIDTH) + 2 * np.arange(HEIGHT)[:, None]
    noise = np.random.default_rng(len(poses)).normal(0, 10, depth.shape)
    cv2.imwrite(str(path), np.where(depth > 0, depth, wall + noise).astype(np.uint16))


def in_all(n_vertices: int) -> str:
    """One line: seconds of the command on a data set of LM-O's size, on the clock and of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        result = make_dataset(Path(folder), n_vertices)
        command = [sys.executable, "-m", "picopose", "score", "--csv", str(result)]
        command += ["--dataset_dir", str(result.parent / "lmo")]
        seconds, processor = min(_run(command) for _ in range(3))
    return f"{n_vertices:>9}{seconds:>11.2f}{processor:>11.2f}"


def _run(command: list[str]) -> tuple[float, float]:
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vertices", type=int, nargs="+", default=[5000, 20000, 50000])
    options = parser.parse_args()
    print(f"ms of processor time per estimate, {WIDTH} x {HEIGHT}; MSSD and MSPD with 1, 8, 315 symmetries")
    names = ("vertices", "VSD", "MSSD 1", "MSPD 1", "MSSD 8", "MSPD 8", "MSSD 315", "MSPD 315")
    print(f"{names[0]:>9}" + "".join(f"{name:>11}" for name in names[1:]))
    for n_vertices in options.vertices:
        print(per_estimate(n_vertices), flush=True)
    print(f"\n{TARGETS} targets, {ESTIMATES} estimates: VSD, MSSD and MSPD in all")
    print(f"{'vertices':>9}{'seconds':>11}{'processor':>11}")
    for n_vertices in options.vertices:
        print(in_all(n_vertices), flush=True)


if __name__ == "__main__":
    main()
