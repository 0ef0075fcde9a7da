"""The common parts of plain GANs at 32x32: G without a mapping network, D = J(F(x)), blocks and normalisation.

Shapes: images [N, C, 32, 32] in [-1, 1], z [N, 128], ws [N, 1, z_dim + c_dim], logits [N, 1].
"""

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from dnnlib import image_size
from dnnlib.util import UserError
from training.architectures import NORMS
from training.architectures.latents import Latents

SIDE, Z_DIM = 32, 128
WIDTH = 64  # all published channel counts are multiples of this
WORDS, LIMITS = {"norm": NORMS}, {"width": (1, 8192)}
GENERATOR_OPTIONS, DISCRIMINATOR_OPTIONS = ("width",), ("width", "d_norm", "d_average")


class PlainGenerator(nn.Module):
    """z and c to images, by `synthesis`."""

    has_styles, num_ws = False, 1
    class_names = ()

    def __init__(self, z_dim, c_dim, img_resolution, img_channels, synthesis):
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, z_dim + c_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.mapping, self.synthesis = Latents(z_dim, c_dim), synthesis

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, **options):
        return self.synthesis(self.mapping(z, c, truncation_psi, truncation_cutoff), **options)


class PlainDiscriminator(nn.Module):
    """Images to logits: F is every block down to the last feature map; J is a linear layer, or with `average` the mean
    over the features (AdaptiveMix, arXiv:2303.01559 §3.3). Classes enter by projection (arXiv:1802.05637).

    pool: the module between the last feature map [N, C, H, W] and the linear layer with `pooled` inputs.
    """

    def __init__(self, c_dim, img_resolution, img_channels, blocks, pool, pooled, average):
        super().__init__()
        self.c_dim, self.img_resolution, self.img_channels = c_dim, img_resolution, img_channels
        self.blocks, self.pool = nn.ModuleList(blocks), pool
        self.out = None if average else nn.Linear(pooled, 1)
        self.classes = nn.Linear(c_dim, pooled, bias=False) if c_dim else None

    def features(self, img, blocks=False):
        maps = []
        for block in self.blocks:
            img = block(img)
            maps.append(img)
        return (img, maps) if blocks else img

    def head(self, features, c):
        if self.out is None:
            return features.flatten(1).mean(dim=1, keepdim=True)
        pooled = self.pool(features)
        projection = (self.classes(c) * pooled).sum(dim=1, keepdim=True) if self.c_dim else 0
        return self.out(pooled) + projection

    def forward(self, img, c):
        return self.head(self.features(img), c)


class SumPool(nn.Module):
    def forward(self, x):
        return x.relu().sum(dim=[2, 3])


class UpBlock(nn.Module):
    """SN-GAN's residual block of G, which doubles the resolution. norm: the class of its normalisation layers."""

    def __init__(self, channels_in, channels, norm):
        super().__init__()
        self.skip = nn.Conv2d(channels_in, channels, 1)
        self.up = nn.Upsample(scale_factor=2)
        self.one = nn.Sequential(norm(channels_in), nn.ReLU(), self.up, nn.Conv2d(channels_in, channels, 3, padding=1))
        self.two = nn.Sequential(norm(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x):
        return self.skip(self.up(x)) + self.two(self.one(x))


class DownBlock(nn.Module):
    """SN-GAN's residual block of D. `first`: no activation before the first convolution, and the shortcut is pooled
    before its own."""

    def __init__(self, channels_in, channels, norm, down=False, first=False):
        super().__init__()
        before = [] if first else [normalisation(norm, channels_in), nn.ReLU()]
        pool = nn.AvgPool2d(2) if down else nn.Identity()
        skip = nn.Conv2d(channels_in, channels, 1) if down else nn.Identity()
        self.skip = nn.Sequential(pool, skip) if first else nn.Sequential(skip, pool)
        self.body = nn.Sequential(
            *before,
            nn.Conv2d(channels_in, channels, 3, padding=1),
            normalisation(norm, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            pool,
        )

    def forward(self, x):
        return self.skip(x) + self.body(x)


def residual_blocks(img_channels, channels, norm):
    """The four blocks of a residual D: two that halve the resolution, two that keep it."""
    yield DownBlock(img_channels, channels, norm, down=True, first=True)
    yield DownBlock(channels, channels, norm, down=True)
    yield DownBlock(channels, channels, norm)
    yield DownBlock(channels, channels, norm)


def normalisation(norm, channels):
    """D's normalisation layer. `layer` does not couple samples, as WGAN-GP needs (arXiv:1704.00028 §4)."""
    return {"batch": nn.BatchNorm2d, "layer": lambda c: nn.GroupNorm(1, c)}.get(norm, lambda _: nn.Identity())(channels)


def batch_norm(normalised):
    """The class of G's normalisation layers, or of identities."""
    return nn.BatchNorm2d if normalised else lambda _: nn.Identity()


def with_spectral_norm(module):
    """Divide the weights of every convolution and linear layer by their spectral norm (arXiv:1802.05957)."""
    for layer in [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]:
        spectral_norm(layer)
    return module


# ---- From the settings of a run to constructor arguments


def generator_arguments(settings):
    """The arguments of a generator whose batch normalisation is optional."""
    return {"z_dim": Z_DIM, **settings.size, "width": width(settings), "normalised": settings.d_norm != "none"}


def discriminator_arguments(settings, usual):
    """The arguments of a discriminator. `usual`: its norm for objectives without a penalty and without clipping."""
    norm = discriminator_norm(settings, usual)
    return {**settings.size, "width": width(settings), "norm": norm, "average": settings.d_average}


def width(settings):
    """The run's share of `WIDTH`, at least one channel."""
    return max(round(WIDTH * (settings.width or 1)), 1)


def discriminator_norm(settings, usual):
    objective = settings.objective
    if settings.d_norm:
        if settings.d_norm == "spectral" and objective.clip:
            raise UserError(
                f"--objective {objective.name} clips weights, which --d-norm spectral would rescale: leave one out "
                "of them"
            )
        return settings.d_norm
    clipped = objective.clip and usual == "spectral"
    return "layer" if objective.gradient_penalty or clipped else usual


def chosen(options):
    """A run's networks, for messages."""
    return f"the generator {options.networks.G_arch} and the discriminator {options.networks.D_arch}"


def require_size(options):
    """Raise UserError unless images have 32x32 pixels."""
    resolution = options.networks.G["img_resolution"]
    if resolution != SIDE:
        raise UserError(
            f"{chosen(options)} need images of {SIDE}x{SIDE}, not "
            f"{image_size.text(resolution)}: make such a dataset with dataset_tool.py --width {SIDE} --height {SIDE} "
            f"(--resolution {SIDE} for built-in images), or use another --cfg"
        )


def check(options):
    """Raise UserError for images of another size, or for labels, which these networks do not use."""
    require_size(options)
    if options.networks.G["c_dim"]:
        raise UserError(f"{chosen(options)} do not use labels: leave --cond out, or use --cfg biggan")
