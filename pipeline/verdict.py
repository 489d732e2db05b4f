"""The word and the colour for a confidence, used wherever a pose is shown."""

from picopose.rendering.overlay import GREEN, ORANGE, RED

OUTLINES = {"good": GREEN, "doubtful": ORANGE, "wrong": RED}  # in pictures
GOOD, WRONG = 0.75, 0.25  # good at or above the first, wrong below the second


def verdict(confidence: float) -> str:
    """`good`, `doubtful` or `wrong`, by the probability that a pose is right."""
    if confidence >= GOOD:
        return "good"
    return "wrong" if confidence < WRONG else "doubtful"
