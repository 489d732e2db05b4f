"""A cache of what a method prepares for each object: made when first needed, then kept on disk."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from picopose.model.prepared_files import PreparedFiles, key_of
from picopose.model.stage import Things
from picopose.utils.lru import Lru
from picopose.utils.records import Record

Prepared = TypeVar("Prepared", bound=Record)


class ObjectBank(Generic[Prepared]):
    """Prepared records by object, of which the most recently used ones stay in memory.

    Args:
        what: their name in messages, such as views.
        read: reads a record from a file, on the CPU; see `PreparedFiles.open` for its errors.
        size: of a record, in bytes.
        made_with: changes with the way records are prepared and the weights that prepare them.
        memory: bytes that the records in memory may take.
        device: where they are used.
    """

    def __init__(
        self,
        files: PreparedFiles,
        things: Things,
        *,
        what: str,
        read: Callable[[Path], Prepared],
        size: Callable[[Prepared], float],
        made_with: str,
        memory: float,
        device: torch.device,
    ):
        self._files, self._made_with, self._device = files, made_with, device
        self._source, self._title = things.drawings, things.title
        self._what, self._read, self._kept = what, read, Lru(memory, size)

    def get(self, obj_id: int) -> Prepared:
        return self._kept.get(self._key(obj_id), lambda key: self._open(key, obj_id).to(self._device))

    def _open(self, key: str, obj_id: int) -> Prepared:
        def make() -> dict[str, Tensor]:
            return vars(self.prepare(obj_id).to("cpu"))

        return self._files.open(key, self._read, make, what=f"the {self._what} of {self._title(obj_id)}")

    def forget(self, obj_id: int) -> None:
        """Drops an object from memory; the drawings must still know it."""
        gone = self._key(obj_id)
        self._kept.forget(lambda key: key == gone)
        self._files.release(gone)

    def _key(self, obj_id: int) -> str:
        return key_of(self._source.digest(obj_id), self._made_with)

    def prepare(self, obj_id: int) -> Prepared:
        """Prepares the record of an object, on any device."""
        raise NotImplementedError


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """A digest of the names and values of weights."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
