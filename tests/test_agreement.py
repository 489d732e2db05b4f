"""How well a drawing agrees with a photo: against plain loops, and as the drawing moves away."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from picopose.model.rendermatch.agreement import Look, agreement, look_of, look_of_drawing
from picopose.model.rendermatch.imagenet import load_imagenet
from picopose.utils.records import Crop, Drawing
from tests.mini_photos import views

SIZE = 256


@pytest.fixture(scope="module")
def network():
    return load_imagenet()


def drawings(shifts: list[float]) -> Drawing:
    """The mug from one side, shifted by px to the right."""
    pose = torch.eye(4, dtype=torch.float64).repeat(len(shifts), 1, 1)
    pose[:, :3, :3] = views().template_poses(1, 42)[5, :3, :3]
    pose[:, 2, 3] = 0.6
    K = torch.tensor([[700.0, 0, 127.5], [0, 700, 127.5], [0, 0, 1]]).repeat(len(shifts), 1, 1)
    K[:, 0, 2] += torch.tensor(shifts)
    return views().draw([1] * len(shifts), pose, K, SIZE)


def photo_of(drawing: Drawing, behind: float) -> Crop:
    """What a drawing shows before another background."""
    return Crop(drawing.rgb + behind * (1 - drawing.cover[:, None]), drawing.mask, drawing.K)


def test_agreements_are_weighted_means():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 3, 5, 4, 4))
    maps /= np.linalg.norm(maps, axis=2, keepdims=True)
    cover = rng.uniform(size=(2, 3, 4, 4))
    cover[1, 2] = 0
    crop, drawing = (Look(torch.from_numpy(m), torch.from_numpy(c)) for m, c in zip(maps, cover, strict=True))
    over_both = agreement(crop, drawing)
    for b in range(3):
        sums = np.zeros(2)
        for y in range(4):
            for x in range(4):
                similarity = maps[0, b, :, y, x] @ maps[1, b, :, y, x]
                either = max(cover[:, b, y, x])
                sums += [either * similarity, either]
        assert over_both[b].item() == pytest.approx(sums[0] / sums[1], abs=1e-9)


@torch.inference_mode()
def test_what_looks_the_same_agrees_entirely(network):
    drawn = drawings([0.0, 30.0])
    look = look_of_drawing(network, drawn)
    torch.testing.assert_close(agreement(look, look), torch.ones(2), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_agreement_falls_as_the_drawing_moves_away(network):
    photo = photo_of(drawings([0.0]), 0.1)
    drawn = look_of_drawing(network, drawings([0.0, 4.0, 8.0, 16.0, 24.0, 32.0]))
    values = agreement(look_of(network, photo), drawn)
    assert values[0] > 0.9
    assert (values.diff() < -0.01).all()
    assert values[-1] < 0.6


@torch.inference_mode()
def test_a_region_hides_what_is_around_it(network):
    drawn = drawings([0.0])
    dark, bright = (photo_of(drawn, behind) for behind in (0.0, 1.0))
    shrunk = ~(F.max_pool2d((~drawn.mask).float(), 9, 1, 4) > 0)  # the drawing's soft edge lies outside
    of = [look_of(network, replace(photo, mask=shrunk)) for photo in (dark, bright)]
    torch.testing.assert_close(of[0].maps, of[1].maps)
