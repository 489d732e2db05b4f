"""Mean average precision of the BOP challenge's 6D detection task (BOP 2024), from matched estimates."""

import numpy as np

from picopose.evaluation.groups import Group, places_by_key

MIN_VISIBILITY = 0.1  # instances less visible than that count neither as found nor as missed
RECALL_LEVELS = np.arange(101) * 0.01


def average_precision(hit: np.ndarray, n_truths: int) -> float:
    """Area under the precision-recall curve, of estimates (N,) that hit or not, best score first.

    Mean over 101 levels of recall of the best precision at that recall or more.
    """
    true = np.cumsum(hit)
    recall = np.concatenate([[0.0], true / n_truths, [1.0]])
    precision = np.concatenate([[0.0], true / np.arange(1, len(hit) + 1), [0.0]])
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[np.searchsorted(recall, RECALL_LEVELS, side="left")].mean())


def object_average_precisions(
    groups: list[Group], matches: list[np.ndarray], scores: np.ndarray
) -> dict[int, np.ndarray]:
    """AP (T,) of each object that has an instance visible enough.

    matches: per group the instance (E, T) or -1 of each estimate; scores (N,) of the result file's lines.
    """
    precisions = {}
    for obj_id, members in places_by_key(group.obj_id for group in groups).items():
        visible = [groups[i].image.visibility[groups[i].gt_ids] >= MIN_VISIBILITY for i in members]
        n_truths = sum(int(v.sum()) for v in visible)
        if n_truths == 0:
            continue
        score = np.concatenate([scores[groups[i].rows] for i in members])
        order = np.argsort(-score, kind="stable")
        found = np.concatenate([matches[i] for i in members])[order]
        # -1 indexes the appended entry: an unmatched estimate counts, as a false one.
        counts = np.concatenate(
            [np.append(v, True)[matches[i]] for i, v in zip(members, visible, strict=True)]
        )[order]
        precisions[obj_id] = np.array(
            [average_precision(f[c] >= 0, n_truths) for f, c in zip(found.T, counts.T, strict=True)]
        )
    return precisions
