"""Small functions that several packages need."""

import contextlib

import torch


def to_uint8(images):
    """Images [N, C, H, W] in [-1, 1] to uint8, for all pictures and metrics."""
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def slerp(a, b, t):
    """Spherical interpolation along the last dimension (Shoemake 1985): sin((1-t)θ)/sin θ a + sin(tθ)/sin θ b.

    θ is the angle between a and b. If sin θ is 0 (same or opposite direction) the path is a straight line.
    Computed in float64; the result has the type and device of `a`.
    """
    result, place = a, "cpu" if a.device.type == "mps" else a.device  # MPS has no float64
    a, b, t = (x.to(place, torch.float64) for x in (a, b, t))
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1)[..., None]
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    parallel = sine < 1e-6
    sine = torch.where(parallel, 1.0, sine)
    weight_a = torch.where(parallel, 1 - t, torch.sin((1 - t) * angle) / sine)
    weight_b = torch.where(parallel, t, torch.sin(t * angle) / sine)
    return (weight_a * a + weight_b * b).to(result)


@contextlib.contextmanager
def buffers_restored(*modules):
    """Restore the modules' buffers at the end: batch and spectral norm change theirs in every pass in train mode."""
    kept = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.copy_(value)
