"""Pictures of refinements: boxes of the initial pose, the estimate and the truth, beside the pixels' weights.

One PNG for each pose, and a GIF that shows it step by step.
"""

import logging
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from picopose.datasets.bop.test_set import BopTestSet
from picopose.evaluation.errors import rotation_error, translation_error
from picopose.evaluation.eval_models import load_models
from picopose.evaluation.ground_truth import ImageTruth, load_ground_truth
from picopose.evaluation.photo_part import PhotoPart, part_about
from picopose.evaluation.refinements import Refinement, refinements
from picopose.model.stage import Stage, Step, Things
from picopose.pipeline.starts import DatasetStart
from picopose.pipeline.tested_set import TestedSet
from picopose.rendering.overlay import draw_bounding_box
from picopose.utils.files import make_folder, write_atomically

LOG = logging.getLogger(__name__)
INITIAL, ESTIMATE, TRUTH = (255, 255, 255), (235, 50, 50), (60, 110, 255)  # colours of the boxes
SIDE, CAPTION = 400, 26  # px
DIMMED, LAID_ON = 0.45, 0.8  # brightness of the photo below the weights; opacity of these
FIRST_MS, STEP_MS, LAST_MS = 1000, 300, 2000  # how long the parts of an animation are shown


def write_refinements(
    folder: Path,
    tested: TestedSet,
    dataset: BopTestSet,
    things: Things,
    stages: Sequence[Stage],
    start: DatasetStart,
    *,
    images: int,
) -> None:
    """Runs the stages again on the first annotated images of a data set and writes what they do to each pose.

    The files are DATASET_SCENE_IMAGE_OBJECT.png and .gif, further ones of an object in an image numbered.
    """
    make_folder(folder)
    for old in (path for suffix in ("png", "gif") for path in folder.glob(f"{tested.name}_*.{suffix}")):
        old.unlink()
    models, written = load_models(tested.dataset_dir, dataset.objects), 0
    for stage in stages:
        stage.prepare(things)
    for index, truth in islice(_annotated(tested, dataset), images):
        frame, names = dataset[index], set()
        for refinement in refinements(frame, start(frame), stages, truth, models):
            name = _free_name(
                f"{tested.name}_{truth.scene_id}_{truth.im_id}_{refinement.model.obj_id}", names
            )
            write_refinement(folder / name, refinement)
            written += 1
    if written:
        LOG.info("pictures: %s, of %d poses", folder, written)
    else:
        LOG.warning("no pictures: in these images no stage told how it refines poses; name one that does")


def _annotated(tested: TestedSet, dataset: BopTestSet) -> Iterable[tuple[int, ImageTruth]]:
    """Index and truth of those images in which a target of the data set is annotated."""
    per_object = tested.listed().per_object
    truth = load_ground_truth(tested.split_dir, tested.targets, per_object=per_object, camera=tested.camera)
    places = {(image.scene_id, image.im_id): image for image in truth.images}
    for index, place in enumerate(dataset.places):
        if np.isin(places[place].obj_id, list(dataset.objects)).any():
            yield index, places[place]


def _free_name(name: str, taken: set[str]) -> str:
    """The name, numbered where it is taken; it is taken then."""
    numbered = (name if number == 1 else f"{name}_{number}" for number in range(1, len(taken) + 2))
    free = next(name for name in numbered if name not in taken)
    taken.add(free)
    return free


def write_refinement(path: Path, refinement: Refinement) -> None:
    """PATH.png, the refinement as a whole, and PATH.gif, its steps."""
    part = _part(refinement)
    count = len(refinement.steps)
    _, content = cv2.imencode(".png", cv2.cvtColor(picture(refinement, part, count), cv2.COLOR_RGB2BGR))
    with write_atomically(path.with_suffix(".png")) as temporary:
        temporary.write_bytes(content)
    movie = [Image.fromarray(picture(refinement, part, step)) for step in range(count + 1)]
    palette = movie[-1].quantize()  # of all frames, so that what stands still does not flicker
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in movie)
    durations = [FIRST_MS, *[STEP_MS] * (count - 1), LAST_MS]
    with write_atomically(path.with_suffix(".gif")) as temporary:
        first.save(temporary, "GIF", save_all=True, append_images=others, duration=durations, loop=0)


def _part(refinement: Refinement) -> PhotoPart:
    poses = [refinement.pose(step) for step in range(len(refinement.steps) + 1)]
    poses += [] if refinement.truth is None else [refinement.truth]
    K, size = refinement.frame.K.double().numpy(), tuple(refinement.frame.rgb.shape[1:])
    return part_about(refinement.model.box_corners, poses, K, size, side=SIDE)


def picture(refinement: Refinement, part: PhotoPart, step: int) -> np.ndarray:
    """(H, W, 3) uint8: part of the photo with the boxes after so many steps, beside the last weights."""
    left, top, right, bottom = part.window
    photo = refinement.frame.rgb[:, top:bottom, left:right].permute(1, 2, 0).numpy()
    photo = cv2.resize(photo, part.size, interpolation=cv2.INTER_AREA if part.scale < 1 else cv2.INTER_CUBIC)
    weighed = _weights(photo, part, refinement.steps[step - 1] if step else None)
    boxes = [(refinement.truth, TRUTH), (refinement.initial, INITIAL), (refinement.pose(step), ESTIMATE)]
    low, high = refinement.model.vertices.min(axis=0), refinement.model.vertices.max(axis=0)
    for pose, colour in boxes[: 3 if step else 2]:
        if pose is not None and np.isfinite(pose).all():
            photo = draw_bounding_box(photo, part.K, pose, low, high, colour)
    return np.vstack([np.hstack([photo, weighed]), _caption(refinement, step, 2 * part.size[0])])


def _weights(photo: np.ndarray, part: PhotoPart, step: Step | None) -> np.ndarray:
    """The photo, grey and dimmed, with the weights of a step laid on: dark blue is 0, dark red 1."""
    grey = cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    dimmed = np.uint8(DIMMED * grey)
    if step is None:
        return dimmed
    # Both cameras stand in one place, so that a homography leads from one picture to the other.
    part_from_window = part.K @ np.linalg.inv(step.K.double().numpy())
    weight = step.weight.float().numpy()
    inside = cv2.warpPerspective(np.ones_like(weight), part_from_window, part.size)
    weight = cv2.warpPerspective(weight, part_from_window, part.size).clip(0, 1)
    colours = cv2.cvtColor(cv2.applyColorMap(np.uint8(255 * weight), cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    opacity = LAID_ON * (inside * (weight > 0))[..., None]
    return np.uint8(np.round(opacity * colours + (1 - opacity) * dimmed))


def _caption(refinement: Refinement, step: int, width: int) -> np.ndarray:
    """(CAPTION, width, 3) uint8: the step, and how far the pose is off, then and at first."""
    text = f"step {step} of {len(refinement.steps)}"
    if refinement.truth is not None:
        text += f": off by {_error(refinement, step)}; at first by {_error(refinement, 0)}"
    strip = np.full((CAPTION, width, 3), 24, np.uint8)
    place, white = (8, CAPTION - 8), (240, 240, 240)
    return cv2.putText(strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, white, 1, cv2.LINE_AA)


def _error(refinement: Refinement, step: int) -> str:
    pair = refinement.pose(step)[None], refinement.truth[None]
    angle, distance = rotation_error(*pair, refinement.model.symmetries), translation_error(*pair)
    return f"{angle[0]:.1f} degrees, {1000 * distance[0]:.0f} mm"
