"""Small things that several packages need."""

import torch


def to_uint8(images):
    """Images [N, C, H, W] in [-1, 1] to uint8, as every picture and every metric of this project sees them."""
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)
