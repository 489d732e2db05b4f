"""Batch norm over the batches of all training processes, so that several train as one would.

PyTorch's `SyncBatchNorm` runs on GPUs only; this one also runs on CPUs.
"""

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from picopose.utils.distributed import summed, world_size


def synchronise_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with all batch norms synchronised over all processes."""
    if world_size() == 1:
        return module
    return convert_sync_batchnorm(module) if device.type == "cuda" else synced(module)


def synced(module: nn.Module) -> nn.Module:
    """The module with batch norms for CPUs too; for one process they equal PyTorch's up to rounding."""
    if isinstance(module, nn.BatchNorm2d):
        return _SyncedBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, synced(child))
    return module


class _SyncedBatchNorm(nn.BatchNorm2d):
    """Batch norm over all processes, with the parameters and buffers of a given one.

    The dropout and activation of timm's batch norms are kept.
    """

    def __init__(self, norm: nn.BatchNorm2d):
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        self.after = nn.Sequential(*norm.children())

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.after(super().forward(x))
        count = x.numel() // x.shape[1] * world_size()
        exact = x.float()  # of bfloat16 under autocast, whose sums would be rough
        mean = summed(exact.mean(dim=(0, 2, 3))) / world_size()
        centred = exact - mean[:, None, None]
        variance = summed(centred.square().mean(dim=(0, 2, 3))) / world_size()
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return self.after((centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype))
