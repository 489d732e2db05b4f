"""Which of EGL's devices is the card that CUDA computes on, so that processes draw where they compute.

EGL lists a machine's cards in an order of its own, and knows nothing of CUDA_VISIBLE_DEVICES.
"""

import ctypes
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

LOG = logging.getLogger(__name__)

DEVICE_INDEX = "GLCONTEXT_DEVICE_INDEX"  # the variable that moderngl's contexts heed
MOST = 64  # devices of a machine

# Of eglext.h: EGL_DRM_DEVICE_FILE_EXT and EGL_CUDA_DEVICE_NV.
DRM_FILE, CUDA_DEVICE = 0x3233, 0x323A


@dataclass(frozen=True)
class EglDevice:
    """What EGL tells of a device; None what it does not."""

    pci: str | None  # its address on the bus, such as 0000:65:00.0
    cuda: int | None  # its number among all of the machine's for CUDA


def draw_on(index: int) -> None:
    """From now on this process and those it starts draw on the card that is CUDA's device `index` here.

    Unless the environment names an EGL device already.
    """
    if DEVICE_INDEX in os.environ:
        return
    devices = egl_devices()
    found = matching(devices, pci_address(index), number(index, os.environ.get("CUDA_VISIBLE_DEVICES")))
    if found is not None:
        os.environ[DEVICE_INDEX] = str(found)
    elif len(devices) > 1:
        LOG.warning(
            "none of EGL's %d devices says that it is cuda:%d, so the first one draws: set %s to another",
            len(devices),
            index,
            DEVICE_INDEX,
        )


def matching(devices: Sequence[EglDevice], pci: str, cuda: int | None) -> int | None:
    """The index of the EGL device with an address on the bus, or else of the one with a number for CUDA."""
    by_address = [i for i, device in enumerate(devices) if device.pci == pci]
    by_number = [i for i, device in enumerate(devices) if cuda is not None and device.cuda == cuda]
    return next(iter(by_address + by_number), None)


def number(index: int, visible: str | None) -> int | None:
    """CUDA's number, among all cards, of the one with an index among those that CUDA_VISIBLE_DEVICES names.

    None where that names it by something else.
    """
    if not visible:
        return index
    names = visible.split(",")
    name = names[index].strip() if index < len(names) else ""
    return int(name) if name.isdecimal() else None


def pci_address(index: int) -> str:
    """The address on the bus of CUDA's device `index`."""
    card = torch.cuda.get_device_properties(index)
    return f"{card.pci_domain_id:04x}:{card.pci_bus_id:02x}:{card.pci_device_id:02x}.0"


def egl_devices() -> list[EglDevice]:
    """EGL's devices in its order; none where EGL is missing or cannot tell them."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
        query = _function(egl, "eglQueryDevicesEXT", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    except (OSError, AttributeError):
        return []
    handles, count = (ctypes.c_void_p * MOST)(), ctypes.c_int()
    if not query(MOST, handles, ctypes.byref(count)):
        return []
    return [EglDevice(_pci(egl, handle), _cuda(egl, handle)) for handle in handles[: count.value]]


def _pci(egl: ctypes.CDLL, device: int) -> str | None:
    text = _function(egl, "eglQueryDeviceStringEXT", ctypes.c_void_p, ctypes.c_int, result=ctypes.c_char_p)
    file = text(device, DRM_FILE)
    link = Path("/sys/class/drm", Path(os.fsdecode(file or b"")).name, "device")
    return link.resolve().name if file and link.exists() else None


def _cuda(egl: ctypes.CDLL, device: int) -> int | None:
    value = ctypes.c_ssize_t()
    ask = _function(egl, "eglQueryDeviceAttribEXT", ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    return value.value if ask(device, CUDA_DEVICE, ctypes.byref(value)) else None


def _function(egl: ctypes.CDLL, name: str, *arguments: type, result: type = ctypes.c_uint):
    """One of EGL's functions; an `AttributeError` where it has none of this name."""
    egl.eglGetProcAddress.restype, egl.eglGetProcAddress.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    address = egl.eglGetProcAddress(name.encode())
    if not address:
        raise AttributeError(name)
    return ctypes.CFUNCTYPE(result, *arguments)(address)
