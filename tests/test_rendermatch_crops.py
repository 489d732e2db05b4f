"""Crops of render and match: their circles, their cameras, what they show, and how they are turned."""

from itertools import combinations

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from picopose.model.drawn import crops
from picopose.model.drawn.crops import PADDING, Regions, crop_regions, regions_of, turned
from picopose.utils.geometry import project, sample
from picopose.utils.records import Mask
from tests.masks import records

WIDTH, HEIGHT, SIZE = 120, 100, 32
K = torch.tensor([[150.0, 0, 61.0], [0, 140, 48], [0, 0, 1]])


def smallest_circle(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius, by trying all pairs and triples of points (N, 2)."""
    best = points[0], np.inf
    for count in (2, 3):
        for chosen in combinations(points, count):
            a, *rest = chosen
            # The centre is as far from all of the chosen, and for two of them halfway between.
            centre = a + np.linalg.pinv(2 * (np.array(rest) - a)) @ ((np.array(rest) - a) ** 2).sum(axis=1)
            distance = np.linalg.norm(points - centre, axis=1)
            radius = distance.max()
            if radius < best[1] and radius <= np.linalg.norm(a - centre) + 1e-6:
                best = centre, radius
    return best


def regions(centre: tuple[float, float], diameter: float) -> Regions:
    return Regions(torch.tensor([centre]), torch.tensor([diameter]), torch.tensor([False]))


def everywhere() -> tuple[Mask, ...]:
    return records(torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool))


@pytest.mark.parametrize("seed", range(12))
def test_a_masks_circle_is_the_smallest_that_holds_it(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    points = rng.integers([30, 20], [90, 70], (rng.integers(3, 9), 2))
    mask[points[:, 1], points[:, 0]] = True
    found = regions_of(records(torch.from_numpy(mask)[None]))
    centre, radius = smallest_circle(np.unique(points, axis=0).astype(float))
    np.testing.assert_allclose(found.centre[0], centre, atol=0.01)
    assert found.diameter.item() == pytest.approx(2 * radius + 1, abs=0.01)  # to the pixels' outer edges
    assert not found.is_box.item()


def test_a_disc_is_its_own_circle_and_a_full_box_is_a_box():
    disc, box = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    cv2.circle(disc, (50, 40), 20, 1, -1)
    box[10:30, 40:90] = 1
    found = regions_of(records(torch.from_numpy(np.stack([disc, box]).astype(bool))))
    np.testing.assert_allclose(found.centre, [[50, 40], [64.5, 19.5]], atol=0.1)
    np.testing.assert_allclose(found.diameter, [41, 50], atol=0.3)
    assert found.is_box.tolist() == [False, True]
    box[10, 40] = 0
    assert not regions_of(records(torch.from_numpy(box.astype(bool))[None])).is_box.item()


def test_no_regions():
    none = regions_of(())
    assert none.centre.shape == (0, 2) and none.diameter.shape == none.is_box.shape == (0,)


@pytest.mark.parametrize("diameter", [8.3, 25.0, 60.0, 88.0])  # from enlarged to averaged over 3 x 3 pixels
def test_a_point_lies_where_the_crops_camera_sees_it(diameter):
    """The photo's colours are the places of its pixels, so the crop's tell where they come from."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    photo = torch.stack([2 * x, 2 * y, 0 * x]).to(torch.uint8)
    crop = crop_regions(photo, everywhere(), K, regions((58.3, 49.6), diameter), SIZE)
    rng = np.random.default_rng(0)
    where = torch.from_numpy(rng.uniform(-0.4, 0.4, (50, 2)) * diameter + [58.3, 49.6]).float()
    depth = torch.from_numpy(rng.uniform(0.3, 2, (50, 1))).float()
    xyz = torch.cat([where, torch.ones(50, 1)], dim=1) @ torch.linalg.inv(K).T * depth
    seen = sample(crop.rgb, project(crop.K[0], xyz)[None])[0, :2].T
    torch.testing.assert_close(255 * seen / 2, project(K, xyz), atol=0.01, rtol=0)


def test_the_region_fills_the_crop_but_for_the_padding():
    crop = crop_regions(torch.zeros(3, HEIGHT, WIDTH).byte(), everywhere(), K, regions((50, 40), 24), SIZE)
    scale = crop.K[0, 0, 0] / K[0, 0]
    assert scale.item() * 24 * PADDING == pytest.approx(SIZE, rel=1e-5)
    middle = project(crop.K[0], torch.linalg.inv(K)[None] @ torch.tensor([50.0, 40, 1]))
    torch.testing.assert_close(middle, torch.full((1, 2), (SIZE - 1) / 2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("diameter", [15.0, 40.0, 150.0])
@pytest.mark.parametrize("centre", [(1.0, 50.0), (118.0, 98.0), (60.0, -2.0)])
def test_beyond_the_rim_a_window_is_black_and_unmasked(diameter, centre):
    white = torch.full((3, HEIGHT, WIDTH), 255, dtype=torch.uint8)
    crop = crop_regions(white, everywhere(), K, regions(centre, diameter), SIZE)
    place = (np.arange(SIZE) + 0.5) * PADDING * diameter / SIZE - 0.5 - PADDING * diameter / 2
    depth = [
        np.minimum(p + c + 0.5, length - 0.5 - p - c)
        for p, c, length in zip((place,) * 2, centre, (WIDTH, HEIGHT), strict=True)
    ]
    inside = np.minimum(*np.meshgrid(*depth))  # px from the rim, negative beyond it
    margin = 1.5 * max(1, PADDING * diameter / SIZE)
    assert (inside > margin).any() and (inside < -margin).any()
    for channel in (*crop.rgb[0].numpy(), crop.mask[0].numpy()):
        assert (channel[inside > margin] > 0.9999).all()
        assert not channel[inside < -margin].any()


@pytest.mark.parametrize("strip_px", [1, 2000, 10**9])
@pytest.mark.parametrize("centre", [(58.3, 49.6), (3.0, 95.0)])
def test_windows_are_the_same_in_strips(monkeypatch, strip_px, centre):
    photo = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH), dtype=np.uint8))
    expected = crop_regions(photo, everywhere(), K, regions(centre, 70.0), 16)
    monkeypatch.setattr(crops, "STRIP_PX", strip_px)
    found = crop_regions(photo, everywhere(), K, regions(centre, 70.0), 16)
    assert torch.equal(found.rgb, expected.rgb) and torch.equal(found.mask, expected.mask)


def test_a_large_window_is_averaged():
    """Sampled at single pixels the fine chequers would be black and white."""
    chequers = (torch.arange(HEIGHT)[:, None] + torch.arange(WIDTH)) % 2 * 255
    photo = chequers.to(torch.uint8).expand(3, -1, -1)
    crop = crop_regions(photo, everywhere(), K, regions((60.0, 50.0), 60.0), 16)
    assert (crop.rgb - 0.5).abs().max() < 0.05
    odd = crop_regions(photo, everywhere(), K, regions((60.0, 50.0), 50.0), 16)  # blocks of 3 x 3
    assert (odd.rgb - 0.5).abs().max() < 0.06


def test_quarter_turns_go_from_x_to_y():
    maps = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    quarters = turned(maps, 4)
    assert quarters.shape == (2, 4, 3, 16, 16)
    for turn in range(4):
        torch.testing.assert_close(
            quarters[:, turn], torch.rot90(maps, -turn, dims=(2, 3)), atol=1e-4, rtol=0
        )
    spot = torch.zeros(1, 1, 16, 16)
    spot[0, 0, 8, 14] = 1  # on the side of x
    assert turned(spot, 4)[0, 1, 0].argmax() // 16 == 14  # then on that of y


def test_turned_maps_equal_scipys():
    size, turns = 24, 10
    noise = np.random.default_rng(1).uniform(size=(size, size))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    ours = turned(torch.from_numpy(smooth)[None, None], turns)[0, :, 0].numpy()
    y, x = np.indices((size, size)) - (size - 1) / 2
    inside = np.hypot(x, y) < size / 2 - 1
    for turn in range(turns):
        angle = 2 * np.pi * turn / turns
        # Where a pixel (row, column) comes from.
        back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = np.full(2, (size - 1) / 2)
        expected = affine_transform(smooth, back, middle - back @ middle, order=1)
        np.testing.assert_allclose(ours[turn][inside], expected[inside], atol=1e-6)
    assert np.abs(ours[1] - ours[0])[inside].max() > 0.01


def test_corners_that_turn_in_are_empty():
    eighth = turned(torch.ones(1, 1, 32, 32), 8)[0, 1, 0]
    assert eighth[0, 0] == 0 and eighth[16, 16] == 1
    assert (eighth > 0.5).float().mean().item() == pytest.approx(2 * (2**0.5 - 1), abs=0.02)  # an octagon
