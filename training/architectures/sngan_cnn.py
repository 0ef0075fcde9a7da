"""SN-GAN's standard CNN (arXiv:1802.05957, Table 3): two convolutions per resolution, spectral normalisation in D."""

from torch import nn

from training.architectures import dcgan, plain
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
    """The layers of DCGAN. The paper does not specify the initialisation, so it is PyTorch's default."""

    architecture = "sngan-cnn"

    def __init__(self, z_dim, c_dim, img_resolution, img_channels, width, normalised=True):
        arguments = constructor_arguments(locals())
        synthesis = dcgan.Synthesis(z_dim, img_channels, width, normalised)
        super().__init__(z_dim, c_dim, img_resolution, img_channels, synthesis)
        self.init_kwargs = arguments


class Discriminator(plain.PlainDiscriminator):
    """A 3x3 and a 4x4 convolution of stride 2 at 32, 16 and 8; a last 3x3 at 4."""

    architecture = "sngan-cnn"

    def __init__(self, c_dim, img_resolution, img_channels, width, norm="spectral", average=False):
        arguments = constructor_arguments(locals())
        blocks, pooled = _blocks(img_channels, width, norm), 8 * width * 16
        super().__init__(c_dim, img_resolution, img_channels, blocks, nn.Flatten(), pooled, average)
        self.init_kwargs = arguments
        if norm == "spectral":
            plain.with_spectral_norm(self)


def _blocks(img_channels, width, norm):
    channels = [img_channels, width, 2 * width, 4 * width]
    for a, b in zip(channels, channels[1:]):
        first = [nn.Conv2d(a, b, 3, padding=1), plain.normalisation(norm, b), nn.LeakyReLU(0.1)]
        second = [nn.Conv2d(b, b, 4, stride=2, padding=1), plain.normalisation(norm, b), nn.LeakyReLU(0.1)]
        yield nn.Sequential(*first, *second)
    yield nn.Sequential(nn.Conv2d(4 * width, 8 * width, 3, padding=1), nn.LeakyReLU(0.1))


def discriminator_arguments(settings):
    return plain.discriminator_arguments(settings, "spectral")
