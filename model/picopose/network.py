"""PicoPose: from a crop and the templates of its object to a pose, in three stages of pixel correspondences.

Match the crop against the templates, regress the 2D transform to the best ones, refine it to a dense flow.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from picopose.model.picopose import matching
from picopose.model.picopose.affine import AffineRegressor, Similarity
from picopose.model.picopose.dpt import DPT
from picopose.model.picopose.flow import Flow, FlowDecoder, TemplateMaps


class PicoPose(nn.Module):
    """The network of the paper.

    Args:
        backbone: crops (B, 3, S, S) -> three feature maps, the last (B, C, n, n); see `backbone`.
        size: S, the crops' side in px.
        dpt_channels: of the dense head's three inputs; features: of its outputs.
        width: of the affine regressor and the flow decoder.
        half_cell: see `FlowDecoder`; viewing_ray: see `affine.pose_from_similarity`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        size: int = 224,
        dpt_channels: Sequence[int] = (512, 1024, 1024),
        features: int = 256,
        width: int = 256,
        half_cell: float = 0.0,
        viewing_ray: bool = True,
    ):
        super().__init__()
        self.size = size
        self.floored = False  # the targets that the weights were trained with, see `flow.floored`
        self.viewing_ray = viewing_ray
        self.backbone = backbone
        self.affine = AffineRegressor(cells=backbone.cells, patch=size // backbone.cells, width=width)
        self.dpt = DPT(backbone.channels, backbone.sides, channels=dpt_channels, features=features)
        self.flow = FlowDecoder(size=size, features=features, width=width, half_cell=half_cell)

    @property
    def bytes_per_hypothesis(self) -> int:
        """About what one hypothesis takes at the finest level: the maps of both crops and of the heads."""
        side = 4 * self.backbone.cells
        return 8 * side**2 * sum(p.shape[0] for p in self.flow.levels[-1].parameters() if p.dim() == 4)

    def features(self, rgb: Tensor, *, bf16: bool = False) -> list[Tensor]:
        """The backbone's maps of crops (B, 3, S, S), in the crops' precision; bf16 is faster but coarser."""
        with torch.autocast(rgb.device.type, torch.bfloat16, enabled=bf16):
            maps = self.backbone(rgb)
        return [m.to(rgb.dtype) for m in maps]

    def mask_patches(self, mask: Tensor) -> Tensor:
        """Foreground patches (B, n*n) bool of masks (B, S, S) bool."""
        return matching.mask_cells(mask, self.backbone.cells).flatten(1)

    def regress(self, real: Tensor, template: Tensor, template_mask: Tensor) -> Similarity:
        """Stage 2: descriptors (B, n*n, C) of both crops, template masks (B, S, S) -> 2D transform."""
        return self.affine(matching.similarity_volume(real, template, self.mask_patches(template_mask)))

    def dense(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What stage 3 reads of a real crop, from its feature maps."""
        return self.flow.project(self.dpt(maps))

    def template_maps(self, maps: Sequence[Tensor]) -> TemplateMaps:
        """What stage 3 reads of a template, from its feature maps."""
        return self.flow.template_maps(self.dpt(maps))

    def refine(
        self, real: Sequence[Tensor], template: TemplateMaps, template_mask: Tensor, matrix: Tensor
    ) -> list[Flow]:
        """Stage 3: the dense maps of both crops and a start (B, 3, 3) -> flow after each level."""
        return self.flow(real, template, template_mask, matrix)
