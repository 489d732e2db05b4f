"""Finds your own objects in your own photos: meshes, photos, boxes or masks -> poses and pictures.

python run_demo.py --mesh mug.ply --image photo.jpg --camera camera.json --box 384 234 522 455 --out output
python run_demo.py --mesh mug.ply --video clip.mp4 --camera camera.json --box 384 234 522 455 --out output
python run_demo.py --model dualposenet --image rgb.png --depth depth.png --camera camera.json --mask mug.png \
    --category mug --out output
python run_demo.py --serve
"""

import argparse
import logging
from pathlib import Path

from picopose.utils.errors import exits_cleanly
from picopose.utils.loading import loading


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Finds your own objects in your own photos.")
    parser.add_argument("--mesh", type=Path, nargs="+", help="PLY, OBJ, glTF, STL or OFF files")
    parser.add_argument("--image", type=Path, nargs="+", help="photos, folders of them, or videos")
    parser.add_argument(
        "--video",
        metavar="FILE|FOLDER|CAMERA",
        help="follow the objects through a video, a folder of frames, or what a camera (its number) or a "
        "stream (its address) shows; boxes, masks and detections are those of the first frame",
    )
    parser.add_argument("--model", help="method (default: the config's); dualposenet finds categories")
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument("--camera", help="fx,fy,cx,cy in px, or a file: JSON, YAML or text")
    camera.add_argument("--K", nargs=4, metavar=("FX", "FY", "CX", "CY"), help="px")
    camera.add_argument("--fov", type=float, metavar="DEG", help="horizontal angle of view")
    box = ("LEFT", "TOP", "RIGHT", "BOTTOM")
    places = parser.add_argument_group(
        "where the objects are; without any, known objects are searched for, categories are not"
    )
    in_order = {"action": "append", "dest": "places"}
    places.add_argument(
        "--box", nargs=4, type=float, metavar=box, help="px; once for each instance", **in_order
    )
    places.add_argument(
        "--mask", type=Path, help="image, not 0 on the object; once for each instance", **in_order
    )
    places.add_argument(
        "--detections", type=Path, metavar="JSON", help="of BOP, COCO or MegaPose, or COCO annotations"
    )
    places.add_argument("--min_score", type=float, default=0.0, help="lowest score of detections to use")
    add_categories(parser)
    parser.add_argument("--unit", choices=["auto", "m", "cm", "mm"], nargs="+", help="of each mesh")
    parser.add_argument(
        "--symmetry",
        nargs="+",
        help="of each mesh: z (turns freely), z4 (quarter turns), none ...; or models_info.json beside it",
    )
    parser.add_argument(
        "--checkpoint_path",
        type=Path,
        help="weights of a network: a file, or a name as in picopose download (default: the default method)",
    )
    parser.add_argument(
        "--config", help="YAML file (default: config/default.yaml, or the configuration in the weights)"
    )
    parser.add_argument("--gpus", help="index of the GPU, or cpu")
    parser.add_argument("--out", type=Path, default=Path("output"), help="folder for poses and pictures")
    parser.add_argument("--profile", action="store_true", help="print the time per phase")
    page = parser.add_argument_group("a web page instead of files")
    page.add_argument("--serve", action="store_true", help="serve a page that asks for what the method needs")
    page.add_argument(
        "--host", default="127.0.0.1", help="address to serve at; one other than this lets other computers in"
    )
    page.add_argument("--port", type=int, default=7860)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="entries of the config")
    arguments = parser.parse_intermixed_args()
    for name in ("image", "mesh", "depth", "category"):
        given, swallowed = without_overrides(getattr(arguments, name))
        setattr(arguments, name, given)
        arguments.overrides += swallowed
    if arguments.model:
        arguments.overrides.append(f"method={arguments.model}")
    known = arguments.mesh or arguments.depth or arguments.model or arguments.config
    if arguments.image and arguments.video:
        parser.error("pass --image or --video, not both")
    if not arguments.serve and not ((arguments.image or arguments.video) and known):
        parser.error(
            "pass --image or --video with --mesh, or --image with --model dualposenet and --depth; or --serve"
        )
    return arguments


def add_categories(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("for a method of categories, instead of meshes")
    group.add_argument(
        "--depth",
        type=Path,
        nargs="+",
        help="depth of each photo, registered to it: 16-bit PNG, TIFF or .npy, or folders of them",
    )
    group.add_argument(
        "--depth_unit",
        default="auto",
        metavar="UNIT",
        help="m, cm, mm, or values per metre, such as 5000 (default: mm for integers, m for floats)",
    )
    group.add_argument(
        "--category",
        nargs="+",
        metavar="NAME",
        help="bottle, bowl, camera, can, laptop or mug: one for each mask or box, in order, or one for all",
    )


def without_overrides(given: list[Path | str] | None) -> tuple[list[Path | str] | None, list[str]]:
    """Splits an option's values from the key=value overrides after them, which the parser took for values."""
    overrides = [value for value in given or () if "=" in str(value) and not Path(value).exists()]
    return given and [value for value in given if value not in overrides], [str(value) for value in overrides]


@exits_cleanly
def main() -> None:
    arguments = parse_arguments()
    with loading():
        from picopose.demo.command import run, serve
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.serve:
        serve(arguments)
    else:
        run(arguments)


if __name__ == "__main__":
    main()
