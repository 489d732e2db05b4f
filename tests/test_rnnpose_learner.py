"""RNNPose is trained by run_train.py, goes on exactly, and refines in a run what it was trained for."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import run_train
from picopose.datasets.training.one_object import RenderedPhotos
from picopose.model.checkpoint import read_checkpoint
from picopose.model.methods import learner_of
from picopose.model.rnnpose.network import RNNPose
from picopose.model.rnnpose.options import Options
from picopose.model.rnnpose.samples import PoseNoise, Sample
from picopose.model.rnnpose.stage import RnnPoseStage
from picopose.model.rnnpose.weights import Weights
from picopose.model.stage import Step, Thing, Things
from picopose.rendering.mesh import diameter, load_mesh
from picopose.rendering.mesh_views import MeshViews
from picopose.rendering.studio import Studio
from picopose.utils.config_files import load_config
from picopose.utils.masks import cut_out
from picopose.utils.records import Estimates, Frame
from tests.shared import ROOT

MESHES = {8: ROOT / "data/mini/models/obj_000008.ply", 9: ROOT / "data/mini/models/obj_000009.ply"}
SMALL = ["patch=64", "zoom=64", "width=8", "descriptor=8", "renderings=2", "iterations=2"]
STEPS = 4  # iterations of a refinement


def overrides(folder: Path) -> list[str]:
    network = [f"options.rnnpose.network.{entry}" for entry in SMALL]
    training = [
        "train.steps=3",
        "train.batch_size=2",
        "train.workers=0",
        "train.log_every=1",
        "train.lr=1e-3",
    ]
    training += ["train.save_every=2", "train.picture_every=2", "train.validate_every=3"]
    training += ["train.validation_pairs=2", "options.rnnpose.training.single=1", f"log_dir={folder}"]
    return [*network, *training, "options.rnnpose.longest_edge=null"]


def train(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> Path:
    config = str(ROOT / "config/rnnpose_tiny.yaml")
    flags = ["run_train.py", "--config", config, "--gpus", "cpu", *options, *overrides(folder)]
    monkeypatch.setattr(sys, "argv", flags)
    monkeypatch.chdir(ROOT)
    run_train.main()
    return folder / "rnnpose_rnnpose_tiny_id0"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder of a run of three steps."""
    with pytest.MonkeyPatch.context() as patch:
        return train(patch, tmp_path_factory.mktemp("rnnpose"))


def test_training_measures_poses_after_every_rendering(trained):
    lines = [json.loads(line) for line in (trained / "scalars.jsonl").read_text().splitlines()]
    (measures,) = [line for line in lines if "validation/add" in line]
    for name in ("start", "render_1", "render_2"):
        assert measures[f"validation/{name}_deg"] > 0 and 0 <= measures[f"validation/{name}_add_10"] <= 1
    # The first step learns from one rendering, the others from two.
    flow = [line["loss/flow"] for line in lines if "loss/flow" in line]
    assert len(flow) == 3 and all(np.isfinite(flow))


def test_a_run_that_goes_on_equals_one_that_never_ended(monkeypatch, tmp_path, trained):
    """Bit for bit, the weights and the optimizer's state."""
    checkpoint = str(trained / "step_00000002.pt")
    again = train(monkeypatch, tmp_path, "--ckpt_path", checkpoint) / "step_00000003.pt"
    ours, whole = read_checkpoint(again), read_checkpoint(trained / "step_00000003.pt")
    assert all(torch.equal(ours["model"][name], value) for name, value in whole["model"].items())
    states = zip(ours["optimizer"]["state"].values(), whole["optimizer"]["state"].values(), strict=True)
    assert all(torch.equal(mine[name], other[name]) for mine, other in states for name in other)


def test_pictures_show_poses_weights_and_flow(tmp_path):
    learner = learner_of("rnnpose", load_config(ROOT / "config/rnnpose_tiny.yaml", overrides(tmp_path)))
    source = learner.source(held_out=True)
    with torch.no_grad():
        pictures = learner.pictures(Sample.stack([source.sample(0), source.sample(1)]))
    assert [picture.shape for picture in pictures] == [(3, 128, 128)] * 2
    assert all(picture.min() >= 0 and picture.max() <= 1 and picture.std() > 0.05 for picture in pictures)


class Scene:
    """A photo of object 8 with wrong poses of it and one of object 9, and a stage that knows object 8."""

    def __init__(self, checkpoint: Path, *, batch: int = 4):
        meshes = {obj_id: load_mesh(path) for obj_id, path in MESHES.items()}
        photo = RenderedPhotos(Studio(), meshes[8], "car", seed=3).photo(1)
        noise, rng = PoseNoise(10.0, (0.005, 0.005, 0.02)), np.random.default_rng(0)
        poses = [noise.disturb(photo.cam_from_obj, torch.zeros(3), rng, Options().kept(released=False))]
        poses += [noise.disturb(photo.cam_from_obj, torch.zeros(3), rng, Options().kept(released=False))] * 2
        mask = cut_out(photo.depth > 0)
        found = Estimates.of([8, 9, 8, 8], [mask] * 4)
        self.found = replace(found, cam_from_obj=torch.stack([poses[0], photo.cam_from_obj, *poses[1:]]))
        self.frame = Frame(photo.rgb, photo.K)
        things = {i: Thing(i, f"{i:06d}", diameter(mesh.vertices)) for i, mesh in meshes.items()}
        self.stage = RnnPoseStage(
            Weights(checkpoint), Options(), torch.device("cpu"), threshold=2.0, batch=batch
        )
        self.things = Things(things, MeshViews(meshes))

    def refined(self) -> Estimates:
        self.stage.prepare(self.things)
        return self.stage(self.frame, self.found)


@pytest.fixture(scope="module")
def refined(trained) -> tuple[Scene, Estimates, list[Step]]:
    scene, steps = Scene(trained / "step_00000003.pt"), []
    scene.stage.watch = steps.append
    return scene, scene.refined(), steps


def test_poses_of_the_known_object_are_refined_and_others_stay(refined):
    scene, found, _ = refined
    before, after = scene.found.cam_from_obj, found.cam_from_obj
    assert torch.equal(found.obj_id, scene.found.obj_id) and torch.equal(found.group, scene.found.group)
    assert torch.equal(before[1], after[1])
    for row in (0, 2, 3):
        assert not torch.allclose(before[row], after[row], atol=1e-4)
        rotation = after[row, :3, :3]
        torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3), atol=1e-5, rtol=0)
    assert ((found.inlier_ratio >= 0) & (found.inlier_ratio <= 1)).all()
    assert found.matches.photo.shape[0] == 4


def test_who_watches_is_told_every_iteration(refined):
    _, found, steps = refined
    assert len(steps) == STEPS and all(step.rows.tolist() == [0, 2, 3] for step in steps)
    assert torch.equal(steps[-1].cam_from_obj, found.cam_from_obj[[0, 2, 3]])
    assert all(step.weight.shape == (3, 64, 64) and step.weight.max() <= 1 for step in steps)


def test_poses_do_not_depend_on_the_batch(trained, refined):
    alone = Scene(trained / "step_00000003.pt", batch=1).refined()
    torch.testing.assert_close(alone.cam_from_obj, refined[1].cam_from_obj, atol=1e-4, rtol=0)


def test_what_is_known_of_an_object_is_found_once(trained, monkeypatch):
    calls, known = [], RNNPose.known

    def counted(self, *arguments) -> Tensor:
        calls.append(1)
        return known(self, *arguments)

    monkeypatch.setattr(RNNPose, "known", counted)
    scene = Scene(trained / "step_00000003.pt")
    for _ in range(2):
        scene.refined()
    assert len(calls) == 1


def test_training_may_begin_with_a_checkpoints_weights(trained, tmp_path):
    checkpoint = trained / "step_00000003.pt"
    entries = [*overrides(tmp_path), f"checkpoint={checkpoint}"]
    learner = learner_of("rnnpose", load_config(ROOT / "config/rnnpose_tiny.yaml", entries))
    weights = read_checkpoint(checkpoint)["model"]
    assert all(torch.equal(learner.network.state_dict()[name], value) for name, value in weights.items())


def test_options_without_effect_are_told(tmp_path, caplog):
    entries = [*overrides(tmp_path), "model.size=96", "train.frozen=true"]
    learner_of("rnnpose", load_config(ROOT / "config/rnnpose_tiny.yaml", entries))
    assert [record.getMessage() for record in caplog.records] == [
        "model.size has no effect on rnnpose",
        "train.frozen has no effect on rnnpose",
    ]


def test_lower_precision_moves_poses_little(trained, refined):
    scene = Scene(trained / "step_00000003.pt")
    scene.stage.bf16 = True
    found = scene.refined()
    moved = (found.cam_from_obj - refined[1].cam_from_obj).abs().amax()
    assert 0 < moved < 0.02
