"""Fits logistic regressions, and tells how well a number tells right from wrong."""

import numpy as np

RIDGE = 1e-4  # holds weights of features down that say the same


def fit_logistic(evidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (F,) and bias of greatest likelihood, by Newton's method.

    evidence: (N, F). right: (N,) bool.
    """
    mean, deviation = evidence.mean(axis=0), evidence.std(axis=0)
    deviation[deviation == 0] = 1  # what never changes weighs nothing
    table = np.column_stack([(evidence - mean) / deviation, np.ones(len(evidence))])
    penalty = RIDGE * len(table) * np.diag([*np.ones(table.shape[1] - 1), 0])
    solution = np.zeros(table.shape[1])
    for _ in range(50):
        probability = 1 / (1 + np.exp(-table @ solution))
        gradient = table.T @ (probability - right) + penalty @ solution
        curvature = (table * (probability * (1 - probability))[:, None]).T @ table + penalty
        solution -= np.linalg.solve(curvature, gradient)
    weights = solution[:-1] / deviation
    return weights, float(solution[-1] - weights @ mean)


def auroc(score: np.ndarray, right: np.ndarray) -> float:
    """Chance that a right pose has a higher score than a wrong one; draws count half."""
    difference = score[right][:, None] - score[~right][None]
    return float(((difference > 0) + (difference == 0) / 2).mean())
