"""Penalties on gradients: R1 of D, path length of G, and the gradient penalty of WGAN-GP."""

from math import sqrt

import torch

from stylegan2_adamix.averages import PhaseAverage
from stylegan2_adamix.term import Parts, Term


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


class PathLength:
    """Path length regularisation of G: (length - a)^2 with a the moving average of lengths (arXiv:1912.04958, Eq. 4).

    `weight` of the penalty; `shrink`: it takes 1/shrink of the microbatch; `decay`: how fast the average moves.
    """

    def __init__(self, weight=2, shrink=2, decay=0.01, device=None):
        if not weight >= 0:
            raise ValueError(f"weights must not be negative: pl_weight {weight}")
        self.weight, self.shrink = weight, shrink
        self.mean = PhaseAverage(torch.zeros([], device=device), 1 - decay)

    def penalty(self, images, ws):
        """One value a sample, [N], without the weight."""
        lengths = path_lengths(images, ws)
        return (lengths - self.mean.update(lengths)).square()


def gradient_penalty(discriminate, real, fake):
    """(||gradient|| - 1)^2 on random points between real and fake, [N] (arXiv:1704.00028, Eq. 3)."""
    t = torch.rand([len(real)] + [1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
    points = (t * real + (1 - t) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminate(points).sum(), points, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square()


class GradientPenalty(Term):
    """The penalty of WGAN-GP as a term of D's loss; it comes with the objective `wgan-gp`, not with an option."""

    name, weight = "gradient_penalty", 10  # the weight of arXiv:1704.00028, Alg. 1
    spans_halves = True

    def discriminator(self, batch):
        critic = lambda img: batch.judge(img, batch.real_c).logits  # noqa: E731 - the critic that trains
        penalty = gradient_penalty(critic, batch.real.img, batch.fake.img)
        return Parts(joint=penalty.mean() * self.weight, reports={"Loss/gradient_penalty": penalty})
