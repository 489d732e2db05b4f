"""A textured mesh at a published pose on the real photo that the pose was estimated from."""

import dataclasses

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from picopose.rendering.mesh import load_mesh
from picopose.rendering.renderer import Renderer, Rendering
from picopose.utils.reading import read_json
from tests.shared import shared


def test_rendering_lies_on_the_photo():
    folder = shared("real/bbq_sauce")
    photo = cv2.cvtColor(cv2.imread(str(folder / "rgb.png")), cv2.COLOR_BGR2RGB)
    reference = read_json(folder / "reference.json")
    K = np.array(read_json(folder / "camera.json")["cam_K"]).reshape(3, 3)
    (path,) = folder.glob("*.ply")
    mesh, pose = load_mesh(path), np.eye(4)
    pose[:3, :3] = Rotation.from_quat(reference["cam_from_obj_quaternion_xyzw"]).as_matrix()
    pose[:3, 3] = reference["cam_from_obj_translation_m"]
    upside_down = dataclasses.replace(mesh, texture=mesh.texture[:, ::-1])
    height, width = photo.shape[:2]
    with Renderer() as renderer:
        view = renderer.render([(mesh, pose)], K, width, height)
        wrong = renderer.render([(upside_down, pose)], K, width, height)
    left, top, right, bottom = reference["bbox_xyxy"]
    box = np.zeros((height, width), bool)
    box[top:bottom, left:right] = True
    assert (view.mask & ~box).sum() == 0
    # The box is loose: it has 12 to 32 px of table on each side.
    bounds = view.mask.any(axis=1)[:, None] & view.mask.any(axis=0)
    assert 0.4 < iou(view.mask, box) < iou(bounds, box) < 0.65
    shift = best_shift(photo, view)
    assert max(map(abs, shift)) <= 2  # px; the pose is an estimate
    assert correlation(photo, view, shift) > 0.6
    assert correlation(photo, wrong, best_shift(photo, wrong)) < 0.1


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return (first & second).sum() / (first | second).sum()


def correlation(photo: np.ndarray, view: Rendering, shift: tuple[int, int]) -> float:
    """Correlation of the surface's details in photo and rendering, the latter moved by `shift` (x, y) px.

    Details are what a blur removes from the grey values; the lighting, which differs, is left out.
    """
    seen, drawn = (details(image) for image in (photo, view.rgb))
    inside = cv2.erode(view.mask.astype(np.uint8), np.ones((9, 9))) > 0
    seen = np.roll(seen, (-shift[1], -shift[0]), axis=(0, 1))
    return float(np.corrcoef(seen[inside], drawn[inside])[0, 1])


def details(rgb: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return grey - cv2.GaussianBlur(grey, (0, 0), 3)


def best_shift(photo: np.ndarray, view: Rendering, reach: int = 4) -> tuple[int, int]:
    """The shift (x, y) px within `reach` at which the rendering resembles the photo most."""
    span = range(-reach, reach + 1)
    return max(((x, y) for x in span for y in span), key=lambda shift: correlation(photo, view, shift))
