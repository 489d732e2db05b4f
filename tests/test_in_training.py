"""Recall on a BOP data set while training: that of a test run, and nothing of it is left behind."""

import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

import run_test
from picopose.evaluation.in_training import BopValidation
from picopose.model.picopose.build import build_network, load_network
from picopose.model.picopose.network import PicoPose
from picopose.utils.config import Config, load_config
from picopose.utils.distributed import World
from picopose.utils.errors import InputError
from tests.shared import ROOT
from tests.shipped import SMALL_WEIGHTS
from tests.small_bop import dump, load, write_set


def few_images(folder: Path) -> Path:
    """A targets file with two images of each scene of the mini set."""
    targets = load(ROOT / "data/mini/test_targets_bop19.json")
    return dump(folder / "targets.json", [target for target in targets if target["im_id"] < 2])


def config_of(log_dir: Path, *options: str) -> Config:
    options = (f"log_dir={log_dir}", "test.views=42", "test.hypotheses=1", *options)
    return load_config(ROOT / "config/small.yaml", options)


def small_network(config: Config) -> PicoPose:
    network = build_network(**asdict(config.model))
    load_network(network, SMALL_WEIGHTS)
    return network.train()


def test_recall_is_that_of_a_test_run(monkeypatch, tmp_path):
    options = [f"test_dataset.data_dir={ROOT / 'data'}", f"test_dataset.targets={few_images(tmp_path)}"]
    config = config_of(tmp_path, "train.validate_on=[mini]", *options)
    network, folder = small_network(config), tmp_path / "validation"
    before = {name: value.clone() for name, value in network.state_dict().items()}
    validation = BopValidation(config, folder, World())
    dump(folder / "mini_journal" / "rank0.jsonl", {})  # left by a run that was killed
    recalls = validation(network)
    assert validation(network) == recalls
    assert network.training and not folder.exists()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    flags = ["--config", "config/small.yaml", "--dataset", "mini", "--checkpoint_path", str(SMALL_WEIGHTS)]
    flags += ["--gpus", "cpu", "--view", "42", "--hypotheses", "1", f"log_dir={tmp_path}", *options]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["run_test.py", *flags])
    run_test.main()
    scores = load(tmp_path / "picopose_small_id0" / "scores.json")["mini"]
    assert scores["bop19_average_recall"] > 0.2
    # A test run folds the batch norms, so the poses differ by rounding.
    assert recalls == {"AR_mini": pytest.approx(scores["bop19_average_recall"], abs=0.02)}


def test_what_a_data_set_lacks_is_told_before_training(tmp_path):
    write_set(tmp_path)
    config = config_of(tmp_path, "train.validate_on=[toy]", f"test_dataset.data_dir={tmp_path}")
    with pytest.raises(InputError, match=r"scene_gt_info\.json"):
        BopValidation(config, tmp_path / "validation", World())
