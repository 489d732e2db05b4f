"""Templates on disk: their camera, size and version, and how the files of an object's are named."""

from pathlib import Path

SIZE = (640, 480)  # width, height
# Raised whenever templates come to look different or to be seen from elsewhere: older ones are not used then.
VERSION = 3
K = ((572.4114, 0.0, 320.0), (0.0, 573.57043, 240.0), (0.0, 0.0, 1.0))


def image_files(templates: Path, obj: str, view: int) -> tuple[Path, Path]:
    """RGBA image and 16-bit depth of one view of an object; `templates` is the folder of a data set's."""
    return templates / obj / f"{view:06d}.png", templates / obj / f"{view:06d}_depth.png"


def poses_file(templates: Path, obj: str) -> Path:
    """Poses of all views of an object, (V, 4, 4) camera from object in mm; the last file written of it."""
    return templates / "object_poses" / f"{obj}.npy"


def digest_file(templates: Path, obj: str) -> Path:
    """What an object's templates were rendered from, as a digest; those of the paper's authors have none."""
    return templates / "object_poses" / f"{obj}.sha256"


def is_current(digest: str) -> bool:
    """Whether the digest of `digest_file` is of templates as this version renders them."""
    return digest.split(" ")[0] == str(VERSION)
