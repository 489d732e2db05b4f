"""Reads weights without executing code in the files, and loads them strictly."""

import pickle
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from picopose.utils.errors import MALFORMED, InputError


def read_checkpoint(path: Path) -> dict:
    """The content of a PyTorch or safetensors file on the CPU.

    Raises:
        InputError: the file is missing, truncated, no checkpoint, or holds more than tensors and plain data.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; pass the path of an existing file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        mapped = zipfile.is_zipfile(path)  # not in files of torch before 1.6
        if mapped:
            _check_sums(path)
        # Memory-mapped: the released file holds far more than the weights.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        reason = "holds objects other than tensors" if "Unsupported" in str(error) else "is no checkpoint"
        raise InputError(f"{path}: {reason}; pass a file of PyTorch weights") from error
    except Exception as error:  # torch's readers raise all kinds of errors on damaged data
        raise InputError(f"{path}: truncated or no checkpoint; copy or download the file again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: no checkpoint (holds a {type(content).__name__}); pass a file of weights")
    return content


def _check_sums(path: Path) -> None:
    """Verifies the file's check sums, which torch does not: a quarter of a second for 1.3 GB.

    Compressed entries are refused: torch writes none, and they could expand without limit.
    """
    with zipfile.ZipFile(path) as file:
        members = file.infolist()
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
        if not stored or sum(member.file_size for member in members) > path.stat().st_size:
            raise InputError(f"{path}: no file of torch's, which are not compressed; pass a file of weights")
        if damaged := file.testzip():
            raise InputError(f"{path}: {damaged} in it is damaged; copy or download the file again")


def weights_of(content: dict, path: Path) -> dict[str, Tensor]:
    """The tensors by name in a checkpoint, at its top level or under `state_dict` or `model`."""
    for key in ("state_dict", "model"):
        content = content.get(key, content) if isinstance(content, dict) else None
    found = content.items() if isinstance(content, dict) else ()
    tensors = {name: value for name, value in found if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"{path}: holds no weights; pass a file of PyTorch weights")
    return tensors


def fit(module: nn.Module, weights: dict[str, Tensor], source: Path) -> None:
    """Loads weights into a module; a missing, extra or mis-shaped key is an error that names it.

    Raises:
        InputError: the weights are for another architecture, or not plain finite numbers.
    """
    expected = module.state_dict()
    check_keys({name: tuple(value.shape) for name, value in expected.items()}, weights, source)
    _check_numbers(expected, weights, source)
    module.load_state_dict(weights)


def take_up(optimizer: Optimizer, state: dict, source: Path) -> None:
    """Loads an optimizer's state, which must match its parameters and be finite.

    Raises:
        InputError: it is of other parameters, or no plain and finite numbers.
    """
    try:
        optimizer.load_state_dict(state)
        for parameter, gathered in optimizer.state.items():
            for name, value in gathered.items():
                if (value.ndim and value.shape != parameter.shape) or not value.isfinite().all():
                    raise ValueError(f"{name} of a parameter")
                if value.ndim:  # fused optimizers go through memory side by side
                    gathered[name] = torch.empty_like(parameter).copy_(value)
    except (*MALFORMED, RuntimeError) as error:
        raise InputError(
            f"{source}: the state of its optimizer is damaged ({error}); pass another checkpoint"
        ) from error


def _check_numbers(expected: dict[str, Tensor], weights: dict[str, Tensor], source: Path) -> None:
    """Refuses weights of an unexpected kind and numbers that are NaN or infinite."""
    not_finite = []
    for name, value in weights.items():
        kind = _kind(value)
        if kind != _kind(expected[name]):
            raise InputError(f"{source}: {name} holds {kind}; pass the plain weights of the network")
        if not value.isfinite().all():
            not_finite.append(name)
    if not_finite:
        named = _some(not_finite)
        raise InputError(
            f"{source}: holds weights that are NaN or infinite: {named}; pass an earlier checkpoint"
        )


def _kind(tensor: Tensor) -> str:
    """The kind and layout of a tensor, in a word or two."""
    if tensor.is_meta:
        return "no numbers, only a shape"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "a sparse tensor"
    if tensor.is_quantized:
        return "quantised numbers"
    if tensor.is_complex():
        return "complex numbers"
    return "real numbers" if tensor.is_floating_point() else "integers"


def check_keys(expected: dict[str, tuple[int, ...]], weights: dict[str, Tensor], source: Path) -> None:
    """Compares names and shapes; the `InputError` names the first differences."""
    remedy = "pass the config that these weights were made with"
    for kind, names in (
        ("lacks", expected.keys() - weights.keys()),
        ("has unknown", weights.keys() - expected.keys()),
    ):
        if names:
            raise InputError(f"{source}: {kind} {_some(sorted(names))}; {remedy}")
    for name, shape in expected.items():
        if tuple(weights[name].shape) != shape:
            found = tuple(weights[name].shape)
            raise InputError(f"{source}: {name} has shape {found} instead of {shape}; {remedy}")


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more keys"
