"""Templates on disk: their camera, size, version and file names."""

from pathlib import Path

SIZE = (640, 480)  # width, height
# Raise this whenever templates change in look or viewpoint; older ones are then rendered again.
VERSION = 3
K = ((572.4114, 0.0, 320.0), (0.0, 573.57043, 240.0), (0.0, 0.0, 1.0))


def image_files(templates: Path, obj: str, view: int) -> tuple[Path, Path]:
    """RGBA image and 16-bit depth of one view; `templates` is the folder of a data set's templates."""
    return templates / obj / f"{view:06d}.png", templates / obj / f"{view:06d}_depth.png"


def poses_file(templates: Path, obj: str) -> Path:
    """Poses of all views of an object, (V, 4, 4) camera from object in mm; written last."""
    return templates / "object_poses" / f"{obj}.npy"


def digest_file(templates: Path, obj: str) -> Path:
    """Digest of what an object's templates were rendered from; the authors' templates have none."""
    return templates / "object_poses" / f"{obj}.sha256"


def is_current(digest: str) -> bool:
    """Whether a digest from `digest_file` is of the current version."""
    return digest.split(" ")[0] == str(VERSION)
