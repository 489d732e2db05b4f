"""Steps whose loss or gradient is not finite: all processes skip them together, and too many end the run.

The device leaves them out by itself; the processes hear of it while the next step is under way.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from picopose.utils.distributed import summed, world_size
from picopose.utils.errors import InputError
from picopose.utils.records import Record

WINDOW = 100  # steps
NAMED = 4  # samples in a message


def in_any(flag: Tensor) -> Tensor:
    """A truth value as every process sees it: whether it is true in any of them."""
    return summed(flag.float()) > 0


def step_unless(bad: Tensor, optimizer: Optimizer) -> None:
    """A step of the optimizer, left out if it is bad.

    PyTorch's fused optimizers have the device decide, where others have to wait for its answer.
    """
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer.found_inf = bad.float()  # as `torch.amp.GradScaler` tells them
        optimizer.step()
    elif not bad:
        optimizer.step()


class Buffers:
    """A network's buffers before a step, of which batch norm's change in a forward pass.

    They are handled as one tensor of each type: a GPU is slower to start than to copy them.
    """

    def __init__(self, network: nn.Module):
        by_type = defaultdict(list)
        for buffer in network.buffers():
            by_type[buffer.dtype].append(buffer)
        self._before = [(buffers, _joined(buffers)) for buffers in by_type.values()]

    @torch.no_grad()
    def restore_if(self, bad: Tensor) -> None:
        """Sets them back to what they were where `bad` is true."""
        for buffers, before in self._before:
            chosen = torch.where(bad, before, _joined(buffers)).split([buffer.numel() for buffer in buffers])
            parts = [part.view_as(buffer) for part, buffer in zip(chosen, buffers, strict=True)]
            torch._foreach_copy_(buffers, parts)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


class Health:
    """Counts skipped steps; too many of the last ones end the run with an error that names the samples.

    Args:
        limit: skipped steps among the last `WINDOW` that end the run.
    """

    def __init__(self, *, limit: int):
        self.skipped = 0
        self._limit, self._recent = limit, deque(maxlen=WINDOW)

    def keep(self) -> None:
        self._recent.append(False)

    def skip(self, batch: Record, indices: Sequence[int], name: Callable[[int], str]) -> str:
        """Notes a skipped step and returns the names of the samples that may have caused it.

        Raises:
            InputError: it is one too many.
        """
        self.skipped += 1
        self._recent.append(True)
        suspects = _everywhere([name(index) for index in _suspects(batch, indices)], name, indices)
        if sum(self._recent) >= self._limit:
            raise InputError(
                f"{sum(self._recent)} of the last {len(self._recent)} steps had a loss or gradient that is "
                f"not finite, the last with {suspects}: look at that sample, or lower train.lr"
            )
        return suspects


def _suspects(batch: Record, indices: Sequence[int]) -> list[int]:
    """The samples that hold numbers that are not finite."""
    bad = torch.zeros(len(indices), dtype=torch.bool)

    def look(tensor: Tensor) -> Tensor:
        finite = torch.isfinite(tensor) if tensor.is_floating_point() else torch.ones_like(tensor)
        bad.logical_or_(~finite.flatten(1).all(dim=1).cpu())
        return tensor

    batch.map(look)
    return [index for index, is_bad in zip(indices, bad.tolist(), strict=True) if is_bad]


def _everywhere(names: list[str], name: Callable[[int], str], indices: Sequence[int]) -> str:
    """The suspects of all processes; where there are none, any sample of the step may be the one."""
    found = [names]
    if world_size() > 1:
        found = [[] for _ in range(world_size())]
        dist.all_gather_object(found, names)
    suspects = [suspect for part in found for suspect in part]
    if not suspects:
        return f"one of the samples from {name(indices[0])} on"
    more = f" and {len(suspects) - NAMED} more" if len(suspects) > NAMED else ""
    return ", ".join(suspects[:NAMED]) + more
