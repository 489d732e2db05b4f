"""What `torch.hub.load(REPOSITORY, "picopose")` offers; add `source="local"` for a folder."""

dependencies = ["torch", "timm", "trimesh", "moderngl", "cv2", "omegaconf", "safetensors", "scipy", "PIL"]


def picopose(weights=None, **options):
    """A `picopose.PoseEstimator`.

    weights: a checkpoint; None for the default method. The options are those of `PoseEstimator`: config,
    device, log_dir, overrides.
    """
    from picopose import PoseEstimator  # the hub lists entries without their imports

    return PoseEstimator(weights, **options)
