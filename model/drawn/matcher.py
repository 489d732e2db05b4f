"""Describes the regions of a photo by XFeat, and matches them to drawings of the object."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from picopose.model.batches import Batches
from picopose.model.drawn.cells import cells_of, drawn_cells, match
from picopose.model.drawn.crops import GREY, Regions, crop_regions, regions_of
from picopose.model.drawn.xfeat import STRIDE, XFeat, load_xfeat
from picopose.model.stage import Setup
from picopose.utils.records import Correspondences, Crop, Drawing, Frame, Mask, Record

SIZE = 256  # px, side of the crops
REACH = 5  # cells that a match may lie away from its place in the drawing, of poses that were found before
BATCH = 16  # images that go through the small networks at once


@dataclass(frozen=True)
class Query(Record):
    """The regions of a photo, ready to be matched."""

    crop: Crop
    regions: Regions
    descriptors: Tensor  # (B, C, n, n) of XFeat
    cells: Tensor  # (B, n, n) bool: cells to match
    behind: Tensor  # (B,) grey level of the background in drawings that are matched to it


class Matcher:
    """Matches drawings to the regions of a photo.

    Args:
        batch: images that go through the network at once.
    """

    def __init__(self, xfeat: XFeat, *, batch: int):
        self.xfeat, self.batches = xfeat.eval(), Batches(batch)

    @property
    def device(self) -> torch.device:
        return next(self.xfeat.parameters()).device

    def look_at(self, frame: Frame, masks: Sequence[Mask]) -> Query:
        """Crops of B regions and their descriptors."""
        regions = regions_of(masks)
        crop = crop_regions(frame.rgb, masks, frame.K, regions, SIZE)
        # A mask removes the background; a box keeps it, and drawings matched to a box get a grey one.
        kept = crop.mask | regions.is_box[:, None, None]
        parts = self.batches.run(lambda part: self._describe(crop.rgb[part] * kept[part, None]), len(kept))
        behind = torch.where(regions.is_box, GREY, 0.0)
        return Query(crop, regions, torch.cat(parts), cells_of(crop.mask, SIZE // STRIDE), behind)

    def match(self, query: Query, owner: Tensor, drawn: Drawing, *, reach: int) -> Correspondences:
        """Matches between the regions `owner` (H,) and drawings (H, ...) through their crops' cameras.

        reach: how many cells of `STRIDE` px matching cells may lie apart.
        """
        rows = drawn_cells(drawn.mask, SIZE // STRIDE)
        parts = self.batches.run(
            lambda part: self._match(query, owner[part], drawn[part], rows[part], reach), len(rows)
        )
        return Correspondences.cat(parts)

    def _match(
        self, query: Query, owner: Tensor, drawn: Drawing, rows: Tensor, reach: int
    ) -> Correspondences:
        behind = query.behind[owner, None, None, None] * (1 - drawn.cover[:, None])
        rendered = self._describe(drawn.rgb + behind)
        return match(query.descriptors[owner], query.cells[owner], rendered, drawn, rows, reach=reach)

    def _describe(self, rgb: Tensor) -> Tensor:
        return self.xfeat(rgb.mean(dim=1, keepdim=True)).contiguous()


def load_matcher(setup: Setup) -> Matcher:
    return Matcher(load_xfeat().to(setup.device), batch=setup.config.runtime.batch or BATCH)
