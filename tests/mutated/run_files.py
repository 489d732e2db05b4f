"""Readers of what runs leave behind: results, side files, journals."""

from pathlib import Path

import numpy as np

from picopose.datasets.bop.detections import write_detections
from picopose.datasets.bop.image_result import FoundPose, FoundRegion, ImageResult
from picopose.datasets.bop.results import write_csv
from picopose.datasets.bop.side_file import read_details, write_details
from picopose.pipeline.journal import Journal, read_journals
from tests.mutated.soundness import finite, is_rotation, sound
from tests.mutation_cases import Reader


def estimate(obj_id: int) -> FoundPose:
    rotation, matches = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0), ((1.0, 2.0, 3.0, 4.5),)
    return FoundPose(0.75, 0.9, 0.5, 3, matches, obj_id, 0.5, rotation, (0.01, -0.02, 0.5))


FINGERPRINT = {"method": "rendermatch", "hypotheses": 10}
PHASES = {"detection": 0.25, "poses": 0.25}
REGION = FoundRegion(5, 0.75, (1.0, 2.0, 3.0, 4.5), (5, 2, 5), (3, 4))
FINISHED = [
    ImageResult(1, im_id, 0.5, (estimate(2), estimate(5)), PHASES, detections=(REGION,)) for im_id in (3, 7)
]


def write_journal(folder: Path) -> None:
    with Journal(folder / "run", FINGERPRINT) as journal:
        for result in FINISHED:
            journal.append(result)


def read_journal(folder: Path) -> dict:
    found = read_journals(folder / "run", FINGERPRINT)
    with Journal(folder / "run", FINGERPRINT):
        pass
    write_csv(folder / "out.csv", found.values())
    write_details(folder / "out.json", found.values())
    write_detections(folder / "detections.json", found.values())
    return found


def check_journal(found: dict) -> None:
    for (scene_id, im_id), result in found.items():
        sound(isinstance(scene_id, int) and isinstance(im_id, int) and finite(result.seconds), "no image")
        for pose in result.estimates:
            sound(isinstance(pose.obj_id, int) and finite(pose.score, pose.translation), "no pose")
            sound(is_rotation(np.reshape(pose.rotation, (3, 3))), "no rotation")
            sound(pose.confidence is None or 0 <= pose.confidence <= 1, "a confidence beyond 0 to 1")
        for region in result.detections:
            sound(isinstance(region.obj_id, int) and finite(region.score, region.box), "no detection")


def check_details(found: list) -> None:
    for one in found:
        sound(
            finite(one.detection_score, one.inlier_ratio, *one.phases.values()), "numbers that are not finite"
        )
        sound(
            0 <= one.inlier_ratio <= 1 and one.template >= 0,
            "numbers that cannot be",
        )


READERS: dict[str, Reader] = {
    "results-side-file": Reader(
        lambda folder: write_details(folder / "details.json", FINISHED),
        lambda folder: read_details(folder / "details.json"),
        check_details,
        [("details.json", "json")],
    ),
    "results-journal": Reader(
        write_journal, read_journal, check_journal, [("run/rank0.jsonl", "json lines")], whole=False
    ),
}
