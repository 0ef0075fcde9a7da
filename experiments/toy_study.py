"""Toy distributions of 2-D points: small GANs with the terms of `stylegan2_adamix`, and their mode coverage.

Nine Gaussians and three circles: AdaptiveMix (arXiv:2303.01559), Fig. 3. Eight Gaussians on the unit circle: aw
(arXiv:2012.03149), §5.3. Points are [N, 2], logits [N, 1]; "steps" are steps of D.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from stylegan2_adamix.adaptivemix import AdaptiveMix
from stylegan2_adamix.aw import AdaptiveWeights
from stylegan2_adamix.objectives import clip_weights, objective
from stylegan2_adamix.sdp import SampleDifferences

DATA = 50_000  # points in a set (AdaptiveMix, §4.1)
MEASURED = 2_000  # generated points per measurement
WINDOW = 2.0  # points lie in [-2, 2]²
GRID = 48  # the confidence map is GRID x GRID
CHECKPOINTS = 10
ARCS = 8  # a circle counts as this many modes
BATCH = 128
Z_DIM = 64
WIDTH = 128
CRITIC_STEPS = 5  # WGAN: steps of D a step of G (arXiv:1701.07875, Alg. 1)
LR_GAN = (2e-4, 1e-3)  # of G and D: with these the plain GAN loses modes, as in the papers
LR_WGAN = (5e-4, 5e-4)


# The sets


class Gaussians(NamedTuple):
    """Equally likely Gaussians around `centres` [modes, 2]."""

    centres: torch.Tensor
    sigma: float

    @property
    def modes(self):
        return len(self.centres)

    def sample(self, n):
        return self.centres[torch.randint(self.modes, [n])] + self.sigma * torch.randn(n, 2)

    def assign(self, points):
        """Each point's nearest mode [N], and its distance in sigmas [N]."""
        distance, mode = torch.cdist(points, self.centres).min(dim=1)
        return mode, distance / self.sigma


class Circles(NamedTuple):
    """Equally likely circles around 0 whose radius is blurred by sigma; each is cut into `ARCS` modes."""

    radii: torch.Tensor
    sigma: float

    @property
    def modes(self):
        return len(self.radii) * ARCS

    def sample(self, n):
        angle = 2 * math.pi * torch.rand(n)
        radius = self.radii[torch.randint(len(self.radii), [n])] + self.sigma * torch.randn(n)
        return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)

    def assign(self, points):
        """Each point's nearest arc [N], and its distance to that circle in sigmas [N]."""
        distance, circle = (points.norm(dim=1, keepdim=True) - self.radii).abs().min(dim=1)
        turn = torch.atan2(points[:, 1], points[:, 0]) / (2 * math.pi) % 1
        return circle * ARCS + (turn * ARCS).long().clamp(max=ARCS - 1), distance / self.sigma


def point_set(name):
    """The set `nine`, `circles` or `eight`."""
    if name == "nine":
        side = torch.tensor([-1.5, 0, 1.5])
        return Gaussians(torch.cartesian_prod(side, side), sigma=0.1)
    if name == "circles":
        return Circles(torch.tensor([0.6, 1.2, 1.8]), sigma=0.05)
    turn = torch.arange(8) / 8 * 2 * math.pi
    return Gaussians(torch.stack([turn.cos(), turn.sin()], dim=1), sigma=0.02)


# The networks


def generator():
    return nn.Sequential(
        nn.Linear(Z_DIM, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2)
    )  # fmt: skip


class Discriminator(nn.Module):
    """D = J(F(x)): F has two layers; J is linear, or the average over the features (AdaptiveMix, §3.3)."""

    def __init__(self, average):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, WIDTH), nn.Linear(WIDTH, WIDTH)])
        self.out = None if average else nn.Linear(WIDTH, 1)

    def features(self, x):
        """Every layer's features, a list of [N, WIDTH]; the last is F(x)."""
        maps = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            maps.append(x)
        return maps

    def head(self, features):
        return features.mean(dim=1, keepdim=True) if self.out is None else self.out(features)

    def forward(self, x):
        return self.head(self.features(x)[-1])


# Training


class Player(NamedTuple):
    net: nn.Module
    optimizer: torch.optim.Optimizer


class Terms(NamedTuple):
    """The objective, whether D's weights are clipped, and the terms (None: off)."""

    objective: NamedTuple
    clip: bool
    mix: AdaptiveMix | None
    aw: AdaptiveWeights | None
    sdp: SampleDifferences | None


def terms_of(method, steps):
    """`method` is an objective, perhaps with a term and its variant: gan, gan-adamix, gan-adamix-x10, wgan-sdp-unit.

    SDP starts after a tenth of the run, and its k grows every fifth.
    """
    base, *words = method.split("-")
    if base == "wgan" and "aw" in words:
        raise ValueError("aw takes the sigmoid of the scores, which means nothing for WGAN: use gan-aw")
    kimg = steps * BATCH / 1000
    weight = next((float(word[1:]) for word in words if word.startswith("x")), 1.0)
    schedule = {"start_kimg": kimg / 10, "grow_kimg": kimg / 5}
    return Terms(
        objective=objective("wgan" if base == "wgan" else "logistic"),
        clip=base == "wgan" and "unclipped" not in words,
        mix=AdaptiveMix(weight=weight) if "adamix" in words else None,
        aw=AdaptiveWeights() if "aw" in words else None,
        sdp=SampleDifferences(norm="unit" if "unit" in words else "squared", **schedule) if "sdp" in words else None,
    )


def mixing(mix, D, x, features):
    """AdaptiveMix on one batch (Eq. 1-5)."""
    mixture = mix.draw(len(x))
    hard = D.features(mixture.blend(x))[-1]
    return mix.weight * mix.distance(mixture.blend(features), hard).mean()


def differences(sdp, kimg, fake, real, fake_pass, real_pass):
    """SDP on one batch (Eq. 8); a pass is (logits, every layer's features)."""
    (fake_logits, fake_maps), (real_logits, real_maps) = fake_pass, real_pass
    k = sdp.count(kimg, len(fake))
    best, nearest, _ = sdp.choose(fake_logits, fake, real, k)
    scores, features = sdp.differences(
        fake_logits[best], real_logits[nearest], [m[best] for m in fake_maps], [m[nearest] for m in real_maps]
    )
    return sdp.weight * (scores + features).mean()


def discriminator_step(terms, D, optimizer, real, fake, kimg):
    real_maps, fake_maps = D.features(real), D.features(fake)
    real_logits, fake_logits = D.head(real_maps[-1]), D.head(fake_maps[-1])
    real_loss, fake_loss = terms.objective.real(real_logits).mean(), terms.objective.fake(fake_logits).mean()
    joint_loss = None
    if terms.mix:
        real_loss = real_loss + mixing(terms.mix, D, real, real_maps[-1])
        fake_loss = fake_loss + mixing(terms.mix, D, fake, fake_maps[-1])
    if terms.sdp and terms.sdp.active(kimg):
        joint_loss = differences(terms.sdp, kimg, fake, real, (fake_logits, fake_maps), (real_logits, real_maps))
    optimizer.zero_grad()
    if terms.aw:
        terms.aw.begin()
        terms.aw.backward(D.parameters(), real_loss, fake_loss, real_logits, fake_logits, joint_loss)
    else:
        (real_loss + fake_loss + (0 if joint_loss is None else joint_loss)).backward()
    optimizer.step()
    if terms.clip:
        clip_weights(D, terms.objective.clip)


def generator_step(terms, G, D, optimizer, real, kimg):
    D.requires_grad_(False)
    fake = G(torch.randn(BATCH, Z_DIM))
    maps = D.features(fake)
    logits = D.head(maps[-1])
    loss = terms.objective.generator(logits).mean()
    if terms.sdp and terms.sdp.active(kimg):
        real_maps = D.features(real)
        real_pass = (D.head(real_maps[-1]), real_maps)
        loss = loss + differences(terms.sdp, kimg, fake.detach(), real, (logits, maps), real_pass)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    D.requires_grad_(True)


def players(wasserstein, rates=None):
    """G and D, each with its optimizer: Adam, or RMSprop for WGAN (arXiv:1701.07875, Alg. 1), at `rates` (G's, D's)."""
    rates = rates or (LR_WGAN if wasserstein else LR_GAN)
    nets = (generator(), Discriminator(average=wasserstein))
    if wasserstein:
        return [Player(net, torch.optim.RMSprop(net.parameters(), lr=lr)) for net, lr in zip(nets, rates)]
    adam = {"betas": (0.5, 0.999), "fused": True}
    return [Player(net, torch.optim.Adam(net.parameters(), lr=lr, **adam)) for net, lr in zip(nets, rates)]


def train(set_name, method, seed, steps, rates=None):
    """One run: the measurements and the drawings (points and map) at each checkpoint."""
    torch.manual_seed(seed)
    points, terms = point_set(set_name), terms_of(method, steps)
    data = points.sample(DATA)
    wasserstein = terms.objective.name == "wgan"
    G, D = players(wasserstein, rates)
    history, drawn = [], []
    for step in range(1, steps + 1):
        kimg = step * BATCH / 1000
        real = data[torch.randint(DATA, [BATCH])]
        with torch.no_grad():
            fake = G.net(torch.randn(BATCH, Z_DIM))
        discriminator_step(terms, D.net, D.optimizer, real, fake, kimg)
        if step % (CRITIC_STEPS if wasserstein else 1) == 0:
            generator_step(terms, G.net, D.net, G.optimizer, real, kimg)
        if step * CHECKPOINTS // steps > (step - 1) * CHECKPOINTS // steps:
            numbers, picture = measure(points, data, G.net, D.net, wasserstein)
            history.append({"step": step, **numbers})
            drawn.append(picture)
    return history, drawn


# Measures


def coverage(points, samples):
    """Modes with at least a tenth of their fair share of samples within 3 sigma; total share within 3 sigma."""
    mode, distance = points.assign(samples)
    within = distance <= 3
    counts = torch.bincount(mode[within], minlength=points.modes)
    return int((counts >= 0.1 * len(samples) / points.modes).sum()), float(within.float().mean())


def sliced_distance(a, b, directions=32):
    """Wasserstein-1 distance between projections of two equally large sets of points, averaged over directions."""
    angle = torch.arange(directions) / directions * math.pi
    projection = torch.stack([angle.cos(), angle.sin()])
    return float(((a @ projection).sort(dim=0).values - (b @ projection).sort(dim=0).values).abs().mean())


def confidence_map(D, wasserstein):
    """D over the window [GRID, GRID] (rows: y), sigmoid unless Wasserstein, and the mean norm of its gradient."""
    side = torch.linspace(-WINDOW, WINDOW, GRID)
    grid = torch.cartesian_prod(side, side).flip(1).requires_grad_()
    confidence = D(grid) if wasserstein else D(grid).sigmoid()
    (gradient,) = torch.autograd.grad(confidence.sum(), grid)
    return confidence.detach().reshape(GRID, GRID), float(gradient.norm(dim=1).mean())


@torch.no_grad()
def stretch(D, a, b):
    """Mean of |F(a) - F(b)| / |a - b| over pairs of points (AdaptiveMix, Table 3)."""
    return float(((D.features(a)[-1] - D.features(b)[-1]).norm(dim=1) / (a - b).norm(dim=1).clamp(min=1e-6)).mean())


def measure(points, data, G, D, wasserstein):
    """Measurements at one checkpoint, and its drawings: a few generated points [N, 2] and the confidence map."""
    with torch.no_grad():
        samples = G(torch.randn(MEASURED, Z_DIM))
        real = data[torch.randint(DATA, [MEASURED])]
        mode, _ = points.assign(real)
        scores = D(real)[:, 0]
        by_mode = torch.stack([scores[mode == m].mean() for m in range(points.modes)])
    modes, share = coverage(points, samples)
    confidence, slope = confidence_map(D, wasserstein)
    numbers = {
        "modes": modes,
        "share": share,
        "distance": sliced_distance(samples, real),
        "slope": slope,
        "stretch": stretch(D, real, real.flip(0)),
        "real_score": float(scores.mean()),
        "uneven": float(by_mode.std()),
    }
    return numbers, (samples[:300].numpy(), confidence.numpy())
