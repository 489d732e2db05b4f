"""DualPoseNet is trained by run_train.py: its samples, augmentation, losses, measures and exact resume."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import run_train
from picopose.datasets.nocs.instances import Instance, Label
from picopose.datasets.nocs.labels import canonical_rotation, quaternion
from picopose.datasets.nocs.preparation import MADE_WITH, VERSION
from picopose.datasets.nocs.prepared import write_shard
from picopose.model.checkpoint import read_checkpoint
from picopose.model.dualposenet import augmentation
from picopose.model.dualposenet.boxes import overlaps
from picopose.model.dualposenet.maps import normalised, spherical_maps
from picopose.model.dualposenet.network import Estimate, Sizes
from picopose.model.dualposenet.options import Augmentation, Training, read_options
from picopose.model.dualposenet.pictures import draw
from picopose.model.dualposenet.quirks import MENDED
from picopose.model.dualposenet.samples import Sample, Samples
from picopose.model.dualposenet.symmetry import angles, nearest_alike
from picopose.model.methods import learner_of
from picopose.utils.config import Config
from picopose.utils.config_files import load_config
from picopose.utils.errors import InputError
from tests.shared import ROOT

BOTTLE, CAMERA = 1, 3
SMALL = ["side=16", "channels=[2,2,4,4]", "feature=8", "explicit=[8]", "implicit=[8]"]
OPTIONS = "options.dualposenet"


def instance(seed: int, class_id: int = CAMERA, count: int = 1500) -> Instance:
    """The front of a cylinder, or of a cuboid, turned anyhow."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.08, 0.25, 3)
    within = rng.uniform(-0.5, 0.5, (count, 3))
    if class_id == BOTTLE:
        size[2] = size[0]
        around = rng.uniform(0, 2 * np.pi, count)
        within[:, 0], within[:, 2] = np.cos(around) / 2, np.sin(around) / 2
    else:
        within[np.arange(count), rng.integers(0, 3, count)] = 0.5 * rng.choice([-1, 1], count)
    M = canonical_rotation(Rotation.random(random_state=seed).as_matrix(), class_id)
    points = (within * size) @ M
    points = points[points[:, 2] < np.quantile(points[:, 2], 0.6)]
    mean = points.mean(axis=0)
    label = Label(*(np.float32(value) for value in (quaternion(M), -mean, size)))
    rgb = rng.integers(0, 256, (len(points), 3), dtype=np.uint8)
    return Instance(class_id, np.float32(points - mean), rgb, label)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder of twelve instances of all categories."""
    folder = tmp_path_factory.mktemp("prepared")
    write_shard(folder, 0, [instance(n, 1 + n % 6) for n in range(12)])
    (folder / MADE_WITH).write_text(json.dumps({"version": VERSION, "shards": 1}))
    return folder


def within_box(found: Instance) -> np.ndarray:
    """The points in coordinates of the box, whose faces lie at +-1/2."""
    M, label = augmentation.rotation_of(found.label), found.label
    return (found.points - label.translation) @ M.T / label.size


# Augmentation


@pytest.mark.parametrize("class_id", [BOTTLE, CAMERA])
@pytest.mark.parametrize("change", [{"turn_degrees": 40.0}, {"tilt_degrees": 25.0}, {"stretch": 0.3}])
def test_labels_follow_the_points(change, class_id):
    for seed in range(20):
        before = instance(seed, class_id)
        after = augmentation.augment(before, Augmentation(**change), np.random.default_rng(seed))
        after = augmentation.centred(after)
        assert np.abs(after.points - before.points).max() > 1e-6
        assert np.abs(after.points.mean(axis=0)).max() < 1e-6
        then, now = within_box(before), within_box(after)
        if class_id == BOTTLE:  # turned about its axis perhaps
            then, now = ([np.hypot(c[:, 0], c[:, 2]), c[:, 1]] for c in (then, now))
            assert after.label.size[0] == after.label.size[2]
            assert abs(after.label.rotation[2]) < 1e-6  # canonical: no part about y
        np.testing.assert_allclose(now, then, atol=2e-5)
        np.testing.assert_allclose(
            quaternion(augmentation.rotation_of(after.label)), after.label.rotation, atol=1e-6
        )


def test_a_turn_is_about_the_axis_of_the_camera_and_a_stretch_is_not_a_change_of_size_alone():
    before = instance(0)
    turned = augmentation.augment(before, Augmentation(turn_degrees=90), np.random.default_rng(1))
    np.testing.assert_allclose(turned.points[:, 2], before.points[:, 2], atol=1e-6)
    stretched = augmentation.augment(before, Augmentation(stretch=0.5), np.random.default_rng(1))
    assert np.ptp(stretched.label.size / before.label.size) > 0.1


def test_cuts_take_a_part_and_stray_points_and_noise_lie_beside_it():
    before = instance(0)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        cut = augmentation.augment(before, Augmentation(cut=1), rng)
        assert 0.45 < len(cut.points) / len(before.points) < 0.95
        kept = {tuple(point) for point in cut.points.tolist()}
        assert kept < {tuple(point) for point in before.points.tolist()}
        stray = augmentation.augment(before, Augmentation(stray=0.2), rng)
        count = len(before.points)
        np.testing.assert_array_equal(stray.points[:count], before.points)
        assert 0 < len(stray.points) - count <= 0.2 * count and len(stray.rgb) == len(stray.points)
    noisy = augmentation.augment(before, Augmentation(depth_noise=0.01), np.random.default_rng(0))
    np.testing.assert_array_equal(noisy.points[:, :2], before.points[:, :2])
    assert 0 < (noisy.points - before.points)[:, 2].std() < 0.011
    colour = augmentation.augment(before, Augmentation(colour=0.3), np.random.default_rng(0))
    assert (colour.rgb != before.rgb).any() and (colour.points == before.points).all()


# Samples


def samples(**options) -> Samples:
    instances = [instance(n, 1 + n % 6) for n in range(12)]
    training = Training(points=64, augmentation=Augmentation(turn_degrees=30), **options)
    return Samples(instances, training, side=16, seed=1, quirks=MENDED, augmented=not options.get("frozen"))


def epoch_of(source: Samples, epoch: int) -> list[Sample]:
    return sorted(map(source.sample, range(12 * epoch, 12 * epoch + 12)), key=lambda one: one.size.tolist())


def test_every_epoch_has_all_instances_in_another_order_seen_anew():
    first, second = ([samples().sample(12 * epoch + n) for n in range(12)] for epoch in (0, 1))
    sizes = [[one.size.tolist() for one in part] for part in (first, second)]
    assert sizes[0] != sizes[1] and sorted(sizes[0]) == sorted(sizes[1])
    pairs = zip(epoch_of(samples(), 0), epoch_of(samples(), 1), strict=True)
    assert not any(torch.equal(one.points, other.points) for one, other in pairs)


def test_frozen_samples_are_the_same_in_every_epoch():
    for one, other in zip(epoch_of(samples(frozen=True), 0), epoch_of(samples(frozen=True), 1), strict=True):
        assert all(
            torch.equal(mine, its) for mine, its in zip(vars(one).values(), vars(other).values(), strict=True)
        )


def test_a_sample_is_a_function_of_its_index():
    source = samples(fewest_points=200)
    earlier = source.sample(30)
    for index in (3, 25, 30):
        later = source.sample(index)
    assert torch.equal(earlier.points, later.points) and torch.equal(earlier.distances, later.distances)
    assert source.name(30).endswith("in epoch 2")


def test_without_options_samples_are_the_instances_themselves():
    known = instance(4)
    found = Samples([known], Training(), side=64, seed=0, quirks=MENDED, augmented=True).sample(0)
    distances, colours = spherical_maps(known.points, normalised(known.rgb), 64)
    np.testing.assert_array_equal(found.distances, distances)
    np.testing.assert_array_equal(found.colours, np.float32(colours))
    assert {tuple(p) for p in found.points.tolist()} <= {tuple(p) for p in known.points.tolist()}
    np.testing.assert_array_equal(found.truth.rotation, known.label.rotation)


# Symmetry and measures


def poses(seed: int, count: int = 8) -> Estimate:
    turns = Rotation.random(count, random_state=seed).as_quat(scalar_first=True)
    return Estimate(*map(torch.from_numpy, (turns, np.zeros((count, 3)), np.full((count, 3), 0.1))))


def test_turns_about_the_axis_and_signs_are_alike():
    truth, kind = poses(0), torch.tensor([1, 2, 4, 1, 3, 5, 6, 3])
    about = Rotation.from_euler("y", np.linspace(-170, 170, 8)[:, None], degrees=True)
    turned = about * Rotation.from_quat(truth.rotation.numpy(), scalar_first=True)
    turned = torch.from_numpy(-turned.as_quat(scalar_first=True))
    alike = nearest_alike(truth, turned, kind).rotation
    torch.testing.assert_close(alike[:4], turned[:4])  # of round ones any turn is right
    torch.testing.assert_close(alike[4:].abs(), truth.rotation[4:].abs())
    assert ((alike * turned).sum(1) >= 0).all()  # q or -q, whichever is nearer
    degrees = angles(truth.rotation, turned, kind)
    assert degrees[:4].max() < 1e-3
    torch.testing.assert_close(degrees[4:].float(), torch.linspace(-170, 170, 8).abs()[4:])


def test_the_nearest_turn_is_the_nearest_of_all():
    truth, other, kind = poses(1), poses(2).rotation, torch.full((8,), 2)
    found = (nearest_alike(truth, other, kind).rotation * other).sum(1)
    every = Rotation.from_euler("y", np.arange(0, 720, 0.5)[:, None], degrees=True)
    for row, (q, goal) in enumerate(zip(truth.rotation.numpy(), other.numpy(), strict=True)):
        turned = (every * Rotation.from_quat(q, scalar_first=True)).as_quat(scalar_first=True)
        assert np.abs(turned @ goal).max() == pytest.approx(found[row].item(), abs=1e-4)


def test_overlaps_of_known_boxes():
    one = Estimate(torch.tensor([[1.0, 0, 0, 0]] * 3), torch.zeros(3, 3), torch.full((3, 3), 0.2))
    shift = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0.5, 0, 0]])
    expected = torch.tensor([1, 1 / 3, 0])
    torch.testing.assert_close(overlaps(one._replace(translation=shift), one), expected)
    torch.testing.assert_close(overlaps(one._replace(size=-one.size / 2), one), torch.full((3,), 1 / 8))


# Training


def overrides(prepared: Path, folder: Path) -> list[str]:
    entries = [f"{OPTIONS}.network.{entry}" for entry in SMALL]
    entries += [f"{OPTIONS}.training.{which}=[{prepared}]" for which in ("prepared", "held_out")]
    entries += [f"{OPTIONS}.training.points=32", f"{OPTIONS}.training.fewest_points=200", f"log_dir={folder}"]
    train = ["steps=4", "batch_size=4", "workers=0", "log_every=1", "save_every=2", "picture_every=2"]
    train += ["validate_every=4", "validation_pairs=8", "warmup=2"]
    return entries + [f"train.{entry}" for entry in train]


def train(monkeypatch: pytest.MonkeyPatch, prepared: Path, folder: Path, *options: str) -> Path:
    config = str(ROOT / "config/dualposenet_small.yaml")
    flags = ["run_train.py", "--config", config, "--gpus", "cpu", *options, *overrides(prepared, folder)]
    monkeypatch.setattr(sys, "argv", flags)
    monkeypatch.chdir(ROOT)
    run_train.main()
    return folder / "dualposenet_dualposenet_small_id0"


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory) -> Path:
    """The folder of a run of four steps."""
    with pytest.MonkeyPatch.context() as patch:
        return train(patch, prepared, tmp_path_factory.mktemp("run"))


def test_training_logs_losses_and_measures_by_category(trained):
    lines = [json.loads(line) for line in (trained / "scalars.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "loss/total" in line]
    assert len(losses) == 4
    for line in losses:
        parts = [line[f"loss/{name}"] for name in ("rotation", "translation", "size", "implicit")]
        assert line["loss/total"] == pytest.approx(sum(parts), rel=1e-5)
    (measures,) = [line for line in lines if "validation/wrong" in line]
    assert 0 <= measures["validation/right_mug"] <= 1 and measures["validation/degrees"] > 0


def test_a_run_that_goes_on_equals_one_that_never_ended(monkeypatch, prepared, tmp_path, trained):
    """Bit for bit, the weights and the optimizer's state."""
    checkpoint = str(trained / "step_00000002.pt")
    again = train(monkeypatch, prepared, tmp_path, "--ckpt_path", checkpoint) / "step_00000004.pt"
    ours, whole = read_checkpoint(again), read_checkpoint(trained / "step_00000004.pt")
    assert all(torch.equal(ours["model"][name], value) for name, value in whole["model"].items())
    states = zip(ours["optimizer"]["state"].values(), whole["optimizer"]["state"].values(), strict=True)
    assert all(torch.equal(mine[name], other[name]) for mine, other in states for name in other)


def test_two_processes_learn_as_one_does(prepared, tmp_path, trained):
    """Gradients are means over the processes, each of which has half of every batch."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    config = str(ROOT / "config/dualposenet_small.yaml")
    command = [*torchrun, "run_train.py", "--config", config, "--gpus", "cpu", *overrides(prepared, tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True, timeout=600)
    ours = read_checkpoint(tmp_path / trained.name / "step_00000004.pt")["model"]
    for name, value in read_checkpoint(trained / "step_00000004.pt")["model"].items():
        torch.testing.assert_close(ours[name], value, atol=2e-5, rtol=1e-3)


def test_pictures_show_points_boxes_and_maps(prepared, tmp_path):
    config = load_config(ROOT / "config/dualposenet_small.yaml", overrides(prepared, tmp_path))
    learner = learner_of("dualposenet", config)
    source = learner.source(held_out=True)
    batch = Sample.stack([source.sample(0), source.sample(1)])
    with torch.no_grad():
        pictures = learner.pictures(batch)
    assert [picture.shape for picture in pictures] == [(3, 192, 576)] * 2
    shifted = batch.truth._replace(translation=batch.translation + 0.02)
    for picture in draw(batch, shifted, batch.truth):
        assert picture.min() >= 0 and picture.max() <= 1
        red, _, blue = picture[:, :, :192]
        assert (red - blue > 0.4).sum() > 100 and (blue - red > 0.4).sum() > 100  # both boxes


def test_training_may_begin_with_a_checkpoints_weights(trained, prepared, tmp_path):
    checkpoint = trained / "step_00000004.pt"
    entries = [*overrides(prepared, tmp_path), f"checkpoint={checkpoint}"]
    learner = learner_of("dualposenet", load_config(ROOT / "config/dualposenet_small.yaml", entries))
    weights = read_checkpoint(checkpoint)["model"]
    assert all(torch.equal(learner.network.state_dict()[name], value) for name, value in weights.items())


# Options


def test_the_paper_is_the_default():
    options = read_options(load_config(ROOT / "config/dualposenet.yaml"))
    assert options.network == Sizes() and options.training.frozen and not options.training.symmetric
    assert options.training.augmentation == Augmentation() and options.training.points == 1024
    weights = [getattr(options.training, f"{name}_weight") for name in ("rotation", "translation", "size")]
    assert weights == [1, 1, 1] and options.training.implicit_weight == 10


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({"refine": "both"}, "refine is both; it must be one of none, encoder, feature"),
        ({"quirks": ["flat"]}, "quirks names flat"),
        ({"network": {"side": 20}}, "side is 20; it must be a multiple of 16"),
        ({"network": {"channels": [1, 2, 3]}}, "channels has 3 entries; give four"),
        ({"training": {"points": 0}}, "training.points is 0; it must lie in 1 to inf"),
        ({"training": {"augmentation": {"cut": 2.0}}}, "training.augmentation.cut is 2.0"),
        ({"descent": {"feature": {"rate": 0}}}, "rate must be positive"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(entries, problem):
    with pytest.raises(InputError) as raised:
        read_options(Config(options={"dualposenet": entries}))
    assert problem in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("prepared=[]", "prepared names no folder"),
        ("held_out=[]", "held_out names no folder to validate on"),
    ],
)
def test_training_without_data_is_refused(prepared, tmp_path, entry, problem):
    entries = [*overrides(prepared, tmp_path), f"{OPTIONS}.training.{entry}"]
    with pytest.raises(InputError) as raised:
        learner_of("dualposenet", load_config(ROOT / "config/dualposenet_small.yaml", entries))
    assert problem in str(raised.value)


def test_options_without_effect_are_told(prepared, tmp_path, caplog):
    entries = [*overrides(prepared, tmp_path), "model.size=96", "train.weight_decay=0.1"]
    learner_of("dualposenet", load_config(ROOT / "config/dualposenet_small.yaml", entries))
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"{name} has no effect on dualposenet" for name in ("train.weight_decay", "model.size")]
