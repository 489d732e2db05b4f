"""The device that a process computes on: its choice, its precision, and copies that nothing waits for."""

import ctypes
from typing import TypeVar

import torch
from torch import Tensor

from picopose.utils.egl import draw_on
from picopose.utils.errors import InputError
from picopose.utils.records import Record

# Of glibc's malloc.h: parameters of mallopt, and the largest value that it takes.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
LARGEST = 2**31 - 1
GROWTH = 2**28  # bytes

AMPERE = (8, 0)  # compute capability of the first of NVIDIA's cards with bfloat16
BFLOAT16 = ("avx512_bf16", "bf16")  # what PyTorch calls the instructions for it of x86 and of ARM

R = TypeVar("R", bound=Record)


def choose_device(gpus: str | None, local_rank: int = 0) -> torch.device:
    """The device of the process with this rank on its machine; if that is the CPU, malloc is tuned for it.

    If it is a GPU, the process and those it starts draw on it too.

    Args:
        gpus: `cpu`, or indices such as `0,1` (process i takes the i-th); None takes a GPU if there is one.

    Raises:
        InputError: a named GPU does not exist.
    """
    count = torch.cuda.device_count()
    if gpus == "cpu" or (gpus is None and count == 0):
        keep_freed_memory()
        return torch.device("cpu")
    names = [str(i) for i in range(count)] if gpus is None else gpus.split(",")
    if local_rank >= len(names):
        raise InputError(f"gpus {','.join(names)}: process {local_rank} has no GPU; name one for each")
    name = names[local_rank].strip()
    if not name.isdecimal() or int(name) >= count:
        found = f"{count} GPUs" if count else "no GPU"
        raise InputError(f"gpus {gpus}: this machine has {found}; name another, or cpu")
    set_precision(exact=False)
    torch.cuda.set_device(int(name))
    draw_on(int(name))
    return torch.device("cuda", int(name))


def set_precision(*, exact: bool) -> None:
    """How GPUs compute in single precision: convolutions by TF32, ten bits of it, unless `exact`.

    Products of matrices never are, nor by parts in less: positions would be off by half a pixel.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cudnn.allow_tf32 = not exact


def use_bf16(wanted: bool | None, device: torch.device) -> bool:
    """Whether to compute in bfloat16 where that is wanted; None: on GPUs.

    Never where it would only be emulated, slowly: on NVIDIA's before Ampere and on CPUs without instructions
    for it, where a training step takes twenty times as long as in single precision.
    """
    if device.type != "cuda":
        able = torch.cpu.get_capabilities()
        return bool(wanted) and any(able.get(name, False) for name in BFLOAT16)
    return wanted is not False and torch.cuda.get_device_capability(device) >= AMPERE


def keep_freed_memory() -> bool:
    """Makes malloc keep freed memory for the next large tensors; returns whether that worked (glibc only).

    By default glibc returns large blocks to the system at once and gets zeroed pages for the next layer,
    which took a fifth of the time per pose on two cores.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    settings = ((MMAP_THRESHOLD, LARGEST), (TRIM_THRESHOLD, LARGEST), (TOP_PAD, GROWTH))
    return all([mallopt(parameter, value) for parameter, value in settings])


def send(record: R, device: torch.device) -> R:
    """A record of the host on a device; the copy to a GPU goes on while others begin."""
    pinned = record.pin_memory() if device.type == "cuda" else record  # else the copy would be waited for
    return pinned.to(device, non_blocking=True)


class Awaited:
    """A tensor whose copy to the host begins now; who asks for its numbers waits, and for it alone."""

    def __init__(self, tensor: Tensor):
        self._copy = tensor.detach().to("cpu", non_blocking=True)
        self._copied = torch.cuda.Event() if tensor.is_cuda else None
        if self._copied is not None:
            self._copied.record()

    def tolist(self) -> list:
        if self._copied is not None:
            self._copied.synchronize()
        return self._copy.tolist()
