"""Photos of the mini set with their objects, for tests of methods that look at photos."""

import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from picopose.datasets import layouts
from picopose.datasets.bop.test_set import BopTestSet
from picopose.evaluation.errors import add, adds
from picopose.evaluation.eval_models import EvalModel, load_models
from picopose.model.stage import Thing, Things
from picopose.rendering.mesh_files import MeshFiles
from picopose.rendering.mesh_views import MeshViews
from picopose.utils.records import Estimates, Frame
from tests.masks import records
from tests.shared import ROOT

DATA = ROOT / "data"


@functools.cache
def views() -> MeshViews:
    meshes = layouts.find_meshes(DATA, "mini")
    return MeshViews(MeshFiles({int(name): file for name, file in meshes.items()}))


@functools.cache
def things() -> Things:
    return Things({i: Thing(i, f"{i:06d}", model(i).diameter) for i in range(1, 11)}, views())


@functools.cache
def model(obj_id: int) -> EvalModel:
    return load_models(DATA / "mini", [obj_id])[obj_id]


@functools.cache
def detected(scene_id: int, im_id: int) -> tuple[Frame, Estimates]:
    """A photo with its detections."""
    dataset = BopTestSet(DATA, "mini")
    places = [(image.scene_id, image.im_id) for image in dataset.images]
    frame = dataset[places.index((scene_id, im_id))]
    return frame, dataset.start(frame)


def truths(scene_id: int, im_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Object ids (G,) and cam_from_obj (G, 4, 4) float64 m of the annotated instances of a photo."""
    entries = json.loads((_scene(scene_id) / "scene_gt.json").read_text())[str(im_id)]
    poses = torch.eye(4, dtype=torch.float64).repeat(len(entries), 1, 1)
    for pose, entry in zip(poses, entries, strict=True):
        pose[:3, :3] = torch.tensor(entry["cam_R_m2c"]).reshape(3, 3)
        pose[:3, 3] = torch.tensor(entry["cam_t_m2c"]) / 1000
    return torch.tensor([entry["obj_id"] for entry in entries]), poses


def annotated(scene_id: int, im_id: int, *, visible: float = 0.5) -> tuple[Frame, Estimates]:
    """A photo with the true masks of what can be seen well, in place of detections, and their true poses."""
    obj_ids, poses = truths(scene_id, im_id)
    info = json.loads((_scene(scene_id) / "scene_gt_info.json").read_text())[str(im_id)]
    chosen = [i for i, entry in enumerate(info) if entry["visib_fract"] > visible]
    files = [_scene(scene_id) / "mask_visib" / f"{im_id:06d}_{i:06d}.png" for i in chosen]
    masks = records(torch.from_numpy(np.stack([np.array(Image.open(file)) > 0 for file in files])))
    frame, _ = detected(scene_id, im_id)
    found = Estimates.of(obj_ids[chosen].tolist(), masks, score=torch.linspace(0.5, 1, len(chosen)))
    return frame, replace(found, cam_from_obj=poses[chosen])


def error(obj_id: int, pose: torch.Tensor, true: torch.Tensor) -> float:
    """ADD, for symmetric objects ADD-S, of a pose (4, 4) from the nearest of (N, 4, 4), in diameters."""
    known = model(obj_id)
    estimate, truth = pose.double().expand(len(true), -1, -1)[:, :3].numpy(), true[:, :3].numpy()
    measure = adds if len(known.symmetries) > 1 else add
    return float(measure(estimate, truth, known.vertices).min() / known.diameter)


def _scene(scene_id: int) -> Path:
    return DATA / f"mini/test/{scene_id:06d}"
