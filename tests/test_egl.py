"""The card that draws is the one that computes, in whatever order EGL and CUDA list them."""

import os

import pytest
import torch

from picopose.rendering.context import create_context
from picopose.utils import egl
from picopose.utils.egl import DEVICE_INDEX, EglDevice, draw_on, egl_devices, matching, number
from picopose.utils.errors import InputError

# Mesa's software renderer comes first; CUDA numbers the cards against the order of the bus.
SOFTWARE = EglDevice(None, None)
CARDS = [EglDevice(f"0000:{bus}:00.0", cuda) for bus, cuda in (("0f", 2), ("41", 1), ("c1", 0))]


@pytest.fixture
def machine(monkeypatch):
    """A machine with three cards, of which the environment may show some."""
    buses = {2: 0x0F, 1: 0x41, 0: 0xC1}

    def properties(index):
        shown = number(index, os.environ.get("CUDA_VISIBLE_DEVICES"))
        fields = {"pci_domain_id": 0, "pci_bus_id": buses[shown], "pci_device_id": 0}
        return type("Card", (), fields)

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(egl, "egl_devices", lambda: [SOFTWARE, *CARDS])
    for name in (DEVICE_INDEX, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("visible", "index", "device"),
    [(None, 0, 3), (None, 1, 2), (None, 2, 1), ("2,0", 0, 1), ("2,0", 1, 3), (" 1", 0, 2)],
)
def test_each_process_draws_on_its_own_card(machine, visible, index, device):
    if visible is not None:
        machine.setenv("CUDA_VISIBLE_DEVICES", visible)
    draw_on(index)
    assert os.environ[DEVICE_INDEX] == str(device)


def test_without_addresses_the_driver_s_numbers_tell():
    devices = [SOFTWARE, EglDevice(None, 0), EglDevice(None, 1)]
    assert matching(devices, "0000:41:00.0", 1) == 2
    assert matching(devices, "0000:41:00.0", None) is None
    assert number(0, "GPU-8932f937-d72c") is None and number(3, "0,1") is None


def test_what_the_environment_names_stays(machine):
    machine.setenv(DEVICE_INDEX, "0")
    draw_on(1)
    assert os.environ[DEVICE_INDEX] == "0"


def test_a_card_that_egl_does_not_know_is_told(machine, caplog):
    machine.setattr(egl, "egl_devices", lambda: [SOFTWARE, EglDevice(None, None)])
    draw_on(0)
    assert DEVICE_INDEX not in os.environ
    assert "none of EGL's 2 devices says that it is cuda:0" in caplog.text


def test_the_devices_of_this_machine(monkeypatch):
    assert egl_devices()
    monkeypatch.setenv(DEVICE_INDEX, "63")
    with pytest.raises(InputError, match="no headless OpenGL"):
        create_context()
