"""WGAN with AdaptiveMix at 32x32, written as in the papers.

    python experiments/plain/wgan_adamix.py --data cifar10.zip

WGAN: arXiv:1701.07875, Algorithm 1. AdaptiveMix: arXiv:2303.01559, Eq. 1-6 and §3.3: the critic is J(F(x)), J averages
over the features, and the distance is the l2 norm. For runs with metrics and resume, and with a D that has
batch normalisation, like DCGAN:

    python train.py --outdir runs --data cifar10.zip --cfg dcgan --objective wgan --d-average --d-steps 5 --adamix
"""

import pathlib
import sys

import click
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from dnnlib.options import command  # noqa: E402
from dnnlib.util import make_directory, run_command, say  # noqa: E402
from stylegan2_adamix.adaptivemix import AdaptiveMix  # noqa: E402
from training.architectures.dcgan import Discriminator, Generator  # noqa: E402
from training.architectures.plain import Z_DIM  # noqa: E402
from training.dataset import InfiniteSampler, open_dataset  # noqa: E402
from training.grids import save_png, tile  # noqa: E402

BATCH, CRITIC_STEPS, CLIP, LR = 64, 5, 0.01, 5e-5  # m, n_critic, c and alpha of WGAN's Algorithm 1


def shrinkage(mix, F, x, v, other_x=None, other_v=None):
    """L_ada: distance of the features of hard samples from the mixture of their sources' features (Eq. 1-5).

    x: images, v = F(x). Pairs are within the batch, or with `other_x`, images of the other class, real or fake (§3.3).
    """
    mixture = mix.draw(len(x))
    x_hat = mixture.blend(x, other_x)  # Eq. 1: a hard sample is a convex combination of two images
    v_target = mixture.blend(v, other_v)  # Eq. 3: its features should be the same combination of theirs
    return mix.weight * mix.distance(v_target, F(x_hat)).mean()  # Eq. 4-5, with noise on F(x_hat)


def critic_loss(mix, D, real, fake):
    """The critic's loss (Eq. 6): E[D(G(z))] - E[D(x)] + E over reals and fakes of L_ada."""
    F, J = D.features, D.head
    v_fake = F(fake)
    if mix.pairs == "cross":
        v_real = F(real)
        return J(v_fake, None).mean() - J(v_real, None).mean() + shrinkage(mix, F, real, v_real, fake, v_fake)
    loss = J(v_fake, None).mean() + shrinkage(mix, F, fake, v_fake)
    v_real = F(real)
    return loss - J(v_real, None).mean() + shrinkage(mix, F, real, v_real)


def train(G, D, mix, batches, steps):
    """`steps` of the generator. `batches` yields reals [BATCH, 3, 32, 32] in [-1, 1]. Yields the critic's loss."""
    G_optimizer = torch.optim.RMSprop(G.parameters(), lr=LR)
    D_optimizer = torch.optim.RMSprop(D.parameters(), lr=LR)
    for _ in range(steps):
        for _ in range(CRITIC_STEPS):
            with torch.no_grad():
                fake = G(torch.randn(BATCH, Z_DIM), None)
            loss = critic_loss(mix, D, next(batches), fake)
            D_optimizer.zero_grad()
            loss.backward()
            D_optimizer.step()
            with torch.no_grad():
                for w in D.parameters():
                    w.clamp_(-CLIP, CLIP)
        G_optimizer.zero_grad()
        (-D(G(torch.randn(BATCH, Z_DIM), None), None).mean()).backward()
        G_optimizer.step()
        yield loss.item()


def real_batches(path):
    data = open_dataset(path)
    loader = torch.utils.data.DataLoader(data, BATCH, sampler=InfiniteSampler(len(data)))
    for img, _ in loader:
        yield img.float() / 127.5 - 1


@command()
@click.option("--data", required=True, metavar="PATH", help="Folder or zip of 32x32 images.")
@click.option("--out", default="wgan_adamix.png", show_default=True, help="Grid of 64 samples, drawn every 100 steps.")
@click.option("--steps", type=click.IntRange(1), default=10000, show_default=True, help="Steps of G.")
@click.option("--width", type=click.IntRange(1), default=64, show_default=True, help="Channels of D's first block.")
@click.option("--weight", type=float, default=1.0, show_default=True, help="Weight of AdaptiveMix; 0: plain WGAN.")
@click.option("--pairs", type=click.Choice(["within", "cross"]), default="within", show_default=True,
              help="Mix images of a batch, or each real with a generated one.")  # fmt: skip
def main(data, out, steps, width, weight, pairs):
    """Train WGAN with AdaptiveMix."""
    make_directory(pathlib.Path(out).parent)
    torch.manual_seed(0)
    size = {"c_dim": 0, "img_resolution": 32, "img_channels": 3, "width": width}
    G, D = Generator(Z_DIM, **size), Discriminator(**size, norm="none", average=True)
    mix = AdaptiveMix(dist="l2", weight=weight, pairs=pairs)
    z = torch.randn(64, Z_DIM)
    for step, loss in enumerate(train(G, D, mix, real_batches(data), steps), 1):
        if step % 100 == 0 or step == steps:
            say(f"step {step}: critic's loss {loss:.4g}")
            with torch.no_grad():
                save_png(out, tile(((G(z, None) + 1) * 127.5).round().clamp(0, 255).byte().numpy(), 8))


if __name__ == "__main__":
    run_command(main)
