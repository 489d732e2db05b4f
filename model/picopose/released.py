"""Converts the released PicoPose checkpoint (PyTorch Lightning) into this project's weights.

Three habits of the released network fold exactly into its weights: the transposed plane of the similarity
volume, the transposed correlation window, and images in BGR order with other statistics. The half-cell
offset of its flow does not; see `model.picopose.flow.FlowDecoder`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from picopose.model.picopose.backbone import MEAN, STD, resample_positions
from picopose.model.released_weights import check_renamed, rename, transpose_windows
from picopose.utils.errors import InputError

PREFIX = "network."

# What the released weights were trained with; see `FlowDecoder` and `affine.pose_from_similarity`.
HALF_CELL, VIEWING_RAY = 0.5, False

# What the released network subtracts and divides by, in stored order, from images in BGR order.
RELEASED_MEAN, RELEASED_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# Modules of the released network whose results reach no output.
UNUSED = re.compile(
    r"feature_extractor\.dinov2\.(mask_token|norm\.)"
    r"|offset_regressor\.dpt_head\.scratch\.(refinenet1\.|refinenet4\.resConfUnit1\.|output_conv)"
    r"|offset_regressor\.dpt_head\.(projects\.0|resize_layers\.0|scratch\.layer1_rn)\."
)

RENAMED = [
    (r"feature_extractor\.dinov2\.", "backbone.vit."),
    (r"affine_regressor\.fc1\.", "affine.features.7."),
    (r"affine_regressor\.fc2\.", "affine.features.9."),
    (r"affine_regressor\.features\.", "affine.features."),
    (r"affine_regressor\.inplane_predictor\.", "affine.rotation."),
    (r"affine_regressor\.(translation|scale)_predictor\.", r"affine.\1."),
    (r"offset_regressor\.dpt_head\.projects\.(\d)\.", lambda m: f"dpt.project.{int(m[1]) - 1}."),
    (r"offset_regressor\.dpt_head\.resize_layers\.(\d)\.", lambda m: f"dpt.resize.{int(m[1]) - 1}."),
    (r"offset_regressor\.dpt_head\.scratch\.layer(\d)_rn\.", lambda m: f"dpt.reduce.{int(m[1]) - 2}."),
    (r"offset_regressor\.dpt_head\.scratch\.refinenet(\d)\.", lambda m: f"dpt.fuse.{4 - int(m[1])}."),
    (r"(dpt\.fuse\.\d\.)out_conv\.", r"\1out."),
    (r"(dpt\.fuse\.\d\.)resConfUnit1\.", r"\1skip."),
    (r"(dpt\.fuse\.\d\.)resConfUnit2\.", r"\1refine."),
    (r"(dpt\.fuse\.\d\.\w+\.)bn(\d)\.", r"\1norm\2."),
    (r"offset_regressor\.flow_decoder\.proj\.(\d)\.", r"flow.levels.\1.project."),
    (
        r"offset_regressor\.flow_decoder\.encoder\.(\d)\.corr_net\.0\.conv\.",
        r"flow.levels.\1.motion.correlation.0.",
    ),
    (
        r"offset_regressor\.flow_decoder\.encoder\.(\d)\.corr_net\.1\.conv\.",
        r"flow.levels.\1.motion.correlation.2.",
    ),
    (r"offset_regressor\.flow_decoder\.encoder\.(\d)\.flow_net\.0\.conv\.", r"flow.levels.\1.motion.flow.0."),
    (r"offset_regressor\.flow_decoder\.encoder\.(\d)\.flow_net\.1\.conv\.", r"flow.levels.\1.motion.flow.2."),
    (r"offset_regressor\.flow_decoder\.encoder\.(\d)\.out_net\.0\.conv\.", r"flow.levels.\1.motion.join.0."),
    (r"offset_regressor\.flow_decoder\.flow_pred\.(\d)\.", r"flow.levels.\1.flow_head."),
    (r"offset_regressor\.flow_decoder\.mask_pred\.(\d)\.", r"flow.levels.\1.certainty_head."),
    (r"(flow\.levels\.\d\.\w+_head\.)layers\.0\.conv\.", r"\g<1>0."),
    (r"(flow\.levels\.\d\.\w+_head\.)layers\.1\.conv\.", r"\g<1>2."),
    (r"(flow\.levels\.\d\.\w+_head\.)predict_layer\.", r"\g<1>4."),
]


def is_released(checkpoint: Mapping) -> bool:
    """Whether a checkpoint's content has the form of the released one."""
    weights = checkpoint.get("state_dict")
    return isinstance(weights, Mapping) and any(str(key).startswith(PREFIX) for key in weights)


def convert(checkpoint: Mapping, expected: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """The released checkpoint's weights under this project's names and conventions.

    Args:
        checkpoint: content of the file, see `is_released`.
        expected: the state dict of a `PicoPose` of the same backbone.
        source: the file's path, for messages.

    Raises:
        InputError: a key is missing, unknown or of another shape; the message names it as it is in the file.
    """
    original = {
        key.removeprefix(PREFIX): value
        for key, value in checkpoint["state_dict"].items()
        if str(key).startswith(PREFIX) and not UNUSED.match(key.removeprefix(PREFIX))
    }
    weights = {rename(key, RENAMED): value for key, value in original.items()}
    original_name = {rename(key, RENAMED): PREFIX + key for key in original}
    if "backbone.vit.pos_embed" not in expected:
        raise InputError(f"{source}: the released network, on DINOv2; use config/base.yaml")
    cells = int((expected["backbone.vit.pos_embed"].shape[1] - 1) ** 0.5)
    folds = {
        "backbone.vit.pos_embed": lambda w: resample_positions(w, cells),
        "affine.features.3.weight": lambda w: w.mT,
        "affine.features.7.weight": lambda w: transpose_windows(w, side=cells // 2),
    }
    for level in range(3):
        name = f"flow.levels.{level}.motion.correlation.0.weight"
        folds[name] = lambda w: transpose_windows(w, side=5)
    for name, fold in folds.items():
        if name in weights:
            weights[name] = _folded(fold, weights[name], original_name[name], source)
    check_renamed(expected, weights, original_name, source)
    weight, bias = _fold_statistics(
        weights["backbone.vit.patch_embed.proj.weight"], weights["backbone.vit.patch_embed.proj.bias"]
    )
    patches = {"backbone.vit.patch_embed.proj.weight": weight, "backbone.vit.patch_embed.proj.bias": bias}
    return {name: value.contiguous() for name, value in (weights | patches).items()}


def _folded(fold, weight: Tensor, name: str, source: Path) -> Tensor:
    try:
        return fold(weight)
    except (RuntimeError, IndexError) as error:
        shape = tuple(weight.shape)
        raise InputError(
            f"{source}: {name} has an unexpected shape {shape}; pass the config of its size"
        ) from error


def _fold_statistics(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The patch embedding for RGB under this project's statistics; the channels of `weight` are B, G, R."""
    weight = weight.double().flip(1)
    mean, std = torch.tensor(MEAN).double(), torch.tensor(STD).double()
    released_mean, released_std = (
        torch.tensor(values).double().flip(0) for values in (RELEASED_MEAN, RELEASED_STD)
    )
    shift = weight * ((mean - released_mean) / released_std)[:, None, None]
    scaled = weight * (std / released_std)[:, None, None]
    return scaled.float(), (bias.double() + shift.sum(dim=(1, 2, 3))).float()
