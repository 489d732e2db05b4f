"""Golden inputs and outputs of the original RNNPose, and weights by the rule they were made with."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from picopose.model.checkpoint import fit
from picopose.model.released_weights import rename
from picopose.model.rnnpose.encoder import ImageEncoder
from picopose.model.rnnpose.image_descriptors import ImageDescriptors
from picopose.model.rnnpose.kpconv import PointNetwork
from picopose.model.rnnpose.network import Draw, KnownObject, RNNPose, Sizes
from picopose.model.rnnpose.quirks import RELEASED
from picopose.model.rnnpose.released import RENAMED, UNUSED, convert
from picopose.model.rnnpose.surface import Drawn, interpolated
from picopose.model.rnnpose.update import UpdateBlock
from picopose.rendering.mesh import Mesh
from picopose.rendering.mesh_formats.part import vertex_normals
from tests.shared import shared

FOLDER = "reference_rnnpose"
SALIENT = "hybrid_desc_net.corr_fea_extractor_2d.conv"

# How far our numbers may lie from the original's: the bars of the reference's table.
DESCRIPTORS = 2e-5
POINT_DESCRIPTORS, POINT_CONTEXT, POINT_CONV = 1e-5, 5e-5, 2e-5
ENCODER = 5e-4
HIDDEN, FLOW = 5e-5, 1e-4
POSE, NORMAL, LM_GRADIENT = 1e-6, 1e-6, 1e-4
ZOOM_CAMERA, THETA, ZOOMED = 2e-3, 1e-6, 1e-4
LOOP_FLOW, LOOP_WEIGHT, LOOP_POSE, LOOP_MAPS = 2e-3, 2e-4, 1e-5, 5e-3
OWN_RENDERINGS = 2e-4
LOSS, CIRCLE_LOSS, FLOW_LOSS, POINT_LOSS = 1e-3, 1e-5, 1e-4, 1e-5
MEDIAN_GRADIENT, WORST_GRADIENT = 2e-4, 5e-3


def arrays(name: str) -> dict[str, Tensor]:
    """Those of `golden_{name}.npz`."""
    with np.load(shared(f"{FOLDER}/golden_{name}.npz"), allow_pickle=False) as content:
        return {
            key: torch.from_numpy(content[key]) for key in content.files if content[key].dtype.kind != "U"
        }


def seeded(name: str, *shape: int) -> Tensor:
    """Normal numbers from a generator seeded by a name."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return torch.from_numpy(generator.standard_normal(shape).astype(np.float32))


def rule_weights() -> dict[str, Tensor]:
    """Weights in the released files' form, each drawn from a generator seeded by its key."""
    shapes = json.loads(shared(f"{FOLDER}/state_dict_rnnpose.json").read_text())
    kernel_points = arrays("kernel_points")
    return {key: kernel_points[key] if key in kernel_points else _draw(key, shapes[key]) for key in shapes}


def _draw(key: str, shape: list[int]) -> Tensor:
    if key == "global_step":
        return torch.zeros(shape, dtype=torch.long)
    if key.endswith("epsilon"):
        return torch.full(shape, -5.0)
    values = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape)
    if key.endswith("bias"):
        values = 0.05 * values
    elif key.endswith("KPConv.weights"):
        values = values / np.sqrt(shape[1])
    elif len(shape) == 1:
        values = 1 + 0.1 * values
    else:
        values = values / np.sqrt(np.prod(shape[1:])) * (np.sqrt(2) if key.startswith(SALIENT) else 1)
    return torch.from_numpy(values.astype(np.float32))


def original_names() -> dict[str, str]:
    """The released network's key of every weight of ours."""
    shapes = json.loads(shared(f"{FOLDER}/state_dict_rnnpose.json").read_text())
    return {rename(key, RENAMED): key for key in shapes if not UNUSED.match(key)}


class Networks(nn.Module):
    """The networks of RNNPose, under the names that they have in it."""

    def __init__(self):
        super().__init__()
        self.image_descriptors = ImageDescriptors()
        self.point_descriptors = PointNetwork(32, normalised=True)
        self.point_context = PointNetwork(256, normalised=False)
        self.encoder = ImageEncoder()
        self.update = UpdateBlock()
        self.sigma = nn.Parameter(torch.ones(1))


def released_network() -> Networks:
    """The networks with the converted weights of the golden runs."""
    network, source = Networks().eval(), Path("ape.tckpt")
    fit(network, convert(rule_weights(), network.state_dict(), source), source)
    return network


def difference(ours: Tensor, golden: Tensor) -> float:
    assert ours.shape == golden.shape
    return (ours - golden).abs().max().item()


def column_major(correlation: Tensor) -> Tensor:
    """Correlations with the windows in the original's order."""
    return correlation.unflatten(1, (4, 9, 9)).transpose(2, 3).flatten(1, 3)


def relative(ours: Tensor, golden: Tensor) -> float:
    return difference(ours, golden) / golden.abs().max().item()


def whole(pose: Tensor) -> Tensor:
    """The matrix (4, 4) of a pose (3, 4)."""
    return torch.cat([pose, torch.tensor([[0.0, 0, 0, 1]])])


# The loop, on stored renderings


def golden_mesh() -> Mesh:
    """The object of the golden runs."""
    content = {name: values.numpy() for name, values in arrays("mesh").items()}
    vertices, faces = content["verts"], content["faces"].astype(np.int32)
    normals = vertex_normals(vertices, faces).astype(np.float32)
    return Mesh(vertices, faces, normals, colors=content["colors"])


def stored_triangles(loop: dict[str, Tensor], cycle: int) -> tuple[Tensor, Tensor]:
    """The triangles (1, S, S) of a stored rendering, and the barycentric coordinates (P, 3) of its pixels."""
    faces = loop[f"cycle{cycle}_face"].long()[None]
    shares = loop[f"cycle{cycle}_bary"][None][faces >= 0]
    return faces, torch.cat([shares, 1 - shares.sum(1, keepdim=True)], dim=1)


def stored_colours(loop: dict[str, Tensor], cycle: int) -> Tensor:
    """A stored rendering (1, 3, S, S) in [0, 1], under the original's light."""
    return loop[f"cycle{cycle}_rgb"].permute(2, 0, 1)[None] / 255


class Replay(RNNPose):
    """The released network, on the golden run's renderings one after the other.

    Attributes:
        poses: what it asked to draw. cameras: with which.
        maps: what it brought to cells.
    """

    def __init__(self):
        super().__init__(Sizes(), RELEASED)
        self.loop = arrays("loop")
        self.poses, self.cameras, self.maps = [], [], []

    def render(self, cam_from_obj: Tensor, K: Tensor, known: KnownObject, draw: Draw) -> tuple[Tensor, Drawn]:
        cycle = len(self.poses)
        self.poses.append(cam_from_obj)
        self.cameras.append(K)
        faces, shares = stored_triangles(self.loop, cycle)
        drawn = interpolated(known.surface, faces, shares, cam_from_obj, self.quirks)
        return stored_colours(self.loop, cycle), drawn

    def to_cells(self, maps: Tensor, seen: Tensor) -> Tensor:
        self.maps.append(maps.detach())
        return super().to_cells(maps, seen)


def released_refiner(kind: type[Replay] = Replay) -> Replay:
    """A network with the converted weights of the golden runs."""
    network, source = kind().eval(), Path("ape.tckpt")
    expected = {name: value for name, value in network.state_dict().items() if name != "vertices"}
    fit(network, convert(rule_weights(), expected, source) | {"vertices": network.vertices}, source)
    return network
