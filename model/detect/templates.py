"""Templates of an object: descriptors of its views at every in-plane turn, to slide over those of a photo."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor

from picopose.model.detect.likeness import Likeness, features
from picopose.model.drawn.crops import GREY, turned
from picopose.model.object_bank import ObjectBank, tensors_digest
from picopose.model.prepared_files import PreparedFiles
from picopose.model.rendermatch.imagenet import ImageNetFeatures
from picopose.model.rendermatch.views import SIZE, cameras_about, circles, covered_cells
from picopose.model.stage import Things
from picopose.utils.geometry import transform
from picopose.utils.masks import boxes_about
from picopose.utils.records import Record

N_VIEWS, TURNS = 42, 8
CELLS = 8  # along each side of a template
BATCH = 4  # views at once, with all their turns
VERSION = 2  # raise it whenever a change of the code changes prepared templates


@dataclass(frozen=True)
class Templates(Record):
    """All views of an object at all turns: V of them, view by view."""

    cells: Tensor  # (V, D, n, n) half precision, unit descriptors; 0 where a cell does not show the object
    box: Tensor  # (V, 4) around the object, in sides of the crop
    cam_from_obj: Tensor  # (V / turns, 4, 4) float64 m, of the views
    circle: Tensor  # (V / turns, 3) float64: see `rendermatch.views.circles`


class TemplateBank(ObjectBank[Templates]):
    """Templates by object.

    Args:
        memory: bytes that the templates in memory may take.
    """

    def __init__(
        self,
        files: PreparedFiles,
        network: ImageNetFeatures,
        likeness: Likeness,
        things: Things,
        *,
        memory: float,
    ):
        weights = f"{tensors_digest(network.state_dict())} {tensors_digest(vars(likeness))}"
        super().__init__(
            *(files, things),
            what="templates",
            read=_read,
            size=lambda templates: templates.cells.nbytes,
            made_with=f"detect {VERSION} {N_VIEWS} {TURNS} {weights}",
            memory=memory,
            device=likeness.projection.device,
        )
        self._network, self._likeness = network, likeness

    @torch.inference_mode()
    def prepare(self, obj_id: int) -> Templates:
        poses = self._source.template_poses(obj_id, N_VIEWS)
        circle = circles(transform(poses, self._source.hull(obj_id)))
        K = cameras_about(circle, 2 * SIZE)
        parts = []
        for part in torch.arange(len(poses)).split(BATCH):
            drawing = self._source.draw([obj_id] * len(part), poses[part], K[part], 2 * SIZE).to(self._device)
            image = torch.cat([drawing.rgb, drawing.cover[:, None]], dim=1)
            parts.append(self._cells(turned(F.avg_pool2d(image, 2), TURNS).flatten(0, 1)))
            if self._source.progress:
                self._source.progress(int(part[-1]) + 1, len(poses))
        cells, box = (torch.cat(values) for values in zip(*parts, strict=True))
        return Templates(cells.half(), box, poses, circle)

    def _cells(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors and boxes of drawings on black, with their covers (B, 4, S, S)."""
        cover = image[:, 3:]
        shown = covered_cells(cover, CELLS)[:, None]
        maps = features(self._network, image[:, :3] + GREY * (1 - cover))
        return self._likeness.of_templates(maps) * shown, _boxes(cover[:, 0] > 0.5)


def _boxes(masks: Tensor) -> Tensor:
    """(B, 4) boxes around masks (B, S, S) bool, in their sides; the whole image for an empty mask."""
    size, there = masks.shape[-1], masks.flatten(1).any(1, keepdim=True)
    whole = torch.tensor([0, 0, size, size], device=masks.device)
    return torch.where(there, boxes_about(masks), whole) / size


def _read(path: Path) -> Templates:
    templates = Templates(**load(path.read_bytes()))  # not memory-mapped: the file may be replaced
    count, views = len(templates.cells), len(templates.circle)
    shapes = [tuple(part.shape[1:]) for part in vars(templates).values()]
    if shapes[0][1:] != (CELLS, CELLS) or shapes[1:] != [(4,), (4, 4), (3,)]:
        raise ValueError("its parts have the wrong sizes")
    if not count == len(templates.box) == TURNS * views == TURNS * len(templates.cam_from_obj):
        raise ValueError("its parts do not fit together")
    if not all(part.isfinite().all() for part in vars(templates).values()):
        raise ValueError("it has numbers that are not finite")
    return templates
