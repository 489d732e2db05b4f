"""Finds an object of your own in a photo of your own: one mesh, one photo, a box or mask -> pose and overlay.

python run_demo.py --mesh mug.ply --image photo.jpg --camera 605.9,605.0,319.0,249.7 --box 384 234 522 455
"""

import argparse
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from model.factory import make_stage, prepare_network
from rendering.mesh import Mesh, diameter, load_mesh
from rendering.mesh_digest import content_digest
from rendering.overlay import draw_axes, draw_outline
from rendering.render_templates import render_templates_of
from rendering.renderer import Renderer
from utils.cameras import camera_matrix, check_camera
from utils.config import load_config
from utils.crop import crop_views
from utils.device import choose_device
from utils.errors import InputError, exits_cleanly
from utils.files import read_json, write_atomically
from utils.images import read_image, read_pixels
from utils.stopwatch import Stopwatch
from utils.structs import Observation, Poses, View

LOG = logging.getLogger("run_demo")
CHUNK = 8  # whole templates cropped at a time


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mesh", required=True, type=Path, help="PLY, OBJ, GLB or STL")
    parser.add_argument("--image", required=True, type=Path, help="photo")
    parser.add_argument(
        "--camera", required=True, help="fx,fy,cx,cy in px, or a JSON file with cam_K or these names"
    )
    parser.add_argument("--unit", choices=["auto", "mm", "m"], default="auto", help="of the mesh")
    parser.add_argument(
        "--box",
        nargs=4,
        type=float,
        action="append",
        metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"),
        help="where the object is, px; once for each instance",
    )
    parser.add_argument(
        "--mask", type=Path, action="append", help="image, not 0 on the object; once per instance"
    )
    parser.add_argument("--config", default="config/base.yaml")
    parser.add_argument("--checkpoint_path", help="weights")
    parser.add_argument("--gpus", help="index of the GPU, or cpu")
    parser.add_argument(
        "--out", type=Path, default=Path("output"), help="folder for pose.json and overlay.png"
    )
    parser.add_argument("--profile", action="store_true", help="tell the seconds that each phase takes")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="entries of the config")
    return parser.parse_intermixed_args()


@exits_cleanly
def main() -> None:
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = load_config(arguments.config, arguments.overrides, {"checkpoint": arguments.checkpoint_path})
    make_folder(arguments.out)
    observation = observe(arguments)
    mesh = load_mesh(
        arguments.mesh, unit=unit_of(arguments.mesh) if arguments.unit == "auto" else arguments.unit
    )
    network = prepare_network(config.model, config.checkpoint).to(choose_device(arguments.gpus))
    with Renderer() as renderer:
        source = MeshTemplates(renderer, mesh, config.test.views, network.size)
        stopwatch = Stopwatch(running=arguments.profile)
        stage = make_stage(network, source, config, stopwatch)
        with stopwatch("prepare the object"):
            stage.onboard(observation.obj_ids.unique().tolist())
        poses = stage.predict(observation).to("cpu")
        picture = draw(renderer, mesh, observation, poses)
    write(arguments.out, picture, poses)
    if arguments.profile:
        LOG.info("%s", stopwatch.table())


def make_folder(folder: Path) -> None:
    """Makes the folder of the results now, not after the work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be made ({error.strerror}); name another folder") from None


def observe(arguments: argparse.Namespace) -> Observation:
    """The photo with its camera and the places to look at."""
    image = read_image(arguments.image)
    height, width = image.shape[1:]
    K = read_camera(arguments.camera)
    check_camera(K, width, height, f"--camera {arguments.camera}")
    masks = [read_mask(path, height, width) for path in arguments.mask or []]
    masks += [box_mask(box, height, width) for box in arguments.box or []]
    if not masks:
        raise InputError("no --box and no --mask: say where in the photo the object is")
    return Observation(
        image=image,
        K=K,
        obj_ids=torch.zeros(len(masks), dtype=torch.long),
        masks=torch.stack(masks),
        boxes=torch.zeros(len(masks), 4),
        scores=torch.ones(len(masks)),
        scene_id=0,
        im_id=0,
        seconds=0.0,
    )


def read_camera(given: str) -> Tensor:
    """K (3, 3) of `fx,fy,cx,cy` or of a JSON file."""
    where = f"--camera {given}"
    if not given.endswith(".json"):
        values = given.split(",")
    else:
        content = read_json(Path(given), remedy="write cam_K or fx, fy, cx, cy into it")
        if isinstance(content, dict) and "cam_K" in content:
            return camera_matrix(content["cam_K"], where)
        values = [content.get(key) for key in ("fx", "fy", "cx", "cy")] if isinstance(content, dict) else []
    try:
        fx, fy, cx, cy = map(float, values)
    except (TypeError, ValueError):
        raise InputError(
            f"{where}: give four numbers fx,fy,cx,cy or a JSON file with them or cam_K"
        ) from None
    return camera_matrix([fx, 0, cx, 0, fy, cy, 0, 0, 1], where)


def read_mask(path: Path, height: int, width: int) -> Tensor:
    pixels = read_pixels(path)
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    has_alpha = pixels.shape[-1] in (2, 4)
    # Of a cut-out the alpha channel is the mask, unless it says nothing.
    cut_out = has_alpha and pixels[..., -1].min() != pixels[..., -1].max()
    colours = pixels[..., -1:] if cut_out else pixels[..., : pixels.shape[-1] - has_alpha]
    mask = torch.from_numpy(colours.max(axis=-1).astype(np.int32))
    if mask.shape != (height, width):
        size = f"{mask.shape[1]}x{mask.shape[0]}"
        raise InputError(
            f"--mask {path}: {size} px for a photo of {width}x{height} px; give one of the same size"
        )
    if not mask.any():
        raise InputError(f"--mask {path}: empty; it must be other than 0 on the object")
    return mask > 0


def box_mask(box: list[float], height: int, width: int) -> Tensor:
    if not all(map(math.isfinite, box)):
        raise InputError(
            f"--box {' '.join(map(str, box))}: not four numbers; give left top right bottom in px"
        )
    left, top, right, bottom = (round(value) for value in box)
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    if not mask.any():
        raise InputError(f"--box {left} {top} {right} {bottom}: not within {width}x{height} px; give l t r b")
    return mask


def unit_of(path: Path) -> str:
    """Guesses a mesh's unit, and says so: whatever is up to 5 units across is taken for metres."""
    try:
        size, unit = diameter(load_mesh(path, unit="mm").vertices), "mm"
    except InputError:
        size, unit = 0.0, "m"
    if size < 0.005:
        size, unit = diameter(load_mesh(path, unit="m").vertices), "m"
    LOG.info("%s is %.3g m across if its unit is %s; if not, pass --unit", path, size, unit)
    return unit


class MeshTemplates:
    """The templates of one mesh, whatever its id, as `model.template_store` asks for them."""

    def __init__(self, renderer: Renderer, mesh: Mesh, n_views: int, size: int):
        self._renderer, self._mesh, self._n_views, self._size = renderer, mesh, n_views, size

    def digest(self, obj_id: int) -> str:
        return content_digest(self._mesh, self._n_views)

    def views(self, obj_id: int) -> Iterator[View]:
        """Renders the templates and cuts them out, a few at a time."""
        templates = render_templates_of(self._renderer, self._mesh, self._n_views)
        K = torch.from_numpy(templates.K).float()
        for part in np.array_split(np.arange(self._n_views), -(-self._n_views // CHUNK)):
            depth = torch.from_numpy(templates.depth[part])
            rgb = torch.from_numpy(templates.rgb[part]).permute(0, 3, 1, 2) / 255
            poses = torch.from_numpy(templates.cam_from_obj[part]).float()
            yield crop_views(rgb, depth, depth > 0, K.expand(len(part), 3, 3), poses, self._size)


def draw(renderer: Renderer, mesh: Mesh, observation: Observation, poses: Poses) -> np.ndarray:
    """The photo with the outline and the axes of every pose."""
    picture, K = observation.image.permute(1, 2, 0).numpy(), observation.K.double().numpy()
    height, width = picture.shape[:2]
    for pose in poses.cam_from_obj.double().numpy():
        mask = renderer.render_depth(mesh, pose, K, width, height) > 0
        picture = draw_axes(draw_outline(picture, mask), K, pose, diameter(mesh.vertices) / 2)
    return picture


def write(folder: Path, picture: np.ndarray, poses: Poses) -> None:
    found = [
        {"cam_from_obj": pose.tolist(), "score": score.item(), "inlier_ratio": ratio.item()}
        for pose, score, ratio in zip(poses.cam_from_obj, poses.score, poses.inlier_ratio, strict=True)
    ]
    with write_atomically(folder / "pose.json") as temporary:
        temporary.write_text(json.dumps({"unit": "m", "poses": found}, indent=1), encoding="utf-8")
    with write_atomically(folder / "overlay.png") as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    for pose in found:
        x, y, z = (row[3] for row in pose["cam_from_obj"][:3])
        LOG.info("at %.3f %.3f %.3f m, %.0f %% of the matches agree", x, y, z, 100 * pose["inlier_ratio"])
    LOG.info("%s, %s", folder / "pose.json", folder / "overlay.png")


if __name__ == "__main__":
    main()
