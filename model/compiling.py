"""Compiles the network with torch.compile where that works."""

import logging

import torch

from picopose.model.picopose.network import PicoPose

LOG = logging.getLogger(__name__)


@torch.inference_mode()
def compile_network(network: PicoPose) -> None:
    """Compiles backbone, dense head and flow decoder in place; if that fails they run uncompiled.

    Compilation happens at the first call, so every part is called here.
    """
    LOG.info("compiling the network, once for this run")
    for part in (network.backbone, network.dpt, network.flow):
        part.compile(dynamic=True)
    try:
        _use_all(network)
    except Exception as error:  # all kinds, from a missing C++ compiler, driver or kernel
        torch.compiler.set_stance("force_eager")
        _use_all(network)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        LOG.warning("torch.compile fails here (%s); going on without it", reason)


def _use_all(network: PicoPose) -> None:
    device, size = next(network.parameters()).device, network.size
    for count in (2, 3):
        maps = network.features(torch.zeros(count, 3, size, size, device=device))
        matrix = torch.eye(3, device=device).expand(count, 3, 3)
        mask = torch.ones(count, size, size, dtype=torch.bool, device=device)
        network.flow(network.dense(maps), network.template_maps(maps), mask, matrix)
