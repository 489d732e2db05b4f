"""The templates of the objects in use: descriptors of all, and what the network reads of the chosen ones.

Both stay on the device in half precision while there is room, and are otherwise read from disk.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from picopose.model.picopose.matching import descriptors
from picopose.model.picopose.network import PicoPose, Template
from picopose.model.picopose.templates.store import FeatureFile, FeatureStore, bytes_of
from picopose.model.prepared_files import GIGABYTE
from picopose.utils.lru import Lru
from picopose.utils.records import Record


@dataclass(frozen=True)
class _Object(Record):
    """A loaded object."""

    file: FeatureFile
    descriptors: Tensor  # (V, n*n, C) unit length, half precision


class FeatureBank:
    """Templates by object and view, prepared on first use; the least recently used are dropped.

    Args:
        memory: limit of the templates on the device, bytes.
        dense: whether to prepare what flow reads.
    """

    def __init__(
        self, network: PicoPose, store: FeatureStore, *, memory: float = 4 * GIGABYTE, dense: bool = True
    ):
        self._network, self._store, self._dense = network, store, dense
        self._device = next(network.parameters()).device
        self._kept = Lru(memory, bytes_of)  # objects by (id,), templates by (id, view)

    def descriptors(self, obj_id: int) -> Tensor:
        """Descriptors of all templates of an object: (V, n*n, C) unit length, half precision."""
        return self._object(obj_id).descriptors

    @torch.inference_mode()
    def templates(self, obj_ids: list[int], views: list[int]) -> Template:
        """The templates with these indices, on the device, in single precision."""
        keys = list(zip(obj_ids, views, strict=True))
        missing = [key for key in dict.fromkeys(keys) if key not in self._kept]
        made = dict(zip(missing, self._make(missing), strict=True)) if missing else {}
        found = [self._kept.get(key, lambda key: made.get(key) or self._make([key])[0]) for key in keys]
        return Template.stack(found).map(_single)

    def forget(self, obj_id: int) -> None:
        """Drops an object from memory; call it while the source still knows the object."""
        self._kept.forget(lambda key: key[0] == obj_id)
        self._store.release(obj_id)

    def _object(self, obj_id: int) -> _Object:
        return self._kept.get((obj_id,), self._load)

    @torch.inference_mode()
    def _load(self, key: tuple[int]) -> _Object:
        file = self._store.open(*key)
        rows = [descriptors(maps.to(self._device).float()).half() for maps in file.last_maps().split(16)]
        return _Object(file, torch.cat(rows))

    def _make(self, keys: list[tuple[int, int]]) -> list[Template]:
        """Templates, unbatched, in half precision but for their depth and camera."""
        files = [self._object(obj_id).file for obj_id, _ in keys]
        views = [file.view(view).to(self._device) for file, (_, view) in zip(files, keys, strict=True)]
        maps = [file.maps(view) for file, (_, view) in zip(files, keys, strict=True)]
        stacked = [torch.stack(parts).to(self._device).float() for parts in zip(*maps, strict=True)]
        rows = descriptors(stacked[-1]).half()
        dense = self._network.template_maps(stacked).map(Tensor.half) if self._dense else None
        return [
            # Copies: a slice would keep the whole tensor in memory.
            Template(view, row, dense[i].map(Tensor.clone) if dense else None)
            for i, (view, row) in enumerate(zip(views, rows.unbind(), strict=True))
        ]


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
