"""BigGAN as it is trained at 32x32 (arXiv:1809.11096, appendix C, and the authors' public code), with classes.

G is SN-GAN's residual generator with spectral normalisation and a batch normalisation whose scale and shift are a
linear function of the class; at this resolution z enters at the first layer only, and there is no attention. D is
SN-GAN's with 256 channels instead of 128. Weights are initialised with N(0, 0.02).
"""

from torch import nn

from dnnlib.util import UserError
from training.architectures import plain
from training.architectures.plain import (  # noqa: F401 (what the registry asks of a file)
    DISCRIMINATOR_OPTIONS,
    GENERATOR_OPTIONS,
    LIMITS,
    WORDS,
)
from training.networks import constructor_arguments


class Generator(plain.PlainGenerator):
    """z and class to images."""

    architecture = "biggan"

    def __init__(self, z_dim, c_dim, img_resolution, img_channels, width):
        arguments = constructor_arguments(locals())
        synthesis = Synthesis(z_dim, c_dim, img_channels, 4 * width)
        super().__init__(z_dim, c_dim, img_resolution, img_channels, synthesis)
        self.init_kwargs = arguments


class Synthesis(nn.Module):
    """ws [N, 1, z_dim + c_dim] to images."""

    def __init__(self, z_dim, c_dim, img_channels, channels):
        super().__init__()
        self.z_dim = z_dim
        self.first = nn.Linear(z_dim, channels * 16)
        self.blocks = nn.ModuleList(Block(channels, c_dim) for _ in range(3))
        last = nn.Conv2d(channels, img_channels, 3, padding=1)
        self.image = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), last, nn.Tanh())
        for part in (self.first, self.image, *(block.weights for block in self.blocks)):
            part.apply(_initialise)
            plain.with_spectral_norm(part)

    def forward(self, ws, **options):
        z, c = ws[:, 0, : self.z_dim], ws[:, 0, self.z_dim :]
        x = self.first(z).unflatten(1, (-1, 4, 4))
        for block in self.blocks:
            x = block(x, c)
        return self.image(x)


class Block(nn.Module):
    """Doubles the resolution."""

    def __init__(self, channels, c_dim):
        super().__init__()
        self.up = nn.Upsample(scale_factor=2)
        self.norms = nn.ModuleList(ConditionalNorm(channels, c_dim) for _ in range(2))
        sizes = {"one": 3, "two": 3, "skip": 1}
        self.weights = nn.ModuleDict(
            {name: nn.Conv2d(channels, channels, size, padding=size // 2) for name, size in sizes.items()}
        )

    def forward(self, x, c):
        inner = self.weights["one"](self.up(self.norms[0](x, c).relu()))
        return self.weights["skip"](self.up(x)) + self.weights["two"](self.norms[1](inner, c).relu())


class ConditionalNorm(nn.Module):
    """Batch normalisation with a scale and a shift per class (arXiv:1707.00683)."""

    def __init__(self, channels, c_dim):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = (nn.Linear(c_dim, channels, bias=False) for _ in range(2))
        nn.init.zeros_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x, c):
        scale, shift = (layer(c)[:, :, None, None] for layer in (self.scale, self.shift))
        return self.norm(x) * (1 + scale) + shift


class Discriminator(plain.PlainDiscriminator):
    """Image and class to a logit."""

    architecture = "biggan"

    def __init__(self, c_dim, img_resolution, img_channels, width, norm="spectral", average=False):
        arguments, channels = constructor_arguments(locals()), 4 * width
        blocks = plain.residual_blocks(img_channels, channels, norm)
        super().__init__(c_dim, img_resolution, img_channels, blocks, plain.SumPool(), channels, average)
        self.init_kwargs = arguments
        self.apply(_initialise)
        if norm == "spectral":
            plain.with_spectral_norm(self)


def _initialise(module):
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.normal_(module.weight, 0, 0.02)


def generator_arguments(settings):
    return {"z_dim": plain.Z_DIM, **settings.size, "width": plain.width(settings)}


def discriminator_arguments(settings):
    return plain.discriminator_arguments(settings, "spectral")


def check(options):
    """Raise UserError for images of another size, or without labels."""
    plain.require_size(options)
    if not options.networks.G["c_dim"]:
        raise UserError(
            f"{plain.chosen(options)} need labels: give --data with a dataset.json that has them, and --cond 1"
        )
    if options.networks.D.get("average"):
        raise UserError("--d-average ignores the class, which biggan's D needs: leave one of them out")
