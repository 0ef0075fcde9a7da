"""The fast generator: gated convolutions and skip-layer excitation (after Liu et al. 2021, arXiv:2101.04775).

There is no mapping network and no noise: w is the normalised z, and the image's only style. Batch normalisation couples
the samples of a microbatch while G trains; G_ema uses running statistics, so its samples depend only on their own z.

Shapes: z [N, z_dim], c [N, c_dim], ws [N, 1, w_dim], images [N, img_channels, height, width] in [-1, 1].
"""

import torch
from torch import nn

from torch_utils.precision import convolutions
from training.networks import base_and_blocks, constructor_arguments, memory_format, normalize_2nd_moment, normalized

WORDS, LIMITS = {}, {}
GENERATOR_OPTIONS = ("bfloat16",)
DEEP = 16  # blocks with at most this side have a second convolution


def generator_arguments(settings):
    channels = settings.channels
    return {"z_dim": settings.row.latent_dim, **settings.size, **channels, "half": settings.half_precision}


class Generator(nn.Module):
    """z and class to an image.

    img_resolution: the side of square images, [height, width] of others (dnnlib/image_size.py).
    channel_base, channel_max: a block of side `res` has channel_base / res channels, at most channel_max.
    half: whether the blocks' convolutions compute in half precision while G trains, where the device has it.
    """

    architecture, class_names, has_styles = "fast", (), False

    def __init__(self, z_dim, c_dim, img_resolution, img_channels, channel_base=1024, channel_max=128, half=False):
        super().__init__()
        img_resolution = normalized(img_resolution)
        self.init_kwargs = constructor_arguments(locals())
        self.z_dim, self.c_dim, self.img_resolution, self.img_channels = z_dim, c_dim, img_resolution, img_channels
        self.mapping = Mapping(z_dim, c_dim)
        self.w_dim, self.num_ws = self.mapping.w_dim, 1
        self.synthesis = Synthesis(self.w_dim, img_resolution, img_channels, channel_base, channel_max, half)

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, **synthesis_kwargs):
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        return self.synthesis(ws, **synthesis_kwargs)


class Mapping(nn.Module):
    """w: z and the embedding of the class, each scaled to a mean square of one.

    Truncation scales the part of z, whose average is 0.
    """

    def __init__(self, z_dim, c_dim):
        super().__init__()
        self.num_ws, self.w_dim = 1, z_dim + (z_dim if c_dim else 0)
        self.embed = nn.Linear(c_dim, z_dim) if c_dim else None
        self.register_buffer("w_avg", torch.zeros(self.w_dim))

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None):
        w = normalize_2nd_moment(z.float())
        if truncation_psi != 1 and truncation_cutoff != 0:
            w = w * truncation_psi
        if self.embed is not None:
            w = torch.cat([w, normalize_2nd_moment(self.embed(c.float()))], dim=1)
        return w[:, None]


class Synthesis(nn.Module):
    """w to an image: from the base, 4x4 for squares, by doubling."""

    def __init__(self, w_dim, img_resolution, img_channels, channel_base, channel_max, half):
        super().__init__()
        self.num_ws, self.half = 1, half
        base, self.sides = base_and_blocks(img_resolution)
        channels = {side: max(min(channel_base // side, channel_max), 1) for side in self.sides}
        self.first = nn.Sequential(
            nn.ConvTranspose2d(w_dim, 2 * channels[4], base, bias=False),
            nn.BatchNorm2d(2 * channels[4]),
            Gate(),
        )
        for small, side in zip(self.sides, self.sides[1:]):
            setattr(self, f"b{side}", Block(channels[small], channels[side], deep=side <= DEEP))
            if side >= 16:
                setattr(self, f"gate{side}", Excitation(channels[side // 4], channels[side], base))
        self.to_image = nn.Conv2d(channels[self.sides[-1]], img_channels, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        for module in (self.first[0], self.to_image):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, ws, **_):
        with convolutions(ws.device, self.half and self.training):
            x = self.blocks(ws)
        return self.to_image(x.float()).tanh()

    def blocks(self, ws):
        """The maps of the last block."""
        x = self.first(ws[:, 0, :, None, None])
        x = x.contiguous(memory_format=memory_format(x.device.type == "cpu"))
        maps = {4: x}
        for side in self.sides[1:]:
            x = getattr(self, f"b{side}")(x)
            if side >= 16:
                x = x * getattr(self, f"gate{side}")(maps[side // 4])
            maps[side] = x
        return x


class Block(nn.Sequential):
    """Upsample by repeating pixels, then one gated convolution, or two if `deep`."""

    def __init__(self, channels_in, channels, deep):
        second = [gated(channels, channels)] if deep else []
        super().__init__(nn.Upsample(scale_factor=2), gated(channels_in, channels), *second)


def gated(channels_in, channels):
    """A 3x3 convolution half of whose outputs gate the other half."""
    return nn.Sequential(
        nn.Conv2d(channels_in, 2 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(2 * channels), Gate()
    )


class Gate(nn.Module):
    """`nn.GLU` over channels, whose gradient has the layout of its input; `nn.GLU`'s is never channels last, and batch
    normalisation takes ten times as long for mixed layouts."""

    def forward(self, x):
        maps, gates = x.chunk(2, dim=1)
        return maps * gates.sigmoid()


class Excitation(nn.Sequential):
    """Factors, 0 to 1, for the channels of a block, from the maps of the block with a quarter of its side (Eq. 1)."""

    def __init__(self, channels_in, channels, base):
        super().__init__(
            nn.AdaptiveAvgPool2d(base),
            nn.Conv2d(channels_in, channels, base, bias=False),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.Sigmoid(),
        )
