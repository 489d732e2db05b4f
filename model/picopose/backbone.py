"""Stage 0 of the network: patch features of a crop, from DINOv2 or a convolutional network of timm's.

Three maps, shallow to deep, feed the dense head; the last of them is also what templates are matched by. A
backbone tells its maps' `channels` and `sides`, and `cells`, the side of the last.
"""

from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from torch import Tensor, nn

from picopose.model.checkpoint import fit, read_checkpoint, weights_of
from picopose.utils.errors import InputError

# ImageNet's statistics, which DINOv2 was trained with; timm knows those of other networks.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Dinov2(nn.Module):
    """RGB crops (B, 3, S, S) in [0, 1] -> three feature maps (B, C, n, n) with n = S / 14, shallow to deep.

    They are the outputs after a half, three quarters and all of the blocks, without the class token and the
    transformer's final norm.

    Args:
        name: timm's name, e.g. `vit_large_patch14_dinov2`.
        size: S, the crops' side in px.
        pretrained: "timm" downloads DINOv2's weights; a path reads them from a file; None leaves random ones.
    """

    def __init__(self, name: str, *, size: int = 224, pretrained: str | None = None):
        super().__init__()
        self.vit = timm.create_model(name, img_size=size, num_classes=0)
        self.cells = size // 14
        self.channels, self.sides = [self.vit.embed_dim] * 3, [self.cells] * 3
        depth = len(self.vit.blocks)
        self.blocks = [depth * quarters // 4 - 1 for quarters in (2, 3, 4)]
        if pretrained:
            fit(self.vit, _pretrained_weights(name, pretrained, self.vit), Path(pretrained))
        self.vit.norm = nn.Identity()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def freeze(self) -> None:
        raise InputError("option train.frozen: only convolutional backbones can be; leave it out")

    def forward(self, rgb: Tensor) -> list[Tensor]:
        return self.vit.forward_intermediates(
            (rgb - self.mean) / self.std, indices=self.blocks, norm=False, intermediates_only=True
        )


class Pyramid(nn.Module):
    """RGB crops (B, 3, S, S) in [0, 1] -> three maps of sides 2n, n, n with n = S / stride, shallow to deep.

    The last map is made of the network's map at `stride` and of all deeper ones, so that what templates are
    matched by knows detail and context.

    Args:
        name: timm's name of a network that makes a feature pyramid, convolutional or hybrid.
        size: S, the crops' side in px.
        stride: side of a patch in px.
        deep: whether there are deeper maps than the one at `stride`, and the layers that make them.
        pretrained: "timm" downloads the published weights; a path reads those of the first stages, or of all,
            from a file, and stages that it lacks begin at random; None leaves random ones.

    Raises:
        InputError: the network has no maps at the stride or its half, or the file is not of this network.
    """

    JOINED_CHANNELS = 256

    def __init__(
        self, name: str, *, size: int, stride: int = 16, deep: bool = True, pretrained: str | None = None
    ):
        super().__init__()
        published = timm.get_pretrained_cfg(name)
        fixed = {"img_size": size} if published.fixed_input_size else {}
        strides = timm.create_model(name, features_only=True, **fixed).feature_info.reduction()
        if stride not in strides or stride // 2 not in strides:
            raise InputError(f"option model.stride={stride}: {name} has maps at the strides {strides}")
        first = strides.index(stride // 2)
        last = len(strides) if deep else first + 2
        create = _download if pretrained == "timm" else timm.create_model
        self.body = create(name, features_only=True, out_indices=tuple(range(first, last)), **fixed)
        sequence, _, stage = self.body.feature_info.module_name()[-1].rpartition(".")
        if sequence == "blocks":  # an EfficientNet of timm's has, and computes, stages that nobody reads
            self.body.blocks = self.body.blocks[: int(stage) + 1]
        if pretrained not in (None, "timm"):
            fit(self.body, _stage_weights(Path(pretrained), self.body), Path(pretrained))
        channels = self.body.feature_info.channels()
        self._kept: list[str] = []  # modules of the body that training leaves as they are
        self.join = nn.Conv2d(sum(channels[1:]), self.JOINED_CHANNELS, 1)
        self.cells = size // stride
        self.channels = [channels[0], channels[1], self.JOINED_CHANNELS]
        self.sides = [2 * self.cells, self.cells, self.cells]
        self.register_buffer("mean", torch.tensor(published.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(published.std).view(3, 1, 1), persistent=False)

    def freeze(self) -> None:
        """Keeps the layers down to the first map as they are, in training too; the others learn."""
        names = [name for name, _ in self.body.named_modules()]
        first = self.body.feature_info.module_name()[0]
        last = max(k for k, name in enumerate(names) if f"{name}.".startswith(f"{first}."))
        for name in names[: last + 1]:
            own = list(self.body.get_submodule(name).parameters(recurse=False))
            self._kept += [name] if own else []
            for parameter in own:
                parameter.requires_grad = False

    def train(self, mode: bool = True) -> "Pyramid":
        super().train(mode)
        for name in self._kept:  # else norms would take in the batches' statistics
            self.body.get_submodule(name).eval()
        return self

    def forward(self, rgb: Tensor) -> list[Tensor]:
        shallow, middle, *deep = self.body((rgb - self.mean) / self.std)
        size = tuple(middle.shape[-2:])
        deep = [F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in deep]
        return [shallow, middle, self.join(torch.cat([middle, *deep], dim=1))]


def _download(name: str, **options: Any) -> nn.Module:
    """A network of timm's with its published weights."""
    try:
        return timm.create_model(name, pretrained=True, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"option model.pretrained=timm: no weights of {name} can be had ({error}); connect to the "
            "network, or pass model.pretrained=FILE"
        ) from error


def _stage_weights(path: Path, body: nn.Module) -> dict[str, Tensor]:
    """A body's weights with those of a file in their place, under timm's names or our own files'."""
    begun = body.state_dict()
    ours = ("stem.0.", "conv_stem."), ("stem.1.", "bn1."), ("stages.", "blocks.")
    found = {}
    for name, value in weights_of(read_checkpoint(path), path).items():
        for own, theirs in ours:
            if name.startswith(own):
                name = theirs + name.removeprefix(own)
        found[name] = value
    return begun | found


def _pretrained_weights(name: str, source: str, vit: VisionTransformer) -> dict[str, Tensor]:
    """DINOv2's published weights with the position embedding brought to the network's grid."""
    if source == "timm":
        weights = _download(name, num_classes=0).state_dict()
    else:
        weights = weights_of(read_checkpoint(Path(source)), Path(source))
    weights = {
        key: value for key, value in weights.items() if key in vit.state_dict()
    }  # its mask token is unused
    if "pos_embed" not in weights:
        raise InputError(f"{source}: no weights of DINOv2 (pos_embed is missing); pass its published file")
    return weights | {"pos_embed": resample_positions(weights["pos_embed"], vit.patch_embed.grid_size[0])}


def resample_positions(embedding: Tensor, cells: int) -> Tensor:
    """Position embedding (1, 1 + n*n, C) of an n x n grid -> (1, 1 + cells*cells, C).

    DINOv2 scales by (cells + 0.1) / n instead of cells / n, and weights trained so expect it.
    """
    grid = int((embedding.shape[1] - 1) ** 0.5)
    if grid == cells:
        return embedding
    class_token, patches = embedding[:, :1], embedding[:, 1:].float()
    patches = patches.unflatten(1, (grid, grid)).permute(0, 3, 1, 2)
    scale = (cells + 0.1) / grid
    patches = F.interpolate(patches, scale_factor=(scale, scale), mode="bicubic", antialias=False)
    return torch.cat([class_token, patches.flatten(2).mT.to(embedding.dtype)], dim=1)
