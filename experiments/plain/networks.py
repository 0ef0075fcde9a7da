"""The papers' plain GANs at 32x32: DCGAN, SN-GAN's CNN and ResNet, AutoGAN and BigGAN, of any width.

    dcgan    arXiv:1511.06434: strided 4x4 convolutions, batch normalisation in both players
    cnn      arXiv:1802.05957, Table 3: two convolutions a resolution, spectral normalisation on D
    resnet   arXiv:1802.05957, Table 4: residual blocks, spectral normalisation on D
    autogan  autogan.py's G, and the D of resnet
    biggan   biggan.py's G, which knows classes, and the D of resnet with a projection of the class (arXiv:1802.05637)

D = J(F(x)): `features` is F, every block down to the last feature map; `head` is J, a linear layer, or the average
over the features (AdaptiveMix, §3.3). Images [N, 3, 32, 32] in [-1, 1], z [N, 128], classes [N, c_dim], logits [N, 1].
Both players have the methods that the loss and the metrics of this project call.
"""

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from experiments.plain import autogan, biggan

Z_DIM = 128
ARCHITECTURES = ("dcgan", "cnn", "resnet", "autogan", "biggan")
CONDITIONAL = ("biggan",)
RESIDUAL = ("resnet", "autogan", "biggan")
NORMS = ("batch", "layer", "spectral", "none")  # of D; G has batch normalisation, or with `none` nothing either


class Generator(nn.Module):
    """z -> image. `mapping` hands z on, so that the parts stand where StyleGAN2's do."""

    z_dim, img_resolution, img_channels = Z_DIM, 32, 3

    def __init__(self, architecture, width, norm, c_dim=0):
        super().__init__()
        self.c_dim = c_dim
        self.mapping = biggan.Mapping() if architecture == "biggan" else Mapping()
        if architecture == "autogan":
            self.synthesis = autogan.Synthesis(Z_DIM, 4 * width)
        elif architecture == "biggan":
            self.synthesis = biggan.Synthesis(Z_DIM, c_dim, 4 * width)
        else:
            self.synthesis = Synthesis(architecture, width, norm != "none")

    def forward(self, z, c=None, **_):
        return self.synthesis(self.mapping(z, c))


class Mapping(nn.Module):
    def forward(self, z, c):
        return z


class Synthesis(nn.Module):
    def __init__(self, architecture, width, normalised):
        super().__init__()
        norm = nn.BatchNorm2d if normalised else lambda _: nn.Identity()
        if architecture == "resnet":
            channels = [4 * width] * 4
            blocks = [UpBlock(a, b, norm) for a, b in zip(channels, channels[1:])]
        else:
            channels = [8 * width, 4 * width, 2 * width, width]
            blocks = [
                nn.Sequential(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1), norm(b), nn.ReLU())
                for a, b in zip(channels, channels[1:])
            ]
        self.first = nn.Linear(Z_DIM, channels[0] * 16)
        self.start = nn.Sequential(nn.Unflatten(1, (channels[0], 4, 4)), norm(channels[0]), nn.ReLU())
        if architecture == "resnet":
            self.start = self.start[0]  # its blocks normalise what they are given
        self.blocks = nn.Sequential(*blocks)
        last = [norm(channels[-1]), nn.ReLU()] if architecture == "resnet" else []
        self.image = nn.Sequential(*last, nn.Conv2d(channels[-1], 3, 3, padding=1), nn.Tanh())

    def forward(self, ws, **_):
        return self.image(self.blocks(self.start(self.first(ws))))


class Discriminator(nn.Module):
    """Image, and class where there are some -> logit."""

    def __init__(self, architecture, width, norm, average=False, c_dim=0):
        super().__init__()
        self.c_dim = c_dim
        residual = architecture in RESIDUAL
        layer = spectral_norm if norm == "spectral" else lambda module: module
        self.blocks = nn.ModuleList(BLOCKS[architecture](width, norm, layer))
        self.pool = nn.Sequential(nn.ReLU(), SumPool()) if residual else nn.Flatten()
        size = 2 * width if residual else 4 * width * 16 * (2 if architecture == "cnn" else 1)
        self.out = None if average else layer(nn.Linear(size, 1))
        self.classes = layer(nn.Linear(c_dim, size, bias=False)) if c_dim else None

    def features(self, img, blocks=False):
        maps = []
        for block in self.blocks:
            img = block(img)
            maps.append(img)
        return (img, maps) if blocks else img

    def head(self, features, c=None):
        if self.out is None:
            return features.flatten(1).mean(dim=1, keepdim=True)
        pooled = self.pool(features)
        projection = (self.classes(c) * pooled).sum(dim=1, keepdim=True) if self.c_dim else 0
        return self.out(pooled) + projection

    def forward(self, img, c=None):
        return self.head(self.features(img), c)


class SumPool(nn.Module):
    def forward(self, x):
        return x.sum(dim=[2, 3])


def dcgan_blocks(width, norm, layer):
    """32 -> 16 -> 8 -> 4; the first block is not normalised."""
    channels = [3, width, 2 * width, 4 * width]
    for i, (a, b) in enumerate(zip(channels, channels[1:])):
        between = normalisation(norm, b) if i else nn.Identity()
        yield nn.Sequential(layer(nn.Conv2d(a, b, 4, stride=2, padding=1)), between, nn.LeakyReLU(0.2))


def cnn_blocks(width, norm, layer):
    """SN-GAN's standard CNN: 3x3, then 4x4 with stride 2, at 32, 16 and 8; a last 3x3 at 4."""
    channels = [3, width, 2 * width, 4 * width]
    for a, b in zip(channels, channels[1:]):
        first = [layer(nn.Conv2d(a, b, 3, padding=1)), normalisation(norm, b), nn.LeakyReLU(0.1)]
        second = [layer(nn.Conv2d(b, b, 4, stride=2, padding=1)), normalisation(norm, b), nn.LeakyReLU(0.1)]
        yield nn.Sequential(*first, *second)
    yield nn.Sequential(layer(nn.Conv2d(4 * width, 8 * width, 3, padding=1)), nn.LeakyReLU(0.1))


def resnet_blocks(width, norm, layer):
    """Two blocks that halve the resolution, two that keep it."""
    yield DownBlock(3, 2 * width, norm, layer, down=True, first=True)
    yield DownBlock(2 * width, 2 * width, norm, layer, down=True)
    yield DownBlock(2 * width, 2 * width, norm, layer)
    yield DownBlock(2 * width, 2 * width, norm, layer)


BLOCKS = {"dcgan": dcgan_blocks, "cnn": cnn_blocks, **dict.fromkeys(RESIDUAL, resnet_blocks)}


def normalisation(norm, channels):
    """D's normalisation layer: `layer` norm does not couple samples, as WGAN-GP needs (arXiv:1704.00028, §4)."""
    return {"batch": nn.BatchNorm2d, "layer": lambda c: nn.GroupNorm(1, c)}.get(norm, lambda _: nn.Identity())(channels)


class UpBlock(nn.Module):
    def __init__(self, channels_in, channels, norm):
        super().__init__()
        self.skip = nn.Conv2d(channels_in, channels, 1)
        self.up = nn.Upsample(scale_factor=2)
        self.one = nn.Sequential(norm(channels_in), nn.ReLU(), self.up, nn.Conv2d(channels_in, channels, 3, padding=1))
        self.two = nn.Sequential(norm(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x):
        return self.skip(self.up(x)) + self.two(self.one(x))


class DownBlock(nn.Module):
    """`first`: no activation before the first convolution, and the shortcut is pooled first."""

    def __init__(self, channels_in, channels, norm, layer, down=False, first=False):
        super().__init__()
        before = [] if first else [normalisation(norm, channels_in), nn.ReLU()]
        pool = nn.AvgPool2d(2) if down else nn.Identity()
        skip = layer(nn.Conv2d(channels_in, channels, 1)) if down else nn.Identity()
        self.skip = nn.Sequential(pool, skip) if first else nn.Sequential(skip, pool)
        self.body = nn.Sequential(
            *before,
            layer(nn.Conv2d(channels_in, channels, 3, padding=1)),
            normalisation(norm, channels),
            nn.ReLU(),
            layer(nn.Conv2d(channels, channels, 3, padding=1)),
            pool,
        )

    def forward(self, x):
        return self.skip(x) + self.body(x)
