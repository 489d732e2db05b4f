"""The checkpoints of a training run: written atomically, the last few and the best kept.

A checkpoint holds the weights under `model`, and what a run needs to go on as if it had not ended. It is
written by a thread, from a copy, while the run goes on.
"""

import math
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from picopose.model.checkpoint import read_checkpoint
from picopose.utils.errors import InputError
from picopose.utils.files import write_atomically

_NAME = re.compile(r"step_(\d+)\.pt")
NEEDED = {"model": dict, "optimizer": dict, "step": int, "best": float, "config": str}


class Snapshots:
    """The checkpoints in a folder, of which the `keep` newest stay, and `best.pt`.

    At the end of a `with` block all are written.
    """

    def __init__(self, folder: Path, *, keep: int):
        self.folder, self._keep = folder, keep
        self._writer, self._writing = ThreadPoolExecutor(max_workers=1), None

    def save(self, content: dict[str, Any]) -> None:
        """Begins to write the checkpoint of `content["step"]`, and then to remove the oldest ones.

        Raises:
            InputError: the one before could not be written.
        """
        self._begin(self._save, content)

    def save_best(self, content: dict[str, Any]) -> None:
        """Begins to write `best.pt`; raises as `save` does."""
        self._begin(partial(self._write, "best.pt"), content)

    def finish(self) -> None:
        """Waits until the last checkpoint is written; an `InputError` if it could not be."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def check(self) -> None:
        """Raises an `InputError` if the last checkpoint turned out not to be writable."""
        if self._writing is not None and self._writing.done():
            self.finish()

    def __enter__(self) -> "Snapshots":
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        if kind is None:
            self.finish()
        elif self._writing is not None:
            wait([self._writing])  # what ended the block is what is told

    def _begin(self, write: Callable[[dict], None], content: dict[str, Any]) -> None:
        self.finish()
        self._writing = self._writer.submit(write, _copied(content))

    def _save(self, content: dict[str, Any]) -> None:
        self._write(f"step_{content['step']:08d}.pt", content)
        for old in self._by_age()[: -self._keep]:
            old.unlink()

    def refuse_to_begin(self) -> None:
        """Raises an `InputError` where another run's checkpoints lie, which a new one would mix with."""
        if files := self._by_age():
            raise InputError(
                f"{files[-1]} is of an earlier run: go on from the last checkpoint, or begin a new run with "
                "another version_id"
            )

    def set_aside_later(self, step: int) -> None:
        """Moves the checkpoints of later steps to `old`: a run that goes on from this one writes its own."""
        for path in self._by_age():
            if int(_NAME.fullmatch(path.name)[1]) > step:
                (self.folder / "old").mkdir(exist_ok=True)
                path.replace(self.folder / "old" / path.name)

    def find(self, name: str) -> Path:
        """The file of `last`, the newest checkpoint here, or of a path.

        Raises:
            InputError: there is none.
        """
        if name != "last":
            return Path(name)
        if not (files := self._by_age()):
            raise InputError(f"no checkpoint in {self.folder}, so there is no last one: begin anew")
        return files[-1]

    def _write(self, name: str, content: dict[str, Any]) -> None:
        with write_atomically(self.folder / name) as temporary:
            torch.save(content, temporary)

    def _by_age(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step_*.pt") if _NAME.fullmatch(path.name))


def _copied(content: Any) -> Any:
    """The content of a checkpoint, in the host's memory, where no later step changes it."""
    if isinstance(content, dict):
        return {key: _copied(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(map(_copied, content))
    return content.detach().to("cpu", copy=True) if isinstance(content, Tensor) else content


def read_snapshot(path: Path) -> dict[str, Any]:
    """The content of a checkpoint to go on from.

    Raises:
        InputError: the file cannot be read, or holds weights alone.
    """
    content = read_checkpoint(path)
    if missing := [key for key, kind in NEEDED.items() if not isinstance(content.get(key), kind)]:
        raise InputError(
            f"{path}: holds no {missing[0]} to go on from; pass checkpoint={path} to start from it"
        )
    if content["step"] < 0 or math.isnan(content["best"]):
        numbers = f"step {content['step']} and best {content['best']}"
        raise InputError(f"{path}: has {numbers}, which cannot be; pass another checkpoint")
    return content
