"""Regularisers of D and G that GANs are compared with: R1, path length, gradient penalty, LeCam, noise and blur."""

from math import sqrt

import torch
import torch.nn.functional as F

from stylegan2_adamix.averages import PhaseAverage


def r1_penalty(images, logits):
    """Squared norm of the logits' gradient, one value a sample, [N] (arXiv:1801.04406, Eq. 9)."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=[1, 2, 3])


def path_lengths(images, ws):
    """Length [N] of the Jacobian of images [N, C, H, W] in ws [N, num_ws, w_dim], in a random direction.

    ||J^T y|| with y normal, divided by sqrt(H*W) and averaged over the layers (arXiv:1912.04958, Eq. 4).
    """
    noise = torch.randn_like(images) / sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def gradient_penalty(discriminate, real, fake):
    """(||gradient|| - 1)^2 on random points between real and fake, [N] (arXiv:1704.00028, Eq. 3)."""
    t = torch.rand([len(real)] + [1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
    points = (t * real + (1 - t) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminate(points).sum(), points, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square()


class LeCam:
    """LeCam regularisation (arXiv:2104.03310, Eq. 4): scores of one kind stay near the average of the other.

    E[relu(D(x) - a_f)^2] + E[relu(a_r - D(G(z)))^2] with a_r, a_f moving averages of the scores, updated before use;
    with `one_sided=False` the paper's own form, (D(x) - a_f)^2 and (D(G(z)) - a_r)^2.
    """

    def __init__(self, weight=3e-7, decay=0.99, one_sided=True, device=None):
        if not weight >= 0:
            raise ValueError(f"LeCam weight must not be negative, not {weight}")
        self.weight, self.one_sided = weight, one_sided
        self.real = PhaseAverage(torch.zeros([1], device=device), decay, debias=True)
        self.fake = PhaseAverage(torch.zeros([1], device=device), decay, debias=True)

    def begin(self):
        """A phase starts."""
        self.real.begin()
        self.fake.begin()

    def penalties(self, real_logits, fake_logits):
        """The real and the fake half, each [N, 1], from one piece's logits [N, 1]."""
        a_r = self.real.update(real_logits.detach().float()).detach()
        a_f = self.fake.update(fake_logits.detach().float()).detach()
        real, fake = real_logits - a_f, a_r - fake_logits
        if self.one_sided:
            real, fake = real.relu(), fake.relu()
        return real.square(), fake.square()

    def state_dict(self):
        return {"real": self.real.state_dict(), "fake": self.fake.state_dict()}

    def load_state_dict(self, state):
        self.real.load_state_dict(state["real"])
        self.fake.load_state_dict(state["fake"])


class InstanceNoise:
    """Gaussian noise on D's inputs, falling linearly to nothing at `kimg` (arXiv:1610.04490)."""

    def __init__(self, std, kimg=500):
        if not std >= 0 or not kimg > 0:
            raise ValueError(f"instance noise needs std >= 0 and kimg > 0, not std {std} and kimg {kimg}")
        self.std, self.kimg = std, kimg

    def __call__(self, images, kimg):
        std = self.std * max(0, 1 - kimg / self.kimg)
        return images + torch.randn_like(images) * std if std > 0 else images


class FadingBlur:
    """Gaussian blur of D's inputs, from `sigma` pixels linearly to nothing at `kimg` (arXiv:2106.12423, App. F)."""

    def __init__(self, sigma, kimg):
        if not sigma >= 0 or not kimg >= 0:
            raise ValueError(f"blur needs sigma >= 0 and kimg >= 0, not sigma {sigma} and kimg {kimg}")
        self.sigma, self.kimg = sigma, kimg

    def __call__(self, images, kimg):
        sigma = self.sigma * (1 - kimg / self.kimg) if kimg < self.kimg else 0
        radius = int(3 * sigma)
        if radius == 0:
            return images
        offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
        taps = torch.exp2(-(offsets / sigma).square())
        taps = (taps / taps.sum()).expand(images.shape[1], 1, 1, -1)
        images = F.conv2d(images, taps, padding="same", groups=images.shape[1])
        return F.conv2d(images, taps.transpose(2, 3), padding="same", groups=images.shape[1])
