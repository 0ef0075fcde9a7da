"""BigGAN's class-conditional generator as it is trained at 32x32 (arXiv:1809.11096, appendix C), of any width.

SN-GAN's residual generator with spectral normalisation and a batch normalisation whose scale and shift are a linear
function of the class. At this resolution z enters at the first layer only, and there is no attention.
"""

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


class Mapping(nn.Module):
    """z [N, z_dim] and classes [N, c_dim] -> both in a row, which is what the synthesis takes."""

    def forward(self, z, c):
        return torch.cat([z, c], dim=1)


class Synthesis(nn.Module):
    """ws [N, z_dim + c_dim] -> images [N, 3, 32, 32] in [-1, 1]."""

    def __init__(self, z_dim, c_dim, channels):
        super().__init__()
        self.z_dim = z_dim
        self.first = spectral_norm(nn.Linear(z_dim, channels * 16))
        self.blocks = nn.ModuleList(Block(channels, c_dim) for _ in range(3))
        last = spectral_norm(nn.Conv2d(channels, 3, 3, padding=1))
        self.image = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), last, nn.Tanh())

    def forward(self, ws, **_):
        z, c = ws[:, : self.z_dim], ws[:, self.z_dim :]
        x = self.first(z).unflatten(1, (-1, 4, 4))
        for block in self.blocks:
            x = block(x, c)
        return self.image(x)


class Block(nn.Module):
    """Twice the resolution."""

    def __init__(self, channels, c_dim):
        super().__init__()
        self.up = nn.Upsample(scale_factor=2)
        self.norms = nn.ModuleList(ConditionalNorm(channels, c_dim) for _ in range(2))
        self.one, self.two = (spectral_norm(nn.Conv2d(channels, channels, 3, padding=1)) for _ in range(2))
        self.skip = spectral_norm(nn.Conv2d(channels, channels, 1))

    def forward(self, x, c):
        inner = self.one(self.up(self.norms[0](x, c).relu()))
        return self.skip(self.up(x)) + self.two(self.norms[1](inner, c).relu())


class ConditionalNorm(nn.Module):
    """Batch normalisation with a scale and a shift a class (arXiv:1707.00683)."""

    def __init__(self, channels, c_dim):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = (nn.Linear(c_dim, channels, bias=False) for _ in range(2))
        nn.init.zeros_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x, c):
        scale, shift = (layer(c)[:, :, None, None] for layer in (self.scale, self.shift))
        return self.norm(x) * (1 + scale) + shift
