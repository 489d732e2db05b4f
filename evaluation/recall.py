"""Matching of estimates to annotated instances and the recall of the BOP challenge's localization task."""

import numpy as np

from picopose.datasets.bop.results import Results
from picopose.evaluation.errors import translation_error
from picopose.evaluation.groups import Group

# The thresholds of correctness, strict: shares (VSD), shares of the diameter (MSSD), px of 640 (MSPD).
THRESHOLDS = {
    "vsd": np.array([0.05 + 0.05 * k for k in range(10)]),
    "mssd": np.array([0.05 + 0.05 * k for k in range(10)]),
    "mspd": np.array([5.0 + 5.0 * k for k in range(10)]),
}


def match(errors: np.ndarray, thresholds: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Matches estimates greedily, for T thresholds at once: the instance (E, T) of each estimate or -1.

    errors (E, G, T), best score first; valid (G,) bool. Each estimate takes the free valid instance of the
    smallest error below the threshold; of equal ones the first.
    """
    n_estimates, _, n_thresholds = errors.shape
    open_errors = np.where((errors < thresholds) & valid[:, None], errors, np.inf)
    matched = np.full((n_estimates, n_thresholds), -1)
    if errors.shape[1] == 0:
        return matched
    columns = np.arange(n_thresholds)
    for estimate in range(n_estimates):
        nearest = open_errors[estimate].argmin(axis=0)
        found = open_errors[estimate, nearest, columns] < np.inf
        matched[estimate, found] = nearest[found]
        open_errors[estimate + 1 :, nearest[found], columns[found]] = np.inf
    return matched


def match_groups(groups: list[Group], errors: list[np.ndarray], thresholds: np.ndarray) -> list[np.ndarray]:
    """The instance (E, T) or -1 of each estimate of every group.

    errors: per group (E, G), or (E, G, n) of n variants of an error, each of which meets all thresholds; then
    T is n times their number, the variant being the slower index.
    """
    matches = []
    for group, error in zip(groups, errors, strict=True):
        variants = error[:, :, None] if error.ndim == 2 else error
        repeated = np.repeat(variants, len(thresholds), axis=2)
        matches.append(match(repeated, np.tile(thresholds, variants.shape[2]), group.valid))
    return matches


def match_nearest(groups: list[Group], results: Results) -> list[np.ndarray]:
    """The instance (E,) or -1 of each estimate of every group, by the distance of the origins alone."""
    distances = [
        translation_error(results.cam_from_obj[g.rows][:, None], g.image.cam_from_obj[g.gt_ids])
        for g in groups
    ]
    return [found[:, 0] for found in match_groups(groups, distances, np.array([np.inf]))]


def recalls(groups: list[Group], matches: list[np.ndarray]) -> np.ndarray:
    """Share (T,) of the valid instances of some groups that are matched; 0 without any."""
    n_valid = sum(group.n_valid for group in groups)
    hits = sum((found >= 0).sum(axis=0) for found in matches)
    return hits / n_valid if n_valid else np.zeros_like(hits, float)
