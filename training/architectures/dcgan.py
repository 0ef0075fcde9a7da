"""DCGAN (arXiv:1511.06434) at 32x32: strided 4x4 convolutions, batch normalisation in G and D, weights initialised
with N(0, 0.02)."""

from torch import nn

from training.architectures import plain
from training.architectures.plain import (  # noqa: F401 (what the registry asks of a file)
    DISCRIMINATOR_OPTIONS,
    GENERATOR_OPTIONS,
    LIMITS,
    WORDS,
    check,
    generator_arguments,
)
from training.networks import constructor_arguments


class Generator(plain.PlainGenerator):
    """4 -> 8 -> 16 -> 32."""

    architecture = "dcgan"

    def __init__(self, z_dim, c_dim, img_resolution, img_channels, width, normalised=True):
        arguments = constructor_arguments(locals())
        super().__init__(z_dim, c_dim, img_resolution, img_channels, Synthesis(z_dim, img_channels, width, normalised))
        self.init_kwargs = arguments
        self.apply(initialise)


class Synthesis(nn.Module):
    """ws [N, 1, z_dim] to images. SN-GAN's standard G has the same layers."""

    def __init__(self, z_dim, img_channels, width, normalised):
        super().__init__()
        norm = plain.batch_norm(normalised)
        channels = [8 * width, 4 * width, 2 * width, width]
        self.first = nn.Linear(z_dim, channels[0] * 16)
        self.start = nn.Sequential(norm(channels[0]), nn.ReLU())
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1), norm(b), nn.ReLU())
                for a, b in zip(channels, channels[1:])
            )
        )
        self.image = nn.Sequential(nn.Conv2d(channels[-1], img_channels, 3, padding=1), nn.Tanh())

    def forward(self, ws, **options):
        return self.image(self.blocks(self.start(self.first(ws[:, 0]).unflatten(1, (-1, 4, 4)))))


class Discriminator(plain.PlainDiscriminator):
    """32 -> 16 -> 8 -> 4; the first block is not normalised."""

    architecture = "dcgan"

    def __init__(self, c_dim, img_resolution, img_channels, width, norm="batch", average=False):
        arguments = constructor_arguments(locals())
        blocks, pooled = _blocks(img_channels, width, norm), 4 * width * 16
        super().__init__(c_dim, img_resolution, img_channels, blocks, nn.Flatten(), pooled, average)
        self.init_kwargs = arguments
        self.apply(initialise)
        if norm == "spectral":
            plain.with_spectral_norm(self)


def _blocks(img_channels, width, norm):
    channels = [img_channels, width, 2 * width, 4 * width]
    for i, (a, b) in enumerate(zip(channels, channels[1:])):
        between = plain.normalisation(norm, b) if i else nn.Identity()
        yield nn.Sequential(nn.Conv2d(a, b, 4, stride=2, padding=1), between, nn.LeakyReLU(0.2))


def initialise(module):
    """The paper's initialisation (§3)."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0, 0.02)
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)
        nn.init.zeros_(module.bias)


def discriminator_arguments(settings):
    return plain.discriminator_arguments(settings, "batch")
