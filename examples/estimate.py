"""Finds the cereal box of the bundled mini set in one of its photos: `python -m examples.estimate`."""

from pathlib import Path

from picopose import ObjectPose, PoseEstimator

MINI = Path(__file__).resolve().parent.parent / "data" / "mini"
K = 612.3, 611.8, 319.6, 241.7  # fx, fy, cx, cy in px


def main(**options) -> ObjectPose:
    """Prints the pose and how sure it is, and returns it; the options are those of `PoseEstimator`."""
    estimator = PoseEstimator(**options).add_object(MINI / "models" / "obj_000002.ply")
    photo = MINI / "test" / "000001" / "rgb" / "000000.jpg"
    (pose,) = estimator.estimate(photo, K, boxes=(333, 232, 485, 386))
    print(pose.cam_from_obj.round(4))  # metres
    print(pose)
    return pose


if __name__ == "__main__":
    main()
