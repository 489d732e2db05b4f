"""Readers of what is prepared of objects: a damaged file is made again, whatever the damage is."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from picopose.model.picopose.templates.store import MAPS, FeatureFile
from picopose.model.prepared_files import PreparedFiles
from picopose.model.rendermatch import views
from tests.mutated.soundness import sound
from tests.mutation_cases import Reader

COUNT, SIZE = 3, 16
POSES = torch.eye(4).repeat(COUNT, 1, 1)


def templates() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    maps = {name: torch.rand(COUNT, 8, 4, 4, generator=generator).half() for name in MAPS}
    colours = torch.randint(256, (COUNT, 4, SIZE, SIZE), generator=generator).byte()
    shown = {"rgb": colours[:, :3], "mask": colours[:, 3] % 2, "depth": torch.ones(COUNT, SIZE, SIZE)}
    return maps | shown | {"K": torch.eye(3).repeat(COUNT, 1, 1), "cam_from_obj": POSES}


def drawn_views() -> dict[str, Tensor]:
    parts = {"descriptors": torch.ones(6, 8).half(), "cells": torch.tensor([1, 2, 3])}
    return parts | {"cam_from_obj": POSES.double(), "circle": torch.ones(COUNT, 3).double()}


def read_templates(path: Path) -> dict[str, Tensor]:
    found = FeatureFile(path)
    maps = {name: torch.stack([found.maps(k)[i] for k in range(COUNT)]) for i, name in enumerate(MAPS)}
    return maps | vars(type(found.view(0)).stack([found.view(k) for k in range(COUNT)]))


def check(made: Callable[[], dict[str, Tensor]]) -> Callable[[dict[str, Tensor]], None]:
    """Single numbers may be others, since files of several GB are not read to compare a sum."""

    def checked(found: dict[str, Tensor]) -> None:
        for name, tensor in made().items():
            sound(found[name].shape == tensor.shape, f"{name} of another shape")
        sound(found["cam_from_obj"].isfinite().all(), "poses that are not finite")

    return checked


def prepared(read: Callable[[Path], dict[str, Tensor]], make: Callable[[], dict[str, Tensor]]) -> Reader:
    def opened(folder: Path) -> dict[str, Tensor]:
        return PreparedFiles(folder).open("object", read, make, what="an object")

    return Reader(opened, opened, check(make), [("object.safetensors", "safetensors")])


READERS: dict[str, Reader] = {
    "prepared-templates": prepared(read_templates, templates),
    "prepared-views": prepared(lambda path: vars(views._read(path)), drawn_views),
}
