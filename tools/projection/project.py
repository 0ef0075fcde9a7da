"""Projection: find the w, or one w per layer (w+), whose image is closest to a given one.

After Karras et al. 2020 (arXiv:1912.04958, appendix D): Adam on w with a ramp of the learning rate up and down, noise
on w that fades, and optionally optimised noise maps (tools/projection/noise.py). Differences:

- several starts at once, each the best of `CANDIDATES` random samples, instead of the average w;
- the coordinates are the principal components of w in units of their standard deviations, so that steps along all
  components have similar size;
- the loss also contains a pixel error;
- w+ (Abdal et al. 2019, arXiv:1904.03189) is optimised in the second half of the steps, from the w of the first half.
"""

import dataclasses
import math
from typing import NamedTuple

import torch

from tools.projection.noise import Noise
from tools.projection.perceptual import distance, psnr, squared_error
from tools.sampling.directions import sample_w
from tools.sampling.projected import Projected
from tools.sampling.synthesis import class_label, cycled_labels

SAMPLES = 5000  # samples of w for the principal components and the candidates
CANDIDATES = 100  # a start is the best of this many random samples
RAMP_UP, RAMP_DOWN = 0.05, 0.5  # shares of the steps
W_NOISE, W_NOISE_RAMP = 0.02, 0.75  # in standard deviations of w; share of the steps after which it is 0


@dataclasses.dataclass(frozen=True)
class Settings:
    """`space` is w or w+. `noise_weight` > 0 also optimises noise maps; it is the weight of their whiteness penalty."""

    space: str = "w"
    num_steps: int = 300
    starts: int = 4
    seed: int = 0
    lr: float = 0.2
    pixel_weight: float = 3
    noise_weight: float = 0


class Fit(NamedTuple):
    """One image's projection: the result to save, and the values of every start, best start first."""

    projected: Projected  # of the best start
    images: torch.Tensor  # [starts, C, H, W] in [-1, 1]
    psnr: list  # dB
    distance: list  # perceptual
    path: torch.Tensor  # ws of the best start after each step, [num_steps, num_ws, w_dim]


class Coordinates:
    """Converts w to and from u [..., w_dim]: principal components in standard deviations from the mean."""

    def __init__(self, w):
        eigenvalues, self.components = torch.linalg.eigh(w.t().cov())
        self.mean = w.mean(dim=0)
        self.deviations = eigenvalues.clamp(min=1e-4 * eigenvalues[-1]).sqrt()

    def to(self, like):
        self.mean, self.components, self.deviations = (
            x.to(like) for x in (self.mean, self.components, self.deviations)
        )
        return self

    def encode(self, w):
        return (w - self.mean) @ self.components / self.deviations

    def decode(self, u):
        return self.mean + (u * self.deviations) @ self.components.t()


def project(G, target, perceptual, label, settings, mask=None, progress=lambda *args: None):
    """The `Fit` of a target [1, C, H, W] in [-1, 1].

    `label` [1, c_dim] is what starts are drawn with, or [SAMPLES, c_dim] for any class. `mask` [1, 1, H, W] holds the
    weights of the pixels, 0 to 1.
    `progress(step, psnr)` is called after each step with the best start's PSNR in dB.
    """
    like = G.mapping.w_avg
    w = sample_w(G, label, SAMPLES, settings.seed)
    coordinates = Coordinates(w).to(like)
    candidates = w.to(like)[: CANDIDATES * settings.starts].reshape(settings.starts, CANDIDATES, -1)
    loss_of = ProjectionLoss(perceptual, target, mask, settings.pixel_weight)
    u = coordinates.encode(torch.stack([best_candidate(G, pool, loss_of) for pool in candidates]))[:, None]
    noise = Noise(G, settings.starts, settings.noise_weight)
    generator = torch.Generator().manual_seed(settings.seed)
    widths = {"w": [1], "w+": [1, G.num_ws]}[settings.space]
    path = []
    with noise:
        for stage, width in enumerate(widths):
            u = u.detach().expand(-1, width, -1).clone().requires_grad_()
            first, last = (settings.num_steps * i // len(widths) for i in (stage, stage + 1))
            optimizer = torch.optim.Adam([u, *noise.maps.values()], betas=(0.9, 0.99))
            for step in range(first, last):
                t = (step - first) / (last - first)
                optimizer.param_groups[0]["lr"] = settings.lr * ramp(t)
                best_psnr = descend(G, u, coordinates, loss_of, noise, optimizer, t, generator)
                path.append(coordinates.decode(u.detach()).expand(-1, G.num_ws, -1))
                progress(step, best_psnr)
        return finish(G, path, loss_of, noise)


def start_labels(G, label):
    """The labels of the starts: a given `Label` for all; None: the classes in turn."""
    if label is None and G.c_dim > 0:
        return cycled_labels(G, SAMPLES)
    return class_label(G, label)


def ramp(t):
    """Factor of the learning rate after a share `t` of the steps: up linearly, down along a cosine."""
    down = min(1, (1 - t) / RAMP_DOWN)
    return (0.5 - 0.5 * math.cos(math.pi * down)) * min(1, (t + 1e-2) / RAMP_UP)


def descend(G, u, coordinates, loss_of, noise, optimizer, t, generator):
    """One step of all starts; returns the PSNR of the best."""
    strength = W_NOISE * max(0, 1 - t / W_NOISE_RAMP) ** 2
    jitter = torch.randn(u.shape, generator=generator).to(u)
    images = G.synthesis(coordinates.decode(u + strength * jitter).expand(-1, G.num_ws, -1), noise_mode="const")
    loss = loss_of(images).sum() + noise.penalty()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    noise.normalize()
    return psnr(images.detach(), loss_of.target, loss_of.mask).max().item()


@torch.no_grad()
def best_candidate(G, pool, loss_of):
    """The w [w_dim] of the pool [M, w_dim] whose image has the smallest pixel error."""
    images = (G.synthesis(w[:, None].expand(-1, G.num_ws, -1), noise_mode="const") for w in pool.split(16))
    errors = torch.cat([squared_error(image, loss_of.target, loss_of.mask) for image in images])
    return pool[errors.argmin()]


@torch.no_grad()
def finish(G, path, loss_of, noise):
    """The `Fit` after the last step, starts sorted by loss."""
    images = torch.cat([noise.synthesize(G, ws, i) for i, ws in enumerate(path[-1].split(1))])
    order = loss_of(images).argsort()
    best = int(order[0])
    maps = {name: tensor[best : best + 1].detach().clone() for name, tensor in noise.maps.items()}
    return Fit(
        Projected(path[-1][best : best + 1].clone(), maps),
        images[order],
        psnr(images, loss_of.target, loss_of.mask)[order].tolist(),
        loss_of.perceptual_distance(images)[order].tolist(),
        torch.stack([ws[best] for ws in path]),
    )


class ProjectionLoss:
    """Perceptual distance + pixel_weight * mean squared error, [N]; masked pixels count as equal."""

    def __init__(self, perceptual, target, mask, pixel_weight):
        self.target, self.mask, self.pixel_weight = target, mask, pixel_weight
        self._perceptual = perceptual
        self._features = perceptual.features(target)

    def perceptual_distance(self, images):
        if self.mask is not None:
            images = torch.lerp(self.target, images, self.mask)
        return distance(self._perceptual.features(images), self._features)

    def __call__(self, images):
        error = squared_error(images, self.target, self.mask)
        return self.perceptual_distance(images) + self.pixel_weight * error
