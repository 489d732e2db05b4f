"""Converts the released RNNPose checkpoints, `{class}.tckpt`, into this project's weights.

Two quirks of the released network fold into its weights: correlation windows stored column by column, and
two channels of its point networks that nothing reads.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from picopose.model.released_weights import check_renamed, rename, transpose_windows

PREFIX = "motion_net."  # of some of the keys of every released checkpoint
WINDOW = 9  # side of the correlation windows

# What reaches no result: the heads of saliency, constants of losses that are switched off, a counter.
UNUSED = re.compile(r"global_step$|.*\.epsilon$|.*\.convP[ab]\.")

LAYER = {"a": 0, "b": 2}  # of two convolutions in a row, with an activation between them
GATE = {"z": "update", "r": "reset", "q": "candidate"}
SWEEP = {"1": "rows", "2": "columns"}


def _point_block(match: re.Match) -> str:
    level, place = divmod(int(match[2]), 3)  # two blocks at every level, then one that leads to the next
    return f"{match[1]}pooling.{level}." if place == 2 else f"{match[1]}blocks.{level}.{place}."


RENAMED = [
    (r"motion_net\.sigma\.0$", "sigma"),
    (r"hybrid_desc_net\.corr_fea_extractor_2d\.", "image_descriptors."),
    (r"(image_descriptors\.)conv(\d)([ab])\.", lambda m: f"{m[1]}encoder.{int(m[2]) - 1}.{LAYER[m[3]]}."),
    (r"(image_descriptors\.)convD([ab])\.", lambda m: f"{m[1]}head.{LAYER[m[2]]}."),
    (r"(image_descriptors\.)decode(\d)\.1\.", lambda m: f"{m[1]}decoder.{int(m[2]) - 1}.0."),
    (r"hybrid_desc_net\.corr_fea_extractor_3d\.", "point_descriptors."),
    (r"ctx_fea_net\.context_fea_extractor_3d\.", "point_context."),
    (r"(point_\w+\.)encoder_blocks\.(\d+)\.", _point_block),
    (r"(point_\w+\.blocks\.0\.0\.)KPConv\.", r"\1conv."),
    (r"(point_.*\.)KPConv\.", r"\1layer.conv."),
    (r"(point_.*\.conv\.)weights$", r"\1weight"),
    (r"(point_.*\.)unary1\.mlp\.", r"\1reduce."),
    (r"(point_.*\.)unary2\.mlp\.", r"\1expand."),
    (r"(point_.*\.)unary_shortcut\.mlp\.", r"\1shortcut."),
    (r"(point_\w+\.)bottle\.", r"\1bottleneck."),
    (r"(point_\w+\.)proj_gnn\.", r"\1project."),
    (r"(point_\w+\.)decoder_blocks\.([135])\.mlp\.", lambda m: f"{m[1]}decoder.{int(m[2]) // 2}."),
    (r"motion_net\.image_fea_enc\.fnet\.", "encoder."),
    (r"(encoder\.)layer(\d)\.(\d)\.", lambda m: f"{m[1]}blocks.{2 * int(m[2]) - 2 + int(m[3])}."),
    (r"(encoder\.blocks\.\d\.)downsample\.0\.", r"\1shortcut."),
    (r"encoder\.conv1\.", "encoder.stem."),
    (r"encoder\.conv2\.", "encoder.project."),
    (r"motion_net\.cf_net\.update_block\.", "update."),
    (r"(update\.)encoder\.convc(\d)\.", lambda m: f"{m[1]}motion.correlation.{2 * int(m[2]) - 2}."),
    (r"(update\.)encoder\.convf(\d)\.", lambda m: f"{m[1]}motion.flow.{2 * int(m[2]) - 2}."),
    (r"(update\.)encoder\.conv\.", r"\1motion.join.0."),
    (r"(update\.gru\.)conv([zrq])([12])\.", lambda m: f"{m[1]}{SWEEP[m[3]]}.{GATE[m[2]]}."),
    (r"(update\.flow_head\.)conv(\d)\.", lambda m: f"{m[1]}{2 * int(m[2]) - 2}."),
    (r"(update\.)mask\.", r"\1mask_head."),
]


def is_released(checkpoint: Mapping) -> bool:
    """Whether a checkpoint's content has the form of the released ones."""
    return any(str(key).startswith(PREFIX) for key in checkpoint)


def convert(checkpoint: Mapping, expected: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """The released checkpoint's weights under this project's names and conventions.

    Args:
        checkpoint: content of the file, see `is_released`.
        expected: the state dict of an `RNNPose` of the same sizes.
        source: the file's path, for messages.

    Raises:
        InputError: a key is missing, unknown or of another shape; the message names it as it is in the file.
    """
    original = {str(key): value for key, value in checkpoint.items() if not UNUSED.match(str(key))}
    original_name = {rename(key, RENAMED): key for key in original}
    weights = {name: _fold(name, original[key], expected) for name, key in original_name.items()}
    check_renamed(expected, weights, original_name, source)
    return {name: value.contiguous() for name, value in weights.items()}


def _fold(name: str, weight: Tensor, expected: Mapping[str, Tensor]) -> Tensor:
    """A weight in this project's order; weights of unexpected shapes stay, to be refused by their shape."""
    if re.fullmatch(r"point_\w+\.(bottleneck|project)\.weight", name) and weight.shape[2:] == (1,):
        return weight[:, :, 0]
    if re.fullmatch(r"point_\w+\.decoder\.2\.weight", name) and name in expected:
        rows = len(expected[name])
        return weight[:rows] if weight.shape[:1] == (rows + 2,) else weight
    if name == "update.motion.correlation.0.weight" and weight.ndim == 4 and not weight.shape[1] % WINDOW**2:
        return transpose_windows(weight, side=WINDOW)
    return weight
