"""SN-GAN's residual networks (arXiv:1802.05957, Table 4): G of 256 channels with batch normalisation, D of 128 with
spectral normalisation."""

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
    """Three residual blocks, 4 -> 32."""

    architecture = "sngan-resnet"

    def __init__(self, z_dim, c_dim, img_resolution, img_channels, width, normalised=True):
        arguments = constructor_arguments(locals())
        synthesis = _Synthesis(z_dim, img_channels, 4 * width, normalised)
        super().__init__(z_dim, c_dim, img_resolution, img_channels, synthesis)
        self.init_kwargs = arguments


class _Synthesis(nn.Module):
    def __init__(self, z_dim, img_channels, channels, normalised):
        super().__init__()
        norm = plain.batch_norm(normalised)
        self.first = nn.Linear(z_dim, channels * 16)
        self.blocks = nn.Sequential(*(plain.UpBlock(channels, channels, norm) for _ in range(3)))
        last = nn.Conv2d(channels, img_channels, 3, padding=1)
        self.image = nn.Sequential(norm(channels), nn.ReLU(), last, nn.Tanh())

    def forward(self, ws, **options):
        return self.image(self.blocks(self.first(ws[:, 0]).unflatten(1, (-1, 4, 4))))


class Discriminator(plain.PlainDiscriminator):
    """Four residual blocks and a sum over the last feature maps."""

    architecture = "sngan-resnet"

    def __init__(self, c_dim, img_resolution, img_channels, width, norm="spectral", average=False):
        arguments, channels = constructor_arguments(locals()), 2 * width
        blocks = plain.residual_blocks(img_channels, channels, norm)
        super().__init__(c_dim, img_resolution, img_channels, blocks, plain.SumPool(), channels, average)
        self.init_kwargs = arguments
        if norm == "spectral":
            plain.with_spectral_norm(self)


def discriminator_arguments(settings):
    return plain.discriminator_arguments(settings, "spectral")
