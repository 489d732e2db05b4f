"""Accuracy and speed of the pose solver beside OpenCV and PoseLib: `python -m benchmarks.pnp`.

Batches of 40 problems of 200 to 3000 points with 1 px noise, a given share of inliers, and one mixed row.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import poselib
import torch

from picopose.model.solve.pnp import solve_pnp
from picopose.utils.geometry import rotation_angle
from picopose.utils.records import Correspondences

SIZE = 224  # px, side of the crop that the object fills
PROBLEMS, LEAST, MOST = 40, 200, 3000  # in a batch; points of a problem, from and to
THRESHOLD = 2.0  # px, of every method that does not say otherwise
RATIOS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
# What `solve_pnp` does by itself, so that PoseLib does neither more nor less work.
OUR_SETTINGS = {
    "min_iterations": 128,
    "max_iterations": 8192,
    "success_prob": 0.9999,
    "dyn_num_trials_mult": 1.0,
}


@dataclass(frozen=True)
class Problem:
    """Matches of one object in its crop; (N, 2) px, (N, 3) m, (3, 3), and the true pose."""

    xy: np.ndarray
    xyz: np.ndarray
    K: np.ndarray
    R: np.ndarray
    t: np.ndarray


def make_problem(random: np.random.Generator, count: int, ratio: float) -> Problem:
    """A box of points that fills the crop, seen from 3 to 10 diameters, off the optical axis, 1 px noise.

    The share 1 - `ratio` of the matches lies anywhere in the crop.
    """
    diameter = random.uniform(0.1, 0.3)
    xyz = random.uniform(-0.35, 0.35, (count, 3)) * diameter
    R = np.linalg.qr(random.standard_normal((3, 3)))[0]
    R *= np.linalg.det(R)
    distance = diameter * random.uniform(3, 10)
    t = distance * np.array([*random.uniform(-0.2, 0.2, 2), 1.0])
    focal = 0.9 * SIZE * distance / diameter
    K = np.array(
        [[focal, 0, SIZE / 2 - focal * t[0] / t[2]], [0, focal, SIZE / 2 - focal * t[1] / t[2]], [0, 0, 1]]
    )
    projected = (xyz @ R.T + t) @ K.T
    xy = projected[:, :2] / projected[:, 2:] + random.standard_normal((count, 2))
    outlier = random.permutation(count)[: round(count * (1 - ratio))]
    xy[outlier] = random.uniform(0, SIZE, (len(outlier), 2))
    return Problem(xy, xyz, K, R, t)


def padded(problems: list[Problem]) -> tuple[Correspondences, torch.Tensor]:
    """The problems' matches in float32, as the network gives them, and cameras."""
    longest = max(len(problem.xy) for problem in problems)
    xy, xyz = np.zeros((len(problems), longest, 2)), np.zeros((len(problems), longest, 3))
    weight = np.zeros((len(problems), longest))
    for i, problem in enumerate(problems):
        count = len(problem.xy)
        xy[i, :count], xyz[i, :count], weight[i, :count] = problem.xy, problem.xyz, 1
    matches = Correspondences(*(torch.from_numpy(value).float() for value in (xy, xyz, weight)))
    return matches, torch.from_numpy(np.stack([problem.K for problem in problems]))


def ours(problems: list[Problem], device: str) -> list[np.ndarray]:
    """Poses [R | t] of all problems in one call; the time includes the padding and the way to the device."""
    matches, K = padded(problems)
    result = solve_pnp(matches.to(device), K.to(device), threshold_px=THRESHOLD)
    return list(result.cam_from_obj[:, :3].double().cpu().numpy())


def opencv(problem: Problem, solver: int, polish: bool) -> np.ndarray:
    """`solvePnPRansac` with the original program's 150 iterations and 2 px.

    In millimetres, since OpenCV's SQPnP gives up on objects that are small in their unit.
    """
    xyz = 1e3 * problem.xyz
    found, rotation, t, inliers = cv2.solvePnPRansac(
        xyz, problem.xy, problem.K, None, iterationsCount=150, reprojectionError=THRESHOLD, flags=solver
    )
    if not found:
        return np.eye(3, 4)
    if polish:
        chosen = inliers[:, 0]
        rotation, t = cv2.solvePnPRefineLM(xyz[chosen], problem.xy[chosen], problem.K, None, rotation, t)
    return np.hstack([cv2.Rodrigues(rotation)[0], 1e-3 * t])


def pose_lib(problem: Problem, threshold: float, settings: dict) -> np.ndarray:
    fx, fy, cx, cy = problem.K[[0, 1, 0, 1], [0, 1, 2, 2]]
    camera = {"model": "PINHOLE", "width": SIZE, "height": SIZE, "params": [fx, fy, cx, cy]}
    options = {"max_reproj_error": threshold, **settings}
    pose, _ = poselib.estimate_absolute_pose(problem.xy, problem.xyz, camera, options, {})
    return pose.Rt


def methods(device: str) -> dict[str, Callable[[list[Problem]], list[np.ndarray]]]:
    def one_by_one(solve: Callable, *options) -> Callable:
        return lambda problems: [solve(problem, *options) for problem in problems]

    return {
        "solve_pnp": lambda problems: ours(problems, device),
        "OpenCV EPnP 150": one_by_one(opencv, cv2.SOLVEPNP_EPNP, False),
        "OpenCV AP3P 150": one_by_one(opencv, cv2.SOLVEPNP_AP3P, False),
        "OpenCV SQPnP 150 + LM": one_by_one(opencv, cv2.SOLVEPNP_SQPNP, True),
        "PoseLib": one_by_one(pose_lib, THRESHOLD, {}),
        "PoseLib, our settings": one_by_one(pose_lib, THRESHOLD, OUR_SETTINGS),
        "PoseLib, its 12 px": one_by_one(pose_lib, 12.0, {}),
    }


def errors(pose: np.ndarray, problem: Problem) -> tuple[float, float]:
    """Rotation error in degrees and translation error in percent of the distance."""
    angle = rotation_angle(torch.from_numpy(pose[:, :3] @ problem.R.T))
    shift = np.linalg.norm(pose[:, 3] - problem.t) / np.linalg.norm(problem.t)
    return float(angle.rad2deg()), 100 * float(shift)


def measure(ratios: list[float], solvers: dict, batches: int, seed: int) -> dict:
    """Per method: median rotation and translation error, median seconds and CPU seconds of one batch.

    The methods take turns on every batch, so that a busy machine slows all of them.
    """
    random = np.random.default_rng(seed)
    found = {name: ([], [], []) for name in solvers}
    for _ in range(batches):
        counts = random.integers(LEAST, MOST + 1, PROBLEMS)
        problems = [make_problem(random, int(n), ratios[i % len(ratios)]) for i, n in enumerate(counts)]
        for name, solve in solvers.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            poses = solve(problems)
            found[name][1].append(time.perf_counter() - start)
            found[name][2].append(time.process_time() - start_cpu)
            found[name][0].extend(
                errors(pose, problem) for pose, problem in zip(poses, problems, strict=True)
            )
    return {
        name: (*np.median(error, axis=0), np.median(wall), np.median(cpu))
        for name, (error, wall, cpu) in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=3, help="batches per row")
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS, help="shares of inliers")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    solvers = methods(options.device)
    solvers["solve_pnp"]([make_problem(np.random.default_rng(0), 200, 0.5)] * PROBLEMS)  # warm up

    print(f"{options.batches} batches of {PROBLEMS} problems, {LEAST} to {MOST} points, 1 px noise,")
    print(f"1 thread, solve_pnp on {options.device}. Medians over problems and batches.")
    print("Each cell: rotation error in degrees / translation error in % / ms per batch (ms of CPU time)\n")
    print("| inliers | " + " | ".join(solvers) + " |")
    print("| --- |" + " --- |" * len(solvers))
    for seed, shares in enumerate([[ratio] for ratio in options.ratios] + [options.ratios]):
        row = measure(shares, solvers, options.batches, seed)
        cells = (
            f"{r:.3f} / {t:.3f} / {1e3 * wall:.0f} ({1e3 * cpu:.0f})" for r, t, wall, cpu in row.values()
        )
        label = f"{shares[0]:.0%}" if len(shares) == 1 else f"{100 * min(shares):.0f} to {max(shares):.0%}"
        print(f"| {label} | " + " | ".join(cells) + " |", flush=True)
    ratios = (f"{name} {values[2] / row['solve_pnp'][2]:.1f}" for name, values in row.items())
    print("\nTime of the last row, relative to solve_pnp: " + ", ".join(ratios))


if __name__ == "__main__":
    main()
