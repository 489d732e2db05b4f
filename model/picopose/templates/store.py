"""The backbone's maps of an object's templates, computed once and cached on disk in half precision.

There is one safetensors file per object, named by a digest of all it depends on; views are read singly.
"""

import hashlib
from functools import partial
from pathlib import Path

import timm
import torch
from safetensors import safe_open
from torch import Tensor

from picopose.model.batches import Batches
from picopose.model.picopose.network import PicoPose
from picopose.model.prepared_files import PreparedFiles, key_of
from picopose.model.stage import Things
from picopose.utils.records import Record, View

MAPS = ("map0", "map1", "map2")  # of the backbone, shallow to deep
VIEW = ("rgb", "mask", "K", "depth", "cam_from_obj")
VERSION = 1  # raise this whenever the content of prepared files changes


class FeatureFile:
    """The templates of one object in an open file; maps and views are read on demand."""

    def __init__(self, path: Path):
        self._file = safe_open(path, framework="pt")
        self._slices = {name: self._file.get_slice(name) for name in (*MAPS, *VIEW)}
        (self.count,) = {part.get_shape()[0] for part in self._slices.values()}
        self._check()

    def _check(self) -> None:
        """Raises a ValueError if types or shapes are not those that are written."""
        kinds = {name: (part.get_dtype(), *part.get_shape()[1:]) for name, part in self._slices.items()}
        _, size, _ = kinds["mask"]
        written = {"rgb": ("U8", 3, size, size), "mask": ("U8", size, size), "K": ("F32", 3, 3)}
        written |= {"depth": ("F32", size, size), "cam_from_obj": ("F32", 4, 4)}
        if any(kinds[name] != written[name] for name in VIEW):
            raise ValueError("its views have the wrong type or shape")
        if any(len(kinds[name]) != 4 or kinds[name][0] != "F16" for name in MAPS):
            raise ValueError("its maps have the wrong type or shape")
        if not all(self._file.get_tensor(name).isfinite().all() for name in ("K", "cam_from_obj")):
            raise ValueError("its cameras or poses are not finite")

    def last_maps(self) -> Tensor:
        """(V, C, n, n) half: the maps by which templates are matched."""
        return self._file.get_tensor(MAPS[-1])

    def maps(self, view: int) -> tuple[Tensor, ...]:
        """The backbone's maps (C_i, s_i, s_i) of one view, half precision."""
        return tuple(self._slices[name][view] for name in MAPS)

    def view(self, view: int) -> View:
        """One view, unbatched; its colours were rounded to 8 bits."""
        parts = {name: self._slices[name][view] for name in VIEW}
        return View(**parts | {"rgb": parts["rgb"] / 255, "mask": parts["mask"] > 0})


class FeatureStore:
    """Prepared templates on disk; missing or damaged files are computed and written.

    Args:
        batch: views per forward pass of the backbone; bf16: whether it computes in bfloat16.
    """

    def __init__(
        self,
        files: PreparedFiles,
        network: PicoPose,
        things: Things,
        *,
        batch: int = 16,
        bf16: bool = False,
    ):
        self._files, self._network = files, network
        self._source, self._title = things.templates, things.title
        self._batches, self._bf16 = Batches(batch), bf16
        self._made_with = f"{digest_of(network)} {bf16}"

    def open(self, obj_id: int) -> FeatureFile:
        make, what = partial(self._make, obj_id), f"the templates of {self._title(obj_id)}"
        return self._files.open(self._key(obj_id), FeatureFile, make, what=what)

    def release(self, obj_id: int) -> None:
        """Marks an object's templates as no longer in use."""
        self._files.release(self._key(obj_id))

    def _key(self, obj_id: int) -> str:
        return key_of(self._source.digest(obj_id), self._made_with)

    def _make(self, obj_id: int) -> dict[str, Tensor]:
        parts = [part for views in self._source.views(obj_id) for part in self._compute_all(views)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _compute_all(self, views: View) -> list[dict[str, Tensor]]:
        return self._batches.run(lambda part: self._compute(views[part]), len(views.rgb))

    @torch.inference_mode()
    def _compute(self, views: View) -> dict[str, Tensor]:
        device = next(self._network.parameters()).device
        maps = self._network.features(views.rgb.to(device), bf16=self._bf16)
        maps = [m.half().cpu().contiguous() for m in maps]
        stored = vars(views) | {"rgb": (views.rgb * 255).round().byte(), "mask": views.mask.byte()}
        return dict(zip(MAPS, maps, strict=True)) | {name: stored[name] for name in VIEW}


def digest_of(network: PicoPose) -> str:
    """Digest of `VERSION` and the backbone's weights, on which prepared templates depend."""
    digest = hashlib.sha256(f"{VERSION} {network.size} {timm.__version__}".encode())
    for name, tensor in network.backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def bytes_of(record: Record) -> int:
    """Memory that the tensors of a record take."""
    sizes: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    record.map(count)
    return sum(sizes)
