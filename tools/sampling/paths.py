"""Closed paths through key frames: frame i of n is at time i / n, and the frame after the last one is the first.

Key frames are a tensor [K, ...] of z or ws. Frames are [F * K, ...] with F frames from one key frame to the next, so
every key frame is also a frame.
"""

import math

import torch

from torch_utils.misc import slerp

EASINGS = {  # share of the time -> share of the way, both 0 to 1: how fast a segment starts and ends
    "linear": lambda t: t,
    "sine": lambda t: (1 - torch.cos(math.pi * t)) / 2,
    "cubic": lambda t: t * t * (3 - 2 * t),
}


def times(keys, frames, easing="linear"):
    """Time of each frame, in key frames: float64 [frames * keys], from 0 to below `keys`."""
    steps = torch.arange(keys * frames)
    share = (steps % frames).double() / frames
    return steps.div(frames, rounding_mode="floor") + EASINGS[easing](share)


def interpolate(keys, t, interp, center=None):
    """Points [N, ...] of the closed path through `keys` [K, ...] at times `t` [N].

    `linear`: straight lines. `slerp`: great circles about `center` (0 without one). `circular`: one smooth curve.
    """
    if interp == "circular":
        return circular(keys, t)
    first = t.floor().long()
    a, b = keys[first % len(keys)], keys[(first + 1) % len(keys)]
    share = (t - first).to(keys.dtype).to(keys.device).reshape(-1, *[1] * (keys.ndim - 1))
    if interp == "linear":
        return torch.lerp(a, b, share)
    center = torch.zeros([], device=keys.device) if center is None else center
    return center + slerp(a - center, b - center, share)


def circular(keys, t):
    """The trigonometric polynomial of lowest degree through the key frames; through three it is an ellipse.

    Its weights at a time are values of the Dirichlet kernel. For an odd number of key frames their squares sum to 1, so
    a path through independent normal z is normal at every time; for an even number this holds only at key frames.
    """
    n = len(keys)
    distance = t[:, None] - torch.arange(n, dtype=torch.float64)  # [N, K], in key frames
    harmonics = torch.arange(1, (n - 1) // 2 + 1, dtype=torch.float64)
    weights = 1 + 2 * torch.cos(2 * math.pi / n * distance[..., None] * harmonics).sum(dim=-1)
    if n % 2 == 0:
        weights = weights + torch.cos(math.pi * distance)
    points = (weights / n) @ keys.flatten(1).cpu().double()  # on the CPU: MPS has no float64
    return points.to(keys).reshape(-1, *keys.shape[1:])


def sweep(first, last, frames, easing="linear"):
    """Truncations [frames] from `first` to `last` and back, closed like the paths."""
    share = torch.arange(frames, dtype=torch.float64) / frames
    return (first + (last - first) * EASINGS[easing](1 - (1 - 2 * share).abs())).float()
