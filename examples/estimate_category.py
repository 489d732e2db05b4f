"""Finds a mug in a photo of the bundled set of categories: `python -m examples.estimate_category`."""

from pathlib import Path

from PIL import Image

from picopose import CategoryEstimator, CategoryPose

FRAME = Path(__file__).resolve().parent.parent / "data" / "nocs_mini" / "CAMERA" / "val" / "00000" / "0003"
K = 577.5, 577.5, 319.5, 239.5  # fx, fy, cx, cy in px


def main(**options) -> CategoryPose:
    """Prints the pose and size and returns them; the options are those of `CategoryEstimator`."""
    mask = Image.open(f"{FRAME}_mask.png").getchannel(0).point(lambda instance: 255 * (instance == 1))
    estimator = CategoryEstimator(**options)
    (pose,) = estimator.estimate(f"{FRAME}_color.png", f"{FRAME}_depth.png", K, mask, "mug")
    print(pose.cam_from_obj.round(4))  # metres
    print(pose)
    return pose


if __name__ == "__main__":
    main()
