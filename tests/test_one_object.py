"""Rendered photos of one object: where it is, what hides it, and that seed and index decide everything."""

from functools import cache

import numpy as np
import pytest
import torch

from picopose.datasets.training.one_object import DISTANCE, HEIGHT, MARGIN, WIDTH, K, RenderedPhotos
from picopose.rendering.mesh import diameter, make_mesh
from picopose.rendering.procedural.shapes import random_shape
from picopose.rendering.studio import Studio
from picopose.utils.errors import InputError
from picopose.utils.geometry import invert, project, transform, unproject
from picopose.utils.records import Observation

COUNT = 40


@cache
def source(seed: int = 3) -> RenderedPhotos:
    return RenderedPhotos(Studio(views=42), mesh(), "box", seed=seed)


@cache
def mesh():
    return random_shape(np.random.default_rng(0))


@cache
def photos() -> list[Observation]:
    return [source().photo(index) for index in range(COUNT)]


def silhouette(photo: Observation) -> np.ndarray:
    """Depth (H, W) m of the object if nothing hid it."""
    height, width = photo.depth.shape
    pose, camera = photo.cam_from_obj.double().numpy(), photo.K.double().numpy()
    return Studio().depth(mesh(), pose, camera, width, height)


def test_what_is_seen_of_the_object_is_where_its_pose_has_it():
    shares = []
    for photo in photos():
        alone, seen = silhouette(photo), photo.depth.numpy() > 0
        assert not (seen & (alone == 0)).sum() > 2  # single pixels of outlines, by rounding
        both = seen & (alone > 0)
        assert np.abs(photo.depth.numpy() - alone)[both].max() < 1e-4
        shares.append(seen.sum() / (alone > 0).sum())
    assert min(shares) >= 0.4 and 0.08 < np.mean(np.array(shares) < 0.98) < 0.5


def test_the_object_lies_whole_in_a_window_of_the_photo():
    corners = torch.from_numpy(mesh().vertices)
    for photo in photos():
        height, width = photo.depth.shape
        xy = project(photo.K, transform(photo.cam_from_obj, corners))
        assert (xy > 0).all() and (xy < torch.tensor([width, height])).all()
        left, top = (torch.from_numpy(K)[:2, 2] - photo.K[:2, 2]).round().tolist()
        assert photo.K[0, 0] == np.float32(K[0, 0]) and photo.rgb.shape == (3, height, width)
        assert 0 <= left <= WIDTH - width and 0 <= top <= HEIGHT - height
        box = (xy.amax(dim=0) - xy.amin(dim=0)).max()
        assert max(height, width) <= MARGIN * box + 2
        inside = 0 < left < WIDTH - width and 0 < top < HEIGHT - height
        assert not inside or min(height, width) >= MARGIN * box


def test_distances_are_in_diameters_and_the_object_has_any_rotation():
    corners = torch.from_numpy(mesh().vertices)
    centre = (corners.amin(dim=0) + corners.amax(dim=0))[None] / 2
    away = torch.stack([transform(photo.cam_from_obj, centre)[0, 2] for photo in photos()])
    away = away / diameter(mesh().vertices)
    assert DISTANCE[0] <= away.min() < 5.5 and 8 < away.max() <= DISTANCE[1]
    axes = torch.stack([photo.cam_from_obj[:3, 2] for photo in photos()])
    assert axes.mean(dim=0).norm() < 0.5 and (axes.std(dim=0) > 0.35).all()


def test_seed_and_index_decide_everything():
    again = RenderedPhotos(Studio(views=42), mesh(), "box", seed=3)
    for index in (7, 2):
        first, second = photos()[index], again.photo(index)
        assert torch.equal(first.rgb, second.rgb) and torch.equal(first.depth, second.depth)
        assert torch.equal(first.cam_from_obj, second.cam_from_obj) and torch.equal(first.K, second.K)
    held_out = [source(4).photo(index).cam_from_obj for index in range(4)]
    gaps = [(a - b.cam_from_obj).abs().max() for a in held_out for b in photos()]
    assert min(gaps) > 0.01
    assert source().name(5) == "rendered photo 5 (seed 3) of box"


def test_an_off_centre_model_keeps_its_frame():
    moved = make_mesh(mesh().vertices + np.float32([0.3, 0, 0]), mesh().faces)
    photo = RenderedPhotos(Studio(), moved, "moved", seed=3).photo(0)
    rows, columns = torch.nonzero(photo.depth, as_tuple=True)
    seen = unproject(photo.K, torch.stack([columns, rows], dim=1).float(), photo.depth[rows, columns])
    surface = transform(invert(photo.cam_from_obj), seen)
    low, high = (torch.from_numpy(edge) for edge in (moved.vertices.min(axis=0), moved.vertices.max(axis=0)))
    assert len(seen) > 200 and (surface > low - 1e-4).all() and (surface < high + 1e-4).all()


def test_a_mesh_that_cannot_be_seen_is_named():
    corners = np.float32([[0, 0, 0], [0.1, 0, 0], [0.1, 1e-6, 0]])
    wire = make_mesh(corners, np.array([[0, 1, 2]]))
    with pytest.raises(InputError, match="wire is hardly seen"):
        RenderedPhotos(Studio(), wire, "wire", seed=0).photo(0)
