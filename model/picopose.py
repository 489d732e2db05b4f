"""PicoPose: from a crop and the templates of its object to a pose, in three stages of pixel correspondences.

Match the crop against the templates, regress the 2D transform to the best ones, refine it to a dense flow.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from model import matching
from model.affine import AffineRegressor, Similarity
from model.dpt import DPT
from model.flow import Flow, FlowDecoder
from utils.structs import View


class PicoPose(nn.Module):
    """The network of the paper.

    Args:
        backbone: crops (B, 3, S, S) -> three feature maps, the last (B, C, n, n); see `model.backbone`.
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
        self.viewing_ray = viewing_ray
        self.backbone = backbone
        self.affine = AffineRegressor(cells=backbone.cells, patch=size // backbone.cells, width=width)
        self.dpt = DPT(backbone.channels, backbone.sides, channels=dpt_channels, features=features)
        self.flow = FlowDecoder(size=size, features=features, width=width, half_cell=half_cell)

    def mask_patches(self, mask: Tensor) -> Tensor:
        """Foreground patches (B, n*n) bool of masks (B, S, S) bool."""
        return matching.mask_cells(mask, self.backbone.cells).flatten(1)

    def regress(self, real: Tensor, template: Tensor, template_mask: Tensor) -> Similarity:
        """Stage 2: last feature maps (B, C, n, n) of both crops, template masks (B, S, S) -> 2D transform."""
        volume = matching.similarity_volume(
            matching.descriptors(real), matching.descriptors(template), self.mask_patches(template_mask)
        )
        return self.affine(volume)

    def refine(self, real: list[Tensor], template: list[Tensor], views: View, matrix: Tensor) -> list[Flow]:
        """Stage 3: the feature maps of both crops and a start (B, 3, 3) -> flow after each level."""
        return self.flow(self.dpt(real), self.dpt(template), views.mask, matrix)
