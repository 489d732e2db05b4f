"""Errors, matching and precision of the BOP challenge again, as slow loops to test the fast ones against."""

import numpy as np

from tests.raycast import cast_depth


def apply(pose, vertices):
    return vertices @ pose[:, :3].T + pose[:, 3]


def under_symmetry(truth, symmetry):
    return np.column_stack([truth[:, :3] @ symmetry[:, :3], truth[:, :3] @ symmetry[:, 3] + truth[:, 3]])


def mssd(estimate, truth, vertices, symmetries, diameter):
    if not np.linalg.norm(estimate[:, 3] - truth[:, 3]) < diameter:
        return np.inf
    placed = apply(estimate, vertices)
    return min(
        max(np.linalg.norm(placed - apply(under_symmetry(truth, s), vertices), axis=1)) for s in symmetries
    )


def project(K, xyz):
    xyw = xyz @ K.T
    return xyw[:, :2] / xyw[:, 2:]


def mspd(estimate, truth, vertices, symmetries, K):
    placed = project(K, apply(estimate, vertices))
    errors = []
    for symmetry in symmetries:
        true = project(K, apply(under_symmetry(truth, symmetry), vertices))
        errors.append(max(np.linalg.norm(placed - true, axis=1)))
    return min(errors)


def vsd(estimate, truth, model, K, depth, delta):
    """VSD for ten taus, with ray-cast surfaces."""
    height, width = depth.shape
    camera = K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    rays = np.sqrt(((columns - K[0, 2]) / K[0, 0]) ** 2 + ((rows - K[1, 2]) / K[1, 1]) ** 2 + 1)
    surfaces = [
        cast_depth(model.vertices, model.faces, np.vstack([pose, [0, 0, 0, 1]]), camera, width, height) * rays
        for pose in (estimate, truth)
    ]
    measured = depth * rays
    visible = [(s > 0) & ((s - measured <= delta) | (measured == 0)) for s in surfaces]
    visible[0] |= visible[1] & (surfaces[0] > 0)
    union, both = visible[0] | visible[1], visible[0] & visible[1]
    if not union.any():
        return np.ones(10)
    difference = np.abs(surfaces[0] - surfaces[1])[both] / model.diameter
    taus = [0.05 * (k + 1) for k in range(10)]
    return np.array([((difference >= tau).sum() + (union & ~both).sum()) / union.sum() for tau in taus])


def match(errors, scores, valid, threshold):
    """Greedy matching of estimates (rows of errors) to instances: {estimate: instance}."""
    matched = {}
    for estimate in sorted(range(len(scores)), key=lambda e: -scores[e]):
        best = threshold
        for instance in range(len(valid)):
            free = valid[instance] and instance not in matched.values()
            if free and errors[estimate][instance] < best:
                best, matched[estimate] = errors[estimate][instance], instance
    return matched


def average_precision(hits, n_truths):
    """Mean over 101 recall levels of the best precision at that recall or more."""
    points, true = [], 0
    for count, hit in enumerate(hits, start=1):
        true += hit
        points.append((true / n_truths, true / count))
    levels = [k * 0.01 for k in range(101)]
    return np.mean([max([p for r, p in points if r >= level], default=0) for level in levels])
