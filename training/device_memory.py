"""Estimate the largest microbatch that fits into a GPU's memory, without trying.

The memory per image depends on the size of its feature maps. The bytes per number in them are counted on the meta
device (tests/test_device_memory.py); the memory of cuDNN and the allocator is not, hence the margin.
"""

import torch

from stylegan2_adamix.objectives import OBJECTIVES
from stylegan2_adamix.terms import ADDITIVE, build_terms
from training.architectures import build, network_class
from training.networks import Discriminator, Generator

G_BYTES, D_BYTES = 9, 8  # kept by a pass of G and of D per number in G's feature maps, in half precision
FLOAT32 = 2  # factor for float32
PIPE_COPIES = 20  # float32 copies of an image that the augmentation keeps
PARAMETER_BYTES = 28  # weight, average, two moments, gradient, and a temporary gradient
WORKSPACE = 2**30  # bytes for CUDA itself and for cuDNN
MARGIN = 0.2  # share of the memory to leave free


def largest_microbatch(share, memory, networks, loss, augpipe, recorded=False):
    """The largest divisor of `share` images that fits into `memory` bytes; None for networks without a table.

    networks, loss, augpipe: of `RunOptions`. recorded: CUDA graphs (graphs.py) keep memory of their own beside that of
    the phases that are eager.
    """
    if (network_class(networks.G_arch, "G"), network_class(networks.D_arch, "D")) != (Generator, Discriminator):
        return None
    players = ("G", networks.G_arch, networks.G), ("D", networks.D_arch, networks.D)
    with torch.device("meta"):
        G, D = (build(architecture, player, kwargs) for player, architecture, kwargs in players)
    parameters = sum(p.numel() for network in (G, D) for p in network.parameters())
    room = memory * (1 - MARGIN) - WORKSPACE - PARAMETER_BYTES * parameters
    most = max(room / bytes_per_image(G, loss, augpipe) / (2 if recorded else 1), 1)
    return max(n for n in range(1, share + 1) if share % n == 0 and n <= most)


def bytes_per_image(G, loss, augpipe):
    """Device memory per image of a microbatch, in the phase that needs most."""
    blocks = [getattr(G.synthesis, f"b{res}") for res in G.synthesis.block_resolutions]
    numbers = sum(block.conv1.weight.shape[0] * block.size[0] * block.size[1] for block in blocks)
    _, terms = build_terms({cls.name: loss.terms[cls.name] for cls in ADDITIVE}, device=None)
    objective = OBJECTIVES[loss.objective_name]
    spanning = objective.pairs or objective.gradient_penalty > 0 or any(term.spans_halves for term in terms)
    halves = 2 if spanning or loss.terms["aw"] is not None else 1
    mixed = 2 if any(term.joins_pass for term in terms) else 1  # D processes images and as many guests
    always = 2 if any(term.replaces_logits for term in terms) else 1
    # Gmain; Dmain; Dreg, which differentiates twice.
    most = max(G_BYTES + D_BYTES * always, D_BYTES * halves * mixed, 2 * D_BYTES * always)
    precise = 1 if blocks[-1].use_fp16 else FLOAT32
    image = G.img_channels * blocks[-1].size[0] * blocks[-1].size[1] * 4
    return numbers * most * precise + image * (PIPE_COPIES if augpipe else 0)
