"""A real photo with its mesh and a published pose: does the rendering lie on the photo?

`python -m benchmarks.real_photo --folder DIR --out PICTURE`; DIR holds `rgb.png`, one `*.ply` in mm,
`camera.json` (`cam_K`) and `reference.json` (`bbox_xyxy`, `cam_from_obj_quaternion_xyzw`,
`cam_from_obj_translation_m`).
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from picopose.rendering.mesh import Mesh, load_mesh
from picopose.rendering.renderer import Renderer, Rendering
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.reading import read_json

MARGIN = 0.2  # of the box's longer side, about the box in the picture
ZOOM = 2
JPEG_QUALITY = 88


@dataclass(frozen=True)
class PosedPhoto:
    """A photo of one object whose pose is known."""

    rgb: np.ndarray  # (H, W, 3) uint8
    K: np.ndarray  # (3, 3)
    mesh: Mesh
    cam_from_obj: np.ndarray  # (4, 4) m
    box: np.ndarray  # (4,) px: left, top, right, bottom, the last two exclusive


def read_posed_photo(folder: Path) -> PosedPhoto:
    """Reads the folder that the module's docstring describes; raises `InputError`."""
    meshes = sorted(folder.glob("*.ply"))
    image = cv2.imread(str(folder / "rgb.png"))
    if image is None or len(meshes) != 1:
        raise InputError(f"{folder} must hold rgb.png and one *.ply: choose another --folder")
    reference = read_json(folder / "reference.json")
    cam_from_obj = np.eye(4)
    cam_from_obj[:3, :3] = Rotation.from_quat(reference["cam_from_obj_quaternion_xyzw"]).as_matrix()
    cam_from_obj[:3, 3] = reference["cam_from_obj_translation_m"]
    return PosedPhoto(
        rgb=cv2.cvtColor(image, cv2.COLOR_BGR2RGB),
        K=np.array(read_json(folder / "camera.json")["cam_K"]).reshape(3, 3),
        mesh=load_mesh(meshes[0]),
        cam_from_obj=cam_from_obj,
        box=np.array(reference["bbox_xyxy"]),
    )


def box_mask(photo: PosedPhoto) -> np.ndarray:
    mask = np.zeros(photo.rgb.shape[:2], bool)
    left, top, right, bottom = photo.box
    mask[top:bottom, left:right] = True
    return mask


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two masks (H, W)."""
    return float((first & second).sum() / (first | second).sum())


def bounding_box(mask: np.ndarray) -> np.ndarray:
    """The mask (H, W) of the smallest box about a mask."""
    return mask.any(axis=1)[:, None] & mask.any(axis=0)


def correlation(photo: PosedPhoto, view: Rendering, shift: tuple[int, int] = (0, 0)) -> float:
    """Correlation of the surface's details in photo and rendering, the latter moved by `shift` (x, y) px.

    Details are what a blur removes from the grey values; the lighting, which differs, is left out.
    """
    seen, drawn = (_details(image) for image in (photo.rgb, view.rgb))
    inside = cv2.erode(view.mask.astype(np.uint8), np.ones((9, 9))) > 0
    seen = np.roll(seen, (-shift[1], -shift[0]), axis=(0, 1))
    return float(np.corrcoef(seen[inside], drawn[inside])[0, 1])


def _details(rgb: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return grey - cv2.GaussianBlur(grey, (0, 0), 3)


def best_shift(photo: PosedPhoto, view: Rendering, reach: int = 4) -> tuple[int, int]:
    """The shift (x, y) px within `reach` at which the rendering resembles the photo most."""
    span = range(-reach, reach + 1)
    return max(((x, y) for x in span for y in span), key=lambda shift: correlation(photo, view, shift))


def picture(photo: PosedPhoto, view: Rendering) -> np.ndarray:
    """(h, w, 3) uint8: the photo, the rendering in its place, and the photo with the silhouette's outline."""
    left, top, right, bottom = photo.box
    margin = int(MARGIN * max(right - left, bottom - top))
    height, width = photo.rgb.shape[:2]
    window = np.s_[
        max(top - margin, 0) : min(bottom + margin, height),
        max(left - margin, 0) : min(right + margin, width),
    ]
    size = photo.rgb[window].shape[1] * ZOOM, photo.rgb[window].shape[0] * ZOOM
    plain, placed = photo.rgb[window], np.where(view.mask[..., None], view.rgb, photo.rgb)[window]
    plain, placed = (cv2.resize(part, size, interpolation=cv2.INTER_CUBIC) for part in (plain, placed))
    silhouette = cv2.resize(view.mask[window].astype(np.float32), size) > 0.5
    outlines, _ = cv2.findContours(silhouette.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlined = cv2.drawContours(plain.copy(), outlines, -1, (0, 255, 0), 1, cv2.LINE_AA)
    return np.hstack([plain, placed, outlined])


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the picture to write (.jpg or .png)")
    options = parser.parse_args()
    photo = read_posed_photo(options.folder)
    with Renderer() as renderer:
        view = renderer.render(
            [(photo.mesh, photo.cam_from_obj)], photo.K, photo.rgb.shape[1], photo.rgb.shape[0]
        )
    box = box_mask(photo)
    print(f"silhouette inside the box: {100 * (view.mask & box).sum() / view.mask.sum():.1f} %")
    print(f"IoU of the silhouette with the box: {iou(view.mask, box):.3f}")
    print(f"IoU of the silhouette's bounding box with the box: {iou(bounding_box(view.mask), box):.3f}")
    shift = best_shift(photo, view)
    print(f"correlation of details with the photo: {correlation(photo, view):.3f}")
    print(f"correlation when moved by {shift} px, the best: {correlation(photo, view, shift):.3f}")
    image = cv2.cvtColor(picture(photo, view), cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(str(options.out), image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
        raise InputError(f"{options.out} cannot be written: choose another --out")


if __name__ == "__main__":
    main()
