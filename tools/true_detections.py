"""Writes the annotated instances of a BOP data set as detections, as a perfect segmenter would find them.

python -m tools.true_detections DATA_SET --out FILE [--boxes]

They are what is seen of each, by `mask_visib`, in the images of the data set's targets.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pycocotools.mask import toBbox

from picopose.datasets.bop.masks import read_mask
from picopose.datasets.bop.scenes import Scene, open_scenes, tell_cameras
from picopose.datasets.bop.targets import find_targets, read_targets
from picopose.datasets.images import image_size
from picopose.datasets.layouts import bop_test_split
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import write_atomically
from tools.mini_set.bop_files import segmentation, write_json


def true_detections(data_set: Path) -> list[dict[str, Any]]:
    """The entries of BOP's detections file; in each image, what is seen best comes first.

    Of several cameras the one is taken that a run takes. Raises an `InputError` where the annotations or
    their masks are missing or damaged.
    """
    data_set = data_set.resolve()
    images = read_targets(find_targets(data_set)).images
    split_dir = data_set / bop_test_split(data_set.parent, data_set.name)
    scenes = open_scenes(split_dir, (scene_id for scene_id, _ in images))
    tell_cameras(scenes.values())
    for scene in scenes.values():
        if not (masks := scene.mask_dir(visible=True)).is_dir():
            raise InputError(f"{masks} is not there: download the annotations of the test images")
    return [entry for scene_id, im_id in images for entry in _seen(scenes[scene_id], im_id)]


def _seen(scene: Scene, im_id: int) -> Iterator[dict[str, Any]]:
    """What is seen of the instances in an image, most first: of equal scores a run takes the first."""
    width, height = image_size(scene.photo_path(im_id))
    instances = enumerate(scene.instances(im_id))
    for index, instance in sorted(instances, key=lambda pair: -pair[1].visibility):
        mask = read_mask(scene, im_id, index, (height, width), visible=True)
        if mask.any():
            code = segmentation(mask)
            image = {"scene_id": scene.scene_id, "image_id": im_id}
            found = {"category_id": instance.obj_id, "score": 1.0, "time": 0.0}
            yield image | found | {"bbox": toBbox(code).tolist(), "segmentation": code}


def boxes_alone(detections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in entry.items() if key != "segmentation"} for entry in detections]


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data_set", type=Path, help="folder in BOP's layout")
    parser.add_argument("--out", type=Path, required=True, help="file, JSON")
    parser.add_argument("--boxes", action="store_true", help="boxes alone, without masks")
    options = parser.parse_args()
    entries = true_detections(options.data_set)
    if options.boxes:
        entries = boxes_alone(entries)
    with write_atomically(options.out) as temporary:
        write_json(temporary, entries)
    print(f"written: {options.out}, {len(entries)} detections")


if __name__ == "__main__":
    main()
