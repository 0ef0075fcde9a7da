"""Penalties on gradients: R1 and R2 of D, path length of G, and the gradient penalty of WGAN-GP.

R1, R2 and path length have their own phases, Dreg and Greg, which a training loop runs only in every n-th step.
"""

from collections.abc import Callable
from math import sqrt

import torch

from stylegan2_adamix.averages import PhaseAverage
from stylegan2_adamix.batch import Batch, Half, Images
from stylegan2_adamix.settings import R2Options, require_weight
from stylegan2_adamix.term import Part, Parts, Term


def squared_gradient_norms(images: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Squared norm of the logits' gradient with respect to the images, [N] (arXiv:1801.04406, Eq. 9)."""
    (gradient,) = torch.autograd.grad(logits.mean(dim=1).sum(), images, create_graph=True)
    return gradient.square().sum(dim=[1, 2, 3])


def path_lengths(images: torch.Tensor, ws: torch.Tensor) -> torch.Tensor:
    """Length [N] of the Jacobian of images [N, C, H, W] with respect to ws [N, num_ws, w_dim], in a random direction.

    ||J^T y|| with y normal, divided by sqrt(H*W) and averaged over the layers (arXiv:1912.04958, Eq. 4).
    """
    noise = torch.randn_like(images) / sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


class _DiscriminatorGradient(Term):
    """weight / 2 * ||dD(T(x)) / dx||^2. The gradient passes through the augmentation T, as in StyleGAN2-ADA."""

    regularises = "D"
    half = "real"

    def images(self, batch: Batch) -> Images:
        """The `Images` at which D's gradient is penalised."""
        raise NotImplementedError

    def regularise(self, batch: Batch) -> Part:
        images = self.images(batch)
        img = images.img.detach().requires_grad_()
        logits = batch.forward(batch.augment(img), images.c).logits
        penalty = squared_gradient_norms(img, logits)
        reports = {f"Loss/{self.name.lower()}_penalty": penalty, "Loss/D/reg": penalty * (self.weight / 2)}
        # Times 0: parameters that the penalty does not reach get a gradient of zero, not none.
        value = penalty * (self.weight / 2) + logits.mean(dim=1) * 0
        return Part(value, {**batch.scores(self.half, logits), **reports})


class R1(_DiscriminatorGradient):
    """R1, on the reals after APA (arXiv:1801.04406, Eq. 9)."""

    name = title = "R1"

    def __init__(self, weight: float = 10) -> None:
        self.weight = require_weight("r1_gamma", weight)

    def images(self, batch: Batch) -> Images:
        return batch.shown


class R2(R2Options, _DiscriminatorGradient):
    """R2, the same on generated images (arXiv:1801.04406, Eq. 10)."""

    half = "fake"

    def images(self, batch: Batch) -> Images:
        return batch.fakes


class PathLength(Term):
    """Path length regularisation of G: (length - a)^2 with a the moving average of lengths (arXiv:1912.04958, Eq. 4).

    `weight` of the penalty; `shrink`: use 1/shrink of the microbatch; `decay`: update rate of the average.
    """

    name, title, regularises = "pl", "path length", "G"

    def __init__(
        self, weight: float = 2, shrink: int = 2, decay: float = 0.01, device: torch.device | str | None = None
    ) -> None:
        self.weight, self.shrink = require_weight("pl_weight", weight), shrink
        self.mean = PhaseAverage(torch.zeros([], device=device), 1 - decay)

    @property
    def averages(self) -> tuple[PhaseAverage, ...]:
        return (self.mean,)

    def penalty(self, images: torch.Tensor, ws: torch.Tensor) -> torch.Tensor:
        """One value per sample, [N], without the weight."""
        lengths = path_lengths(images, ws)
        return (lengths - self.mean.update(lengths)).square()

    def regularise(self, batch: Batch) -> Part:
        img, ws = batch.generate(max(1, len(batch.gen_z) // self.shrink))
        penalty = self.penalty(img, ws)
        reports = {"Loss/pl_penalty": penalty, "Loss/G/reg": penalty * self.weight}
        # Times 0: parameters that the penalty does not reach get a gradient of zero, not none.
        return Part(penalty * self.weight + img[:, 0, 0, 0] * 0, reports)

    def state_dict(self) -> dict:
        return self.mean.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.mean.load_state_dict(state)


def gradient_penalty(
    discriminate: Callable[[torch.Tensor], torch.Tensor], real: torch.Tensor, fake: torch.Tensor
) -> torch.Tensor:
    """(||gradient|| - 1)^2 at random points between real and fake, [N] (arXiv:1704.00028, Eq. 3)."""
    t = torch.rand([len(real)] + [1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
    points = (t * real + (1 - t) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminate(points).sum(), points, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square()


class GradientPenalty(Term):
    """The penalty of WGAN-GP as a term of D's loss. The objective turns it on, not an option."""

    name = "gradient_penalty"

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def joint(self, real: Half, fake: Half, batch: Batch) -> Parts:
        critic = lambda img: batch.forward(img, real.c).logits  # noqa: E731 - the critic that trains
        penalty = gradient_penalty(critic, real.img, fake.img)
        return Parts(joint=penalty.mean() * self.weight, reports={"Loss/gradient_penalty": penalty})
