"""Finds the cereal box of the bundled mini set in one of its photos: `python -m examples.estimate`."""

from pathlib import Path

from picopose.pipeline.estimator import ObjectPose, PoseEstimator
from picopose.pipeline.verdict import verdict

MINI = Path(__file__).resolve().parent.parent / "data" / "mini"
K = [[612.3, 0, 319.6], [0, 611.8, 241.7], [0, 0, 1]]


def main(**options) -> ObjectPose:
    """Prints the pose and how sure it is, and returns it; the options are those of `PoseEstimator`."""
    estimator = PoseEstimator(**options).add_object(MINI / "models" / "obj_000002.ply")
    photo = MINI / "test" / "000001" / "rgb" / "000000.jpg"
    (pose,) = estimator.estimate(photo, K, boxes=[(333, 232, 485, 386)])
    print(pose.cam_from_obj.round(4))  # metres
    print(f"{verdict(pose.confidence)}: {100 * pose.confidence:.0f} % sure")
    return pose


if __name__ == "__main__":
    main()
