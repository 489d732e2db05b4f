"""Which device a process computes on."""

import torch

from utils.errors import InputError


def choose_device(gpus: str | None, local_rank: int = 0) -> torch.device:
    """The device of the process with this rank on its machine.

    Args:
        gpus: `cpu`, or indices such as `0,1` (process i takes the i-th); None takes a GPU if there is one.

    Raises:
        InputError: a GPU is named that is not there.
    """
    count = torch.cuda.device_count()
    if gpus == "cpu" or (gpus is None and count == 0):
        return torch.device("cpu")
    names = [str(i) for i in range(count)] if gpus is None else gpus.split(",")
    if local_rank >= len(names):
        raise InputError(f"--gpus {gpus}: process {local_rank} has no GPU; name one for each")
    name = names[local_rank].strip()
    if not name.isdecimal() or int(name) >= count:
        found = f"{count} GPUs" if count else "no GPU"
        raise InputError(f"--gpus {gpus}: this machine has {found}; name another or pass --gpus cpu")
    torch.cuda.set_device(int(name))
    return torch.device("cuda", int(name))
