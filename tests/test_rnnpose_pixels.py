"""RNNPose's pixels: what is at a place of the photo is at the same place of patch, zoom and rendering.

Photos are ramps here, whose colour at a pixel is the pixel's place, so places are read off exactly.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from picopose.model.rnnpose import losses
from picopose.model.rnnpose.crops import Window, drawn_camera, patch_window, zoom
from picopose.model.rnnpose.network import Comparison, Iteration, KnownObject, RNNPose, Sizes
from picopose.model.rnnpose.quirks import MENDED, RELEASED, Quirks
from picopose.model.rnnpose.surface import Surface
from picopose.rendering.mesh import Mesh, make_mesh
from picopose.rendering.mesh_views import MeshViews
from picopose.utils.geometry import project, rigid, sample, transform, unproject
from tests.rendered import renderer

HEIGHT, WIDTH = 240, 320
K = torch.tensor([[300.0, 0, 155.3], [0, 302.0, 121.8], [0, 0, 1]])
SIZES = Sizes(patch=128, zoom=96, width=8, descriptor=8)
CENTRE = (0.01, 0.0, 0.005)  # m, of the object
TURN = Rotation.from_euler("xyz", (7, -5, 10), degrees=True).as_matrix()


def ramp() -> np.ndarray:
    """(H, W, 2) float32: x and y."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    return np.stack([x, y], axis=-1).astype(np.float32)


def pose(x: float, y: float, z: float) -> Tensor:
    rotation = torch.from_numpy(Rotation.from_euler("xyz", (30, 40, 20), degrees=True).as_matrix())
    return rigid(rotation.float(), torch.tensor([x, y, z]))


def colours(points: np.ndarray) -> np.ndarray:
    """(N, 3) uint8, smooth, of points (N, 3) m of the object."""
    return np.rint(127 + 100 * np.sin(90 * points + (0, 1, 2))).astype(np.uint8)


def ball() -> Mesh:
    """An ellipsoid, its origin off its middle."""
    azimuth, height = np.meshgrid(np.linspace(0, 2 * np.pi, 48, endpoint=False), np.linspace(-1, 1, 41))
    radius = np.sqrt(1 - height**2)
    points = np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), height], axis=-1).reshape(-1, 3)
    points = points * (0.05, 0.04, 0.03) + CENTRE
    row, column = np.divmod(np.arange(40 * 48), 48)
    a, b = 48 * row + column, 48 * row + (column + 1) % 48
    faces = np.concatenate([np.stack([a, b, b + 48], 1), np.stack([a, b + 48, a + 48], 1)])
    return make_mesh(points, faces, colors=colours(points))


@dataclass(frozen=True)
class Look:
    """An object at a pose that is not true, in the middle of a photo or beyond its edge."""

    mesh: Mesh
    surface: Surface
    truth: Tensor  # (4, 4)
    start: Tensor  # (4, 4)
    window: Window

    def patch(self, quirks: Quirks) -> tuple[Tensor, Tensor]:
        """The ramp's patch (1, 2, P, P) and its camera (1, 3, 3)."""
        patch = torch.from_numpy(self.window.cut(ramp(), SIZES.patch)).permute(2, 0, 1)[None]
        return patch, self.window.camera(K, SIZES.patch, quirks)[None]


def look(truth: Tensor) -> Look:
    mesh = ball()
    surface = Surface.of(mesh)
    start = truth.clone()
    start[:3, :3] = torch.from_numpy(TURN).float() @ truth[:3, :3]
    start[:3, 3] += torch.tensor([0.006, -0.004, 0.02])
    return Look(mesh, surface, truth, start, patch_window(surface.vertices, start, K, HEIGHT, WIDTH))


PLACES = {
    "middle": pose(0.0, 0.0, 0.4),
    "corner": pose(-0.17, -0.12, 0.4),
    "right": pose(0.18, 0.02, 0.45),
    "far": pose(0.02, 0.03, 1.2),
}


@pytest.fixture(params=PLACES)
def place(request) -> Look:
    return look(PLACES[request.param])


def shown(vertices: Tensor, cam_from_obj: Tensor) -> tuple[Tensor, Tensor]:
    """Places (V, 2) of vertices in the photo, and which of them lie well inside it."""
    xy = project(K, transform(cam_from_obj, vertices))
    inside = ((xy > 3) & (xy < torch.tensor([WIDTH - 4.0, HEIGHT - 4.0]))).all(1)
    assert inside.sum() > 0.2 * len(xy)
    return xy, inside


def test_a_point_of_the_photo_is_at_its_place_in_the_patch(place):
    xy, inside = shown(place.surface.vertices, place.truth)
    patch, camera = place.patch(MENDED)
    at = project(camera, transform(place.truth, place.surface.vertices)[None])
    assert (sample(patch, at)[0].T - xy)[inside].abs().max() < 1e-3


@pytest.mark.parametrize(("quirks", "off"), [(MENDED, 0.0), (RELEASED, -0.5)], ids=["mended", "released"])
def test_a_drawn_point_is_at_its_place_in_the_zoom(place, quirks, off):
    """Found with the camera that it is drawn with; the original's is half a pixel of the photo off."""
    xy, inside = shown(place.surface.vertices, place.start)
    patch, camera = place.patch(quirks)
    poses, vertices = place.start[None], place.surface.vertices
    window = zoom(vertices, poses, camera, SIZES.patch, SIZES.zoom, quirks)
    at = project(drawn_camera(window.K, SIZES.zoom, quirks), transform(poses, vertices[None]))
    found = sample(window.look(patch), at)[0].T
    assert (found - xy - off)[inside].abs().max() < 2e-3


def test_the_zoom_holds_the_object(place):
    _, camera = place.patch(MENDED)
    poses, vertices = place.start[None], place.surface.vertices
    window = zoom(vertices, poses, camera, SIZES.patch, SIZES.zoom, MENDED)
    at = project(window.K, transform(poses, vertices[None]))[0]
    low, high = at.amin(0), at.amax(0)
    assert ((low + high) / 2 - (SIZES.zoom - 1) / 2).abs().max() < 1e-3
    assert (high - low).max() == pytest.approx(2 / 2.8 * SIZES.zoom, rel=1e-5)


@dataclass(frozen=True)
class Flowing:
    """The first rendering of a refinement, and the flow that would be right."""

    seen: Comparison
    photo: Tensor  # (1, C, S, S), in the zoom
    flow: Tensor  # (S*S, 2) px
    known: Tensor  # (S*S,) bool: where the flow is


def flowing(place: Look, photo: np.ndarray) -> Flowing:
    """photo: (H, W, C) float32."""
    patch = torch.from_numpy(place.window.cut(photo, SIZES.patch)).permute(2, 0, 1)[None]
    camera, count = place.patch(MENDED)[1], len(place.surface.vertices)
    features = torch.zeros(count, SIZES.descriptor), torch.zeros(count, 4 * SIZES.width)
    known = KnownObject(place.surface, torch.tensor(CENTRE), 0.1, *features)
    draw = partial(MeshViews({1: place.mesh}).draw_faces, [1], size=SIZES.zoom)
    blank = torch.zeros(1, 3, *patch.shape[2:]), torch.zeros(1, SIZES.descriptor, *patch.shape[2:])
    with torch.no_grad():
        seen = RNNPose(SIZES).compare(*blank, camera, place.start[None], known, draw)
    nothing = torch.zeros(1, 2, SIZES.zoom, SIZES.zoom)
    step = Iteration(seen, torch.eye(4)[None], nothing, nothing[:, 0])
    flow, valid = losses.true_flow(step, place.truth[None], 0.0)
    window = zoom(place.surface.vertices, place.start[None], camera, SIZES.patch, SIZES.zoom, MENDED)
    return Flowing(seen, window.look(patch), flow[0].flatten(1).T, valid[0].flatten())


def pixels() -> Tensor:
    x, y = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="xy")
    return torch.stack([x, y], dim=-1).view(-1, 2)


def at_the_truth(place: Look, drawn: Flowing) -> Tensor:
    """(S*S, 2) where the surface in each pixel of the rendering is in the photo."""
    in_object = transform(torch.linalg.inv(place.start), drawn.seen.points[0])
    return project(K, transform(place.truth, in_object))


def test_true_flow_leads_to_the_places_in_the_photo(place):
    drawn = flowing(place, ramp())
    xy = at_the_truth(place, drawn)
    inside = drawn.known & ((xy > 3) & (xy < torch.tensor([WIDTH - 4.0, HEIGHT - 4.0]))).all(1)
    found = sample(drawn.photo, (pixels() + drawn.flow)[None])[0].T
    assert (found - xy)[inside].abs().max() < 2e-3


def test_points_of_the_rendering_lie_on_the_rays_of_their_pixels(place):
    drawn = flowing(place, ramp())
    seen = drawn.seen
    depth = seen.points[..., 2]
    assert torch.equal(depth > 0, seen.drawn.seen.flatten(1))
    expected = unproject(seen.K, pixels()[None], depth)
    assert (seen.points - expected).abs().max() < 1e-6


def test_the_photo_at_the_end_of_true_flow_looks_as_the_rendering():
    """Both drawn by the house's renderer: the photo at the truth, the rendering at the start."""
    place = look(PLACES["middle"])
    image = renderer().render([(place.mesh, place.truth.double().numpy())], K.double().numpy(), WIDTH, HEIGHT)
    drawn = flowing(place, image.rgb.astype(np.float32) / 255)
    seen = drawn.seen
    own = torch.from_numpy(colours(place.surface.vertices.double().numpy())).float() / 255
    rendering = seen.drawn.spread(own)[0].flatten(1)
    visible = drawn.known & _visible(place, drawn, image.depth)
    assert visible.sum() > 0.5 * drawn.known.sum()

    def off(shift: float) -> float:
        found = sample(drawn.photo, (pixels() + drawn.flow + shift)[None])[0]
        return (found - rendering)[:, visible].abs().median().item()

    assert off(0) < 0.002
    assert off(0) < 0.25 * min(off(0.5), off(-0.5))


def _visible(place: Look, drawn: Flowing, depth: np.ndarray) -> Tensor:
    """(S*S,) whether what each pixel of the rendering shows is seen in the photo, of a depth (H, W) m."""
    xy = at_the_truth(place, drawn)
    motion = place.truth @ torch.linalg.inv(place.start)
    expected = transform(motion, drawn.seen.points[0])[:, 2]
    x, y = xy.nan_to_num(0).round().long().clamp(min=0).minimum(torch.tensor([WIDTH - 1, HEIGHT - 1])).T
    return (torch.from_numpy(depth)[y, x] - expected).abs() < 0.002


def test_induced_flow_is_the_mean_of_the_surfaces_flow_in_each_cell():
    place = look(PLACES["middle"])
    network = RNNPose(SIZES, MENDED)
    drawn = flowing(place, ramp())
    motion = place.truth @ torch.linalg.inv(place.start)
    ours = network.induced_flow(drawn.seen, motion[None])[0]
    seen = drawn.seen.drawn.seen[0]
    flow = drawn.flow.T.unflatten(-1, seen.shape)
    for row in range(12):
        for column in range(12):
            cell = slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8)
            inside = flow[:, cell[0], cell[1]][:, seen[cell]]
            expected = inside.mean(1) / 8 if inside.numel() else torch.zeros(2)
            assert (ours[:, row, column] - expected).abs().max() < 1e-5


def test_original_reads_descriptors_of_the_zoom_half_a_pixel_off():
    """Without flow a pixel reads its own descriptor, in the original's form that at i S/(S - 1) - 1/2."""
    size = SIZES.zoom
    place = look(PLACES["middle"])
    seen = flowing(place, ramp()).seen
    angle = torch.arange(size) * 0.02
    row = torch.stack([angle.cos(), angle.sin(), *torch.zeros(6, size)])
    seen = replace(seen, drawn_descriptors=row[None, :, None].expand(1, 8, size, size))
    seen = replace(seen, photo_descriptors=seen.drawn_descriptors)
    for quirks, off in ((MENDED, 0 * angle), (RELEASED, torch.arange(size) / (size - 1) - 0.5)):
        with torch.no_grad():
            weight = RNNPose(SIZES, quirks).trust(seen, torch.zeros(1, 2, size, size))[0]
        expected = (-(1 - (0.02 * off).cos()).abs()).exp().expand(size, size)
        inside = seen.drawn.seen[0]
        assert (weight - expected)[inside].abs().max() < 1e-4
        assert (weight[~inside] == 0).all()
