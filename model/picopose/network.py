"""PicoPose (the paper's Fig. 2): a crop and the templates of its object -> dense correspondences.

    maps = network.features(crop)  # the backbone's, of templates too
    scores, chosen = network.match(descriptors(maps[-1]), mask, templates, k)  # match
    answer = network(network.real(maps), template)  # affine and flow, with a template that was chosen

PnP makes a pose of the last flow in `stage`, where templates are read that were prepared once for all photos.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from picopose.model.picopose import matching
from picopose.model.picopose.affine import AffineRegressor, Similarity
from picopose.model.picopose.dpt import DPT
from picopose.model.picopose.flow import Flow, FlowDecoder, FlowMaps
from picopose.utils.records import Record, View


@dataclass(frozen=True)
class RealCrop(Record):
    """What affine and flow read of B crops of photos."""

    descriptors: Tensor  # (B, n*n, C) unit length
    maps: tuple[Tensor, ...]  # (B, features, s, s) at three sides s, coarse to fine; empty without flow


@dataclass(frozen=True)
class Template(Record):
    """What affine and flow read of B templates."""

    view: View
    descriptors: Tensor  # (B, n*n, C) unit length
    maps: FlowMaps | None  # None without flow


@dataclass(frozen=True)
class Answer(Record):
    """How the object moves from a template to the real crop."""

    similarity: Similarity  # of the affine level
    flows: tuple[Flow, ...]  # after each level of flow, coarse to fine; empty without it


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

    def match(self, real: Tensor, mask: Tensor, templates: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Match: scores and indices (B, k) of the templates that each crop is most like, best first.

        Args:
            real: (B, n*n, C) descriptors of crops; mask: (B, S, S) bool, their object.
            templates: (V, n*n, C) descriptors of all templates of one object.
        """
        foreground = self.mask_patches(mask)
        foreground = foreground | ~foreground.any(dim=1, keepdim=True)  # a mask may miss all patch centres
        return matching.rank(real, foreground, templates, k)

    def forward(self, real: RealCrop, template: Template, start: Tensor | None = None) -> Answer:
        """Affine and flow: B crops, each with a template -> the 2D transform and the flow that refines it.

        start: (B, 3, 3) pixels of the template -> pixels of the real crop, where flow starts; None: from
            the transform of the affine level.
        """
        with torch.autocast(real.descriptors.device.type, enabled=False):  # positions need all their digits
            similarity = self.regress(real, template)
            start = similarity.matrix(template.view) if start is None else start
        return Answer(similarity, self.flow(real.maps, template.maps, template.view.mask, start))

    def regress(self, real: RealCrop, template: Template) -> Similarity:
        """Affine: the 2D transform from each template to its real crop."""
        foreground = self.mask_patches(template.view.mask)
        return self.affine(matching.similarity_volume(real.descriptors, template.descriptors, foreground))

    def real(self, maps: Sequence[Tensor]) -> RealCrop:
        """What `forward` reads of real crops, from their feature maps."""
        return RealCrop(matching.descriptors(maps[-1]), self.dense(maps))

    def template(self, view: View, maps: Sequence[Tensor]) -> Template:
        """What `forward` reads of templates, from their feature maps."""
        return Template(view, matching.descriptors(maps[-1]), self.template_maps(maps))

    def dense(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What flow reads of a real crop, from its feature maps."""
        return self.flow.project(self.dpt(maps))

    def template_maps(self, maps: Sequence[Tensor]) -> FlowMaps:
        """What flow reads of a template, from its feature maps."""
        return self.flow.template_maps(self.dpt(maps))

    def mask_patches(self, mask: Tensor) -> Tensor:
        """Foreground patches (B, n*n) bool of masks (B, S, S) bool."""
        return matching.mask_cells(mask, self.backbone.cells).flatten(1)
