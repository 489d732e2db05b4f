"""Cameras as other programs write them down are what they mean, or refused by what is not known."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from picopose.datasets.cameras.matrices import camera_matrix, check_camera
from picopose.demo.shots import CameraHint, PlaceHint, camera_of, read_shot
from picopose.utils.errors import InputError
from tests.small_bop import dump

WIDTH, HEIGHT = 640, 480
FX, FY, CX, CY = 612.3, 611.8, 319.6, 241.7
FLAT = [FX, 0, CX, 0, FY, CY, 0, 0, 1]
ROWS = [FLAT[:3], FLAT[3:6], FLAT[6:]]
K = np.array(ROWS)
SIZE = {"width": WIDTH, "height": HEIGHT}
PINHOLE = {"fx": FX, "fy": FY, "cx": CX, "cy": CY}
D = [-0.35, 0.12, 0.001, -0.0005, 0.02]

ROS = f"""header:
  frame_id: camera
image_width: {WIDTH}
image_height: {HEIGHT}
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: {FLAT}
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: %s
rectification_matrix:
  rows: 3
  cols: 3
  data: [1., 0., 0., 0., 1., 0., 0., 0., 1.]
projection_matrix:
  rows: 3
  cols: 4
  data: [{FX}, 0., {CX}, 0., 0., {FY}, {CY}, 0., 0., 0., 1., 0.]
"""
ROS_INFO = SIZE | {"distortion_model": "plumb_bob", "D": [0.0] * 5, "K": FLAT, "binning_x": 0}
ROS_INFO |= {"P": [FX, 0, CX, 0, 0, FY, CY, 0, 0, 0, 1, 0], "R": np.eye(3).flatten().tolist()}
REALSENSE = SIZE | {"fx": FX, "fy": FY, "ppx": CX, "ppy": CY, "coeffs": [0.0] * 5}
OPEN3D = SIZE | {"intrinsic_matrix": [FX, 0, 0, 0, FY, 0, CX, CY, 1]}

FILES = {
    "camera.json": PINHOLE | SIZE | {"depth_scale": 0.1},
    "CAPITALS.JSON": {"cam_K": FLAT},
    "rows.json": {"K": ROWS},
    "3x4.json": {"K": [[*row, 0] for row in ROWS]},
    "4x4.json": {"K": [*([*row, 0] for row in ROWS), [0, 0, 0, 1]]},
    "rounding.json": {"cam_K": [FX, 1e-14, CX, 1e-14, FY, CY, 0, 0, 1]},
    "times_two.json": {"cam_K": [2 * value for value in FLAT]},
    "scene_camera.json": {"4": {"cam_K": FLAT}, "5": {"cam_K": [99, *FLAT[1:]]}},
    "ros1.json": ROS_INFO,
    "ros2.json": {"k": FLAT, "d": [], "distortion_model": ""} | SIZE,
    "realsense.json": REALSENSE | {"model": "distortion.inverse_brown_conrady"},
    "realsense_by_number.json": {"color_intrinsics": 1, "intrinsics": REALSENSE | {"model": 4}},
    "open3d.json": OPEN3D,
    "open3d_view.json": {"extrinsic": np.eye(4).flatten().tolist(), "intrinsic": OPEN3D},
    "opencv.json": {"camera_matrix": ROWS, "dist_coeff": [[0, 0, 0, 0, 0]]},
    "ros.yml": ROS % "[0., 0., 0., 0., 0.]",
    "cam_K.txt": "6.123e+02 0.0 3.196e+02\n0.0 6.118e+02 2.417e+02\n0.0 0.0 1.0\n",
    "numpy.txt": f"# K\n{K}",
    "four": f"{FX} {FY} {CX} {CY}",
    "byte_order_mark.txt": f"\ufeff{FX},{FY},{CX},{CY}",
}


def write(folder: Path, name: str, content) -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def camera(given: str, photo: str = "000004.png"):
    return camera_of(Path(photo), CameraHint(file=given), WIDTH, HEIGHT)


@pytest.mark.parametrize("name", FILES)
def test_one_camera_of_many_programs(tmp_path, name):
    found = camera(write(tmp_path, name, FILES[name]))
    np.testing.assert_allclose(found.K, K, rtol=1e-6)
    assert found.lens is None


def test_a_file_that_opencv_wrote(tmp_path):
    path = str(tmp_path / "opencv.yml")
    storage = cv2.FileStorage(path, cv2.FILE_STORAGE_WRITE)
    storage.write("image_width", WIDTH)
    storage.write("image_height", HEIGHT)
    storage.write("camera_matrix", K)
    storage.write("distortion_coefficients", np.array([D]))
    storage.release()
    found = camera(path)
    np.testing.assert_allclose(found.K, K, rtol=1e-6)
    assert found.lens.coefficients == tuple(D)


@pytest.mark.parametrize(
    ("name", "content", "coefficients"),
    [
        ("ros.yaml", ROS % "[-0.35, 1e-5, .1, 0, 0]", (-0.35, 1e-5, 0.1, 0, 0)),
        ("ros.json", ROS_INFO | {"D": D}, tuple(D)),
        ("named.json", PINHOLE | {"k1": 0.1, "p2": 0.2}, (0.1, 0, 0, 0.2, 0)),
        (
            "eight.json",
            PINHOLE | {"distortion_model": "rational_polynomial", "d": [1, 2, 0, 0, 3, 4, 5, 6]},
            (1, 2, 0, 0, 3, 4, 5, 6),
        ),
        ("nested.json", PINHOLE | {"distortion": {"model": "radtan", "coefficients": D[:4]}}, tuple(D[:4])),
        ("columns.json", PINHOLE | {"dist_coeffs": [[value] for value in D]}, tuple(D)),
    ],
)
def test_coefficients_of_distortion(tmp_path, name, content, coefficients):
    assert camera(write(tmp_path, name, content)).lens.coefficients == coefficients


REFUSED = {
    "fisheye": (
        PINHOLE | {"distortion_model": "equidistant", "D": [0, 0, 0, 0]},
        "model 'equidistant': undist",
    ),
    "inverse": (
        REALSENSE | {"model": "distortion.inverse_brown_conrady", "coeffs": D},
        "'inversebrownconrady'",
    ),
    "k1 to k4": (PINHOLE | {"k1": 0.1, "k2": 0.1, "k3": 0.1, "k4": 0.1}, "k1 to k4 alone, as of a fisheye"),
    "six": (PINHOLE | {"d": [0.1] * 6}, "6 coefficients of distortion, not 4, 5 or 8: undistort"),
    "unknown": (PINHOLE | {"dist_polynomial": [0.1, 0.2]}, "has distpolynomial, which is not known"),
    "two": (PINHOLE | {"D": D, "k1": 0.5}, "states two distortions"),
    "text": (PINHOLE | {"D": ["a"]}, "d must be a finite number, not"),
    "skew": (PINHOLE | {"D": D, "skew": 3}, "distortion and a skew of 3"),
    "two cameras": (PINHOLE | {"K": [300, *FLAT[1:]]}, "states two cameras, by k and by fx, fy, cx, cy"),
    "baseline": ({"P": [FX, 0, CX, -40.0, 0, FY, CY, 0, 0, 0, 1, 0]}, "shift [-40.0, 0.0, 0.0], not K alone"),
    "binning": (ROS_INFO | {"binning_x": 2, "binning_y": 2}, "binning or roi"),
    "roi": (ROS_INFO | {"roi": {"x_offset": 64, "y_offset": 0}}, "binning or roi"),
    "other size": (PINHOLE | {"width": 640, "height": 640}, "is of images of 640x640 px, not 640x480 px"),
    "half a size": (PINHOLE | {"width": 640}, "its images' size must be 2 finite numbers"),
    "scene": (
        {"1": {"cam_K": FLAT}, "2": {"cam_K": [99, *FLAT[1:]]}},
        "cameras of 2 images, none of them 000004",
    ),
    "one image twice": (
        {"4": {"cam_K": FLAT}, "000004": {"cam_K": [99, *FLAT[1:]]}},
        "lists image 4 twice: leave the photo's in it",
    ),
    "nothing": ({"name": "camera"}, "holds no camera that is known: write cam_K or fx, fy, cx, cy"),
    "list": ('[{"fx": 1}]', "holds no camera"),
    "five numbers": ("1 2 3 4 5", "has a matrix of 5 numbers"),
    "transposed": ({"K": [FX, FY, CX, CY, 1, 0, 0, 0, 0]}, "is no camera matrix"),
    "code": ("!!python/object/apply:os.system ['false']", "is neither JSON nor YAML nor numbers"),
    "not YAML": ("fx: [1", "is neither JSON nor YAML nor numbers"),
    "XML": ("<?xml version='1.0'?>", "is XML: save the camera as YAML or JSON"),
    "binary": ("\x93NUMPY\0", "is no text: save the camera as JSON"),
    "empty": ("", "is empty"),
    "uncalibrated": (ROS_INFO | {"K": [0.0] * 9}, "is no camera matrix"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_camera_files_that_cannot_be_used(tmp_path, case):
    content, message = REFUSED[case]
    path = write(tmp_path, "camera.txt", content)
    with pytest.raises(InputError) as caught:
        camera(path)
    assert message in str(caught.value) and path in str(caught.value) and "\n" not in str(caught.value)


def test_a_scene_whose_images_share_one_camera(tmp_path):
    path = write(tmp_path, "scene_camera.json", {str(i): {"cam_K": FLAT} for i in range(3)})
    assert camera(path, "IMG_77.jpg").K[0, 0].item() == pytest.approx(FX)


def test_rectified_photos_are_told_apart(tmp_path, caplog):
    camera(write(tmp_path, "a.json", ROS_INFO))
    assert not caplog.text
    camera(write(tmp_path, "b.json", ROS_INFO | {"P": [500, 0, CX, 0, 0, 500, CY, 0, 0, 0, 1, 0]}))
    assert "as of a raw photo; for a rectified one (image_rect) pass fx,fy,cx,cy of its P" in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((1224.6, 1223.6, 639.7, 483.9), "it looks like that of 1280x960 px"),
        ((FX / 2, FY / 2, 159.6, 120.6), "it looks like that of 320x240 px"),
        ((FY, FX, CY, CX), "it looks like that of 480x640 px"),
        ((FX, FY, 620, CY), "pass this very photo's camera; of a photo that is cut out of a larger one"),
        ((FX, CX, FY, CY), "its pixels are not square: give fx, fy, cx, cy in this order"),
        ((0.96, 0.96, 0.5, 0.5), "has focal lengths 0.96, 0.96 px, not those of 640x480 px"),
        ((80, 80, CX, CY), "has focal lengths 80, 80 px, not those of 640x480 px"),
    ],
)
def test_cameras_of_other_photos(given, message):
    fx, fy, cx, cy = given
    with pytest.raises(InputError) as caught:
        check_camera(torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), WIDTH, HEIGHT, "K")
    assert message in str(caught.value)


# K of photos of BOP's sets, as their scene_camera.json have them, and their photos' sizes.
@pytest.mark.parametrize(
    ("values", "size"),
    [
        ((572.4114, 573.57043, 325.2611, 242.04899), (640, 480)),  # LM-O
        ((1075.65091572, 1073.90347929, 374.06888344, 255.06888344), (720, 540)),  # T-LESS
        ((1066.778, 1067.487, 312.9869, 241.3109), (640, 480)),  # YCB-V
        ((2992.63, 3003.79, 633.886, 489.554), (1280, 960)),  # ITODD
        ((550.0, 540.0, 316.0, 244.0), (640, 480)),  # IC-BIN
    ],
)
def test_cameras_of_real_photos(values, size):
    fx, fy, cx, cy = values
    check_camera(camera_matrix([fx, 0, cx, 0, fy, cy, 0, 0, 1], "K"), *size, "K")


def test_a_photo_that_is_cut_out(tmp_path, caplog):
    content = {"fx": FX, "fy": FY, "cx": 600.0, "cy": 20.0}
    with pytest.raises(InputError, match="state its width and height beside its camera"):
        camera(write(tmp_path, "a.json", content))
    found = camera(write(tmp_path, "b.json", content | SIZE))
    assert found.K[0, 2] == 600 and "used: it is given for a photo of this size" in caplog.text


def disc_at(x: float, y: float, radius: float = 12.0) -> np.ndarray:
    """A photo (H, W) uint8 of a white disc, to a fraction of a pixel."""
    shift = 4
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    centre = tuple(round(v * 2**shift) for v in (x, y))
    return cv2.circle(picture, centre, round(radius * 2**shift), 255, -1, cv2.LINE_AA, shift)


@pytest.mark.parametrize(
    "coefficients", [D, [-0.2, 0.05, 0.0, 0.0], [0.2, 0.3, 0.001, 0, 0.1, 0.1, 0.2, 0.05]]
)
@pytest.mark.parametrize("kind", ["box", "mask"])
def test_photos_and_places_are_undistorted(tmp_path, caplog, coefficients, kind):
    ray = np.array([0.38, 0.28, 1])  # near the photo's corner
    (bent,) = cv2.projectPoints(ray[None], np.zeros(3), np.zeros(3), K, np.array(coefficients))[0][:, 0]
    straight = K @ ray
    assert np.linalg.norm(bent - straight[:2]) > 7
    picture = disc_at(*bent)
    cv2.imwrite(str(tmp_path / "photo.png"), picture)
    cv2.imwrite(str(tmp_path / "mask.png"), picture)
    x, y = bent
    places = PlaceHint([(x - 12, y - 12, x + 13, y + 13)])
    if kind == "mask":
        places = PlaceHint([tmp_path / "mask.png"])
    hint = CameraHint(file=str(dump(tmp_path / "camera.json", PINHOLE | {"D": coefficients})))
    shot = read_shot(tmp_path / "photo.png", hint, places, ["disc"])
    rows, columns = np.nonzero(shot.image[..., 0] > 127)
    assert np.abs([columns.mean() - straight[0], rows.mean() - straight[1]]).max() < 0.7
    np.testing.assert_allclose(shot.K, K, rtol=1e-6)
    left, top, right, bottom = shot.places[0].mask.box.tolist()
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert np.abs(np.subtract((left, top, right, bottom), found)).max() <= 2 + 2 * (kind == "box")
    assert shot.places[0].mask.is_box == (kind == "box")
    assert "is undistorted by the lens" in caplog.text


@pytest.mark.parametrize("end", ["distortion_coefficients:", "cols: 5", "data: ", "data: [", "-0.0005,"])
def test_a_file_that_ends_within_its_distortion_is_refused(tmp_path, end):
    text = ROS % D
    start = text.index("distortion_coefficients:")
    (tmp_path / "camera.yaml").write_text(text[: text.index(end, start) + len(end)])
    with pytest.raises(InputError, match=r"camera\.yaml"):
        camera_of(Path("photo.png"), CameraHint(file=str(tmp_path / "camera.yaml")), WIDTH, HEIGHT)


def test_a_distortion_that_folds_the_photo(tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), disc_at(600, 440))
    hint = CameraHint(file=str(dump(tmp_path / "camera.json", PINHOLE | {"D": [-1.5, 0, 0, 0]})))
    with pytest.raises(InputError, match="cannot be undone at a box: undistort the photo first"):
        read_shot(tmp_path / "photo.png", hint, PlaceHint([(580, 420, 620, 460)]), ["disc"])


def test_K_up_to_rounding_and_scale():
    for values in (FLAT, [*FLAT[:3], 1e-13, *FLAT[4:]], [3 * value for value in FLAT]):
        np.testing.assert_allclose(camera_matrix(values, "K"), K, rtol=1e-6)
    with pytest.raises(InputError, match="K is no camera matrix"):
        camera_matrix([*FLAT[:3], 0.5, *FLAT[4:]], "K")


@pytest.mark.parametrize(
    "coefficients", [[1e6, 0, 0, 0, 0], [0, 0, 5, 0], [-40, 0, 0, 0], [0, 0, 0, 0, 1e250]]
)
def test_a_distortion_that_no_lens_has(tmp_path, coefficients):
    cv2.imwrite(str(tmp_path / "photo.png"), disc_at(320, 240))
    hint = CameraHint(file=str(dump(tmp_path / "camera.json", PINHOLE | {"D": coefficients})))
    with pytest.raises(InputError, match=r"camera\.json: no lens has the distortion .*: correct it"):
        read_shot(tmp_path / "photo.png", hint, PlaceHint(), ["disc"])


def test_a_box_of_which_the_lens_leaves_nothing_names_the_camera(tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), disc_at(320, 240))
    hint = CameraHint(file=str(dump(tmp_path / "camera.json", PINHOLE | {"D": [-0.35, 0.12, 0, 0]})))
    corner = PlaceHint([(0, 0, 20, 15)])  # farther out without distortion
    with pytest.raises(InputError, match=r"camera\.json: nothing is left of a mask .*: undistort the photo"):
        read_shot(tmp_path / "photo.png", hint, corner, ["disc"])


@pytest.mark.parametrize("size", [{"rows": 1, "cols": 5}, {"cols": 5}, {"rows": 0, "cols": 5}])
def test_matrices_have_the_numbers_that_they_say(tmp_path, size):
    path = dump(tmp_path / "a.json", PINHOLE | {"distortion_coefficients": {"data": [0.0], **size}})
    with pytest.raises(
        InputError, match=r"a\.json: distortioncoefficients has a matrix of 1 numbers, not of"
    ):
        camera_of(Path("photo.png"), CameraHint(file=str(path)), WIDTH, HEIGHT)
