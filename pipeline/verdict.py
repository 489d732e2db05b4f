"""Confidence in a word, wherever a pose is shown."""

from picopose.rendering.overlay import GREEN, ORANGE, RED

OUTLINES = {"good": GREEN, "doubtful": ORANGE, "wrong": RED}  # colours in pictures
GOOD, WRONG = 0.75, 0.25  # from here on, and below


def verdict(confidence: float) -> str:
    """`good`, `doubtful` or `wrong`, by the probability that a pose is right."""
    if confidence >= GOOD:
        return "good"
    return "wrong" if confidence < WRONG else "doubtful"
