"""What is prepared once per object: its rendered views and the descriptors that crops are matched to."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.matching import descriptors
from model.picopose import PicoPose
from utils.structs import Record, View


@dataclass(frozen=True)
class Templates(Record):
    """The templates of one object."""

    views: View  # (V, ...) crops of known pose
    descriptors: Tensor  # (V, n*n, C) unit length, half precision


class TemplateBank:
    """Templates by object, prepared when first asked for; the least recently used ones make room.

    Args:
        load_views: object id -> its views on the CPU.
        budget: bytes that prepared templates may take; at least one object is always kept.
    """

    def __init__(
        self,
        network: PicoPose,
        load_views: Callable[[int], View],
        *,
        device: torch.device,
        budget: float = 4e9,
        batch: int = 16,
    ):
        self._network, self._load_views = network, load_views
        self._device, self._budget, self._batch = device, budget, batch
        self._kept: OrderedDict[int, Templates] = OrderedDict()

    def __getitem__(self, obj_id: int) -> Templates:
        self.prepare(obj_id)
        return self._kept[obj_id]

    def prepare(self, obj_id: int) -> None:
        """Makes sure that an object's templates are at hand."""
        if obj_id not in self._kept:
            self._kept[obj_id] = self._compute(self._load_views(obj_id))
            while len(self._kept) > 1 and sum(map(_bytes, self._kept.values())) > self._budget:
                self._kept.popitem(last=False)
        self._kept.move_to_end(obj_id)

    @torch.inference_mode()
    def _compute(self, views: View) -> Templates:
        features = [
            descriptors(self._network.backbone(rgb.to(self._device))[-1]).half()
            for rgb in views.rgb.split(self._batch)
        ]
        return Templates(views=views.to(self._device), descriptors=torch.cat(features))


def _bytes(templates: Templates) -> int:
    sizes: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    templates.map(count)
    return sum(sizes)
