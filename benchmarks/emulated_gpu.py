"""A GPU that is not there: code runs as if on CUDA, on a CPU, and what it would ask of the card is counted.

    with EmulatedGpu() as gpu:
        solve_pnp(matches.to("cuda"), K.to("cuda"))
    print(gpu.asked)  # kernels, synchronisations and copies from the host

Tensors of the emulated GPU say that they are on "cuda:0", so that code takes its branches for CUDA; they
refuse to be mixed with those of the host, as real ones do. Values are right, times mean nothing. Autocast to
CUDA does nothing, and what `torch.cuda` tells of cards is still that there is none.
"""

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from unittest.mock import patch

import torch
from torch import Tensor
from torch._C import DispatchKey, _dispatch_has_kernel_for_dispatch_key
from torch.autograd.graph import _engine_run_backward
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda:0")
# PyTorch without a card refuses tensors on "cuda", but not on "meta", which has no data of its own.
STAND_IN = torch.device("meta")
HOST = torch.device("cpu")
COMPOUND = DispatchKey.CompositeImplicitAutograd

# Operators without a kernel, beside views.
FREE = {"detach", "alias", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty", "set_"}
FREE |= {"new_empty_strided", "_unsafe_view", "_reshape_alias", "resize_", "is_pinned"}
# Operators that wait for the card: the host needs a value, or the size of the result.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"}
WAITING |= {"equal", "bincount", "_linalg_check_errors", "_linalg_svd", "_linalg_eigh"}
AT_ONCE = "torch.utils._foreach_utils", "torch.optim.optimizer"
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


@dataclass
class Asked:
    """What a card was asked for, by operator."""

    # Operators, each once: sorting and solving, of several kernels, count as one too.
    kernels: Counter[str] = field(default_factory=Counter)
    synchronisations: Counter[str] = field(default_factory=Counter)  # the host waits for the card
    copies: Counter[str] = field(default_factory=Counter)  # blocking ones from the host

    def __str__(self) -> str:
        counts = self.kernels, self.synchronisations, self.copies
        names = "kernels", "synchronisations", "copies"
        return ", ".join(f"{count.total()} {name}" for count, name in zip(counts, names, strict=True))


class GpuTensor(Tensor):
    """A tensor of the emulated GPU, whose values are kept in one of the host."""

    device, is_cuda, is_meta, is_cpu = GPU, True, False, False
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: Tensor) -> "GpuTensor":
        layout = {"strides": values.stride(), "storage_offset": values.storage_offset()}
        tensor = Tensor._make_wrapper_subclass(
            cls, values.size(), dtype=values.dtype, device=STAND_IN, **layout
        )
        tensor.values_on_host = values
        return tensor

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        raise RuntimeError(f"{operator} of a tensor on the emulated GPU, after its context")


class EmulatedGpu:
    """A context in which "cuda" is emulated; `asked` is what was asked of the card since `reset`."""

    def __init__(self):
        self.asked = Asked()
        self._naming, self._context = _Naming(), ExitStack()

    def reset(self) -> None:
        self.asked = Asked()

    def __enter__(self) -> "EmulatedGpu":
        backward = patch("torch.autograd._engine_run_backward", self._run_backward)
        # Optimizers and norms take many tensors at once, where they know their type and device.
        types = [patch(f"{module}._foreach_supported_types", [GpuTensor]) for module in AT_ONCE]
        devices = patch(f"{AT_ONCE[0]}._get_foreach_kernels_supported_devices", lambda: [STAND_IN.type])
        events = patch("torch.cuda.Event", lambda: _Event(self))
        for part in (backward, *types, devices, events, self._naming, _Operators(self)):
            self._context.enter_context(part)
        return self

    def __exit__(self, *error) -> None:
        self._context.__exit__(*error)

    def _run_backward(self, *args, **kwargs):
        """Checkpointed functions run again within it, where PyTorch has put the mode aside."""
        with self._naming:
            return _engine_run_backward(*args, **kwargs)


class _Event:
    """A point of the card's work that the host may wait for."""

    def __init__(self, gpu: EmulatedGpu):
        self._gpu = gpu

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        self._gpu.asked.synchronisations["event"] += 1


class _Operators(TorchDispatchMode):
    """Counts the operators that concern the emulated GPU, and has the host run them."""

    def __init__(self, gpu: EmulatedGpu):
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and _is_compound(operator):  # else taken apart already
            with self:
                return operator._op_dk(COMPOUND, *args, **kwargs)
        call = _Call(operator, args, kwargs)
        if call.concerns_gpu:
            call.count(self._gpu.asked)
        return call.run()


def _is_compound(operator) -> bool:
    return _dispatch_has_kernel_for_dispatch_key(operator.name(), COMPOUND)


class _Call:
    """An operator and what it is called with."""

    def __init__(self, operator, args: tuple, kwargs: dict):
        self.operator, self.name = operator, operator.overloadpacket.__name__
        self.args, self.kwargs = args, kwargs
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        self.owners = {id(t.values_on_host): t for t in tensors if isinstance(t, GpuTensor)}
        self.of_host = [t for t in tensors if not isinstance(t, GpuTensor)]
        self.gives_gpu = bool(self.owners)
        if kwargs.get("device") is not None:
            self.gives_gpu = kwargs["device"] == STAND_IN
        elif self.name == "copy_":
            self.gives_gpu = isinstance(args[0], GpuTensor)
        self.concerns_gpu = self.gives_gpu or bool(self.owners)

    def run(self):
        """The result, of tensors on the emulated GPU if it is one there."""
        result = self.operator(*tree_map(_on_host, self.args), **tree_map(_on_host, self.kwargs))
        return tree_map(self._on_gpu, result) if self.gives_gpu else result

    def _on_gpu(self, value):
        if not isinstance(value, Tensor):
            return value
        changed_in_place = self.owners.get(id(value))
        return GpuTensor(value) if changed_in_place is None else changed_in_place

    def count(self, asked: Asked) -> None:
        if self.name in ("_to_copy", "copy_") and (self.of_host or not self.gives_gpu):
            if not self.kwargs.get("non_blocking", len(self.args) > 2 and self.args[2]):
                (asked.copies if self.gives_gpu else asked.synchronisations)[self.name] += 1
            return
        if not (self.operator.is_view or self.name in FREE):
            asked.kernels[self.name] += 1
        if self.name in WAITING or self._looks_for_places():
            asked.synchronisations[self.name] += 1
        misplaced = sum(tensor.dim() > 0 for tensor in self.of_host)
        if misplaced and self.name in INDEXING:
            asked.copies[self.name] += misplaced
        elif misplaced:
            raise RuntimeError(f"{self.operator}: tensors on {GPU} and on the host")

    def _looks_for_places(self) -> bool:
        """Whether it is an index by truth values, whose places have to be found and counted at first."""
        if self.name not in INDEXING:
            return False
        truths = [index for index in self.args[1] if index is not None and index.dtype == torch.bool]
        # A number is filled in without a look at the places.
        return bool(truths) and (len(self.args) == 2 or isinstance(self.args[2], GpuTensor))


class _Naming(TorchFunctionMode):
    """Calls that name the emulated GPU reach PyTorch with the device that stands in for it."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.device:
            return function(*args, **(kwargs or {}))
        args, kwargs = tree_map(_stand_in, args), tree_map(_stand_in, kwargs or {})
        if function is Tensor.tolist:
            return function(args[0].cpu())
        if function is Tensor.pin_memory:  # needs a card
            return args[0]
        if function is Tensor.__setitem__ and not isinstance(args[2], Tensor):  # as CUDA takes a number
            args = *args[:2], torch.tensor(args[2], dtype=args[0].dtype)
        if function is Tensor.new_tensor:
            kwargs = {"dtype": args[0].dtype, "device": _stand_in(args[0].device)} | kwargs
            function, args = torch.tensor, args[1:]
        # On the stand-in PyTorch would drop the values.
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") == STAND_IN:
            return function(*args, **(kwargs | {"device": None})).to(STAND_IN)
        return function(*args, **kwargs)


def _stand_in(value):
    if isinstance(value, str | torch.device):
        return STAND_IN if str(value).split(":")[0] == GPU.type else value
    return value


def _on_host(value):
    if isinstance(value, GpuTensor):
        return value.values_on_host
    return HOST if isinstance(value, torch.device) else value
