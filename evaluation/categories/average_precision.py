"""Average precision: the area below precision over recall."""

import numpy as np


def average_precision(hits: np.ndarray, scores: np.ndarray, n_truths: int) -> np.ndarray:
    """Average precision (T,) of N estimates for T thresholds; hits (N, T) bool, scores (N,).

    Precision is made monotone from the right; equal scores keep their order. Without truths the value is NaN
    if there are estimates, and 0 if there are none.
    """
    if n_truths == 0:
        return np.full(hits.shape[1], np.nan if len(hits) else 0.0)
    hits = hits[best_first(scores)]
    precisions = hits.cumsum(axis=0) / np.arange(1, len(hits) + 1)[:, None]
    envelope = np.maximum.accumulate(precisions[::-1], axis=0)[::-1]
    return (envelope * hits).sum(axis=0) / n_truths


def pooled_precision(
    hits: list[np.ndarray], scores: list[np.ndarray], n_truths: int, n_thresholds: int
) -> np.ndarray:
    """Average precision (T,) of the hits (E, T) and scores (E,) of all images together."""
    hits = np.concatenate([np.zeros((0, n_thresholds), bool), *hits])
    return average_precision(hits, np.concatenate([np.empty(0), *scores]), n_truths)


def best_first(scores: np.ndarray) -> np.ndarray:
    """The order (N,) of descending scores; equal ones keep theirs."""
    return np.argsort(-scores, kind="stable")
