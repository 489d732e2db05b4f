"""What a training run tells: lines, a progress bar, TensorBoard, and a line of JSON for every logged step.

Only the first process speaks; the others' logs are silent.
"""

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from picopose.utils.errors import MALFORMED
from picopose.utils.files import write_atomically
from picopose.utils.reading import integer

LOG = logging.getLogger("run_train")


class TrainingLog:
    """The log of a run in its folder.

    Args:
        first_step: of this part of the run; what an earlier part logged from there on is dropped.
        steps: of the whole run; batch_size: samples per step.
    """

    def __init__(self, folder: Path, *, first_step: int, steps: int, batch_size: int, speaks: bool):
        self._batch_size, self._speaks = batch_size, speaks
        self._done, self._total = first_step * batch_size, steps * batch_size
        self._bar: tqdm | None = None
        if not speaks:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._board = SummaryWriter(str(folder), purge_step=first_step + 1)
        self._lines = _without_later(folder / "scalars.jsonl", first_step).open("a", encoding="utf-8")

    def step(self) -> None:
        """Moves the bar, which shows samples per second and the time left, by one step.

        The first step begins it: what came before, the start of all processes, says nothing of the others.
        """
        if not self._speaks:
            return
        self._done += self._batch_size
        if self._bar is None:
            self._bar = tqdm(
                total=self._total,
                initial=self._done,
                unit="sample",
                unit_scale=True,
                mininterval=5 if not sys.stderr.isatty() else 0.5,
                smoothing=0.05,
            )
        else:
            self._bar.update(self._batch_size)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Named numbers of a step; names hold their group, as in `loss/flow`."""
        if not self._speaks:
            return
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        self._lines.write(json.dumps({"step": step} | dict(values)) + "\n")
        self._lines.flush()
        if "loss/total" in values and self._bar is not None:
            self._bar.set_postfix_str(f"loss {values['loss/total']:.3f}")

    def picture(self, step: int, name: str, image: Tensor) -> None:
        """An image (3, H, W) in [0, 1]."""
        if self._speaks:
            self._board.add_image(name, image, step)

    def say(self, message: str) -> None:
        if self._speaks:
            with tqdm.external_write_mode(file=sys.stderr):
                LOG.info("%s", message)

    def __enter__(self) -> "TrainingLog":
        return self

    def __exit__(self, *_) -> None:
        if self._speaks:
            if self._bar is not None:
                self._bar.close()
            self._lines.close()
            self._board.close()


def _without_later(path: Path, step: int) -> Path:
    """The file of logged lines, cut after a step: a run that is taken up again logs the later ones anew."""
    if path.is_file():
        lines = path.read_bytes().splitlines()
        steps = [_step(line) for line in lines]
        if None in steps[:-1]:  # of the last line a run that was killed may have written a part
            LOG.warning("%s: %d damaged lines are left out", path, steps[:-1].count(None))
        kept = [line for line, own in zip(lines, steps, strict=True) if own is not None and own <= step]
        with write_atomically(path) as temporary:
            temporary.write_bytes(b"".join(line + b"\n" for line in kept))
    return path


def _step(line: bytes) -> int | None:
    """The step of a logged line; None if it is damaged."""
    try:
        return integer(json.loads(line.decode())["step"], "step")
    except MALFORMED:
        return None
