"""The projected discriminator (Sauer et al. 2021, arXiv:2111.01007): small trained heads on frozen features.

A pretrained network, EfficientNet-Lite0 or one of timm's, computes feature maps at four scales (feature_networks.py).
Fixed random convolutions mix their channels and then, from the coarsest scale to the finest, the scales (§3.2). Each
scale has a head. For the terms of the loss, F is everything up to the heads' 4x4 maps, concatenated, and J is the last
convolution of each head. The pretrained network is not trained, and not part of a state or snapshot: its weights come
from the installed package or the user's file.

Batch normalisation in the heads couples the samples of a microbatch.

Shapes: images [N, C, H, W] in [-1, 1], c [N, c_dim], features [N, channels, 4, 4], logits [N, heads].
"""

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from dnnlib.util import UserError
from torch_utils import alpha
from torch_utils.precision import convolutions
from training.architectures import feature_networks
from training.architectures.feature_networks import COARSEST
from training.architectures.feature_networks import WORDS as WORDS
from training.networks import constructor_arguments, normalized

DISCRIMINATOR_OPTIONS = ("bfloat16", "feature_network")
LAST = 4  # side of the inputs of the last convolutions
WIDEST = 128  # most channels of a head
MIX = 0.5**0.5  # keeps the variance of a sum of two maps


def discriminator_arguments(settings):
    arguments = {**settings.size, "half": settings.half_precision}
    if settings.feature_network:
        arguments |= feature_networks.arguments_of(settings.feature_network)
        require_files(arguments)
    return arguments


def check(options):
    """Refuse to start from a D whose heads were trained on features of another network."""
    from training.snapshot import load_networks

    if not options.run.resume:
        return
    theirs, ours = load_networks(options.run.resume, frozen=False)["D"].init_kwargs, options.networks.D
    if any(theirs.get(name) != ours.get(name) for name in ("network", "sha256")):
        used = theirs.get("network")
        advice = f"give --feature-network {used}=FILE with the same file" if used else "leave --feature-network out"
        raise UserError(
            f"the D of {options.run.resume} learned on features of {used or 'EfficientNet-Lite0'}: {advice}"
        )


def require_files(arguments):
    if arguments.get("network"):
        side = default_feature_side(arguments["img_resolution"], arguments["network"])
        feature_networks.load(*(arguments[name] for name in ("network", "weights", "sha256")), side, "cpu")


def with_feature_network(arguments, option):
    """The constructor's arguments with the pretrained network's file at another place. UserError for another file."""
    given = feature_networks.arguments_of(option)
    if any(given[name] != arguments.get(name) for name in ("network", "sha256")):
        used = arguments.get("network") or "EfficientNet-Lite0"
        raise UserError(f"--feature-network {option}: the run uses {used}: give the file that it was started with")
    return {**arguments, **given}


class Discriminator(nn.Module):
    """Images and labels to one logit per head.

    feature_side:  side in pixels of the pretrained network's input; None: `default_feature_side`.
    mixed, width:  channels of the mixed maps, and of a head's first convolution.
    half:          whether the pretrained network computes in half precision, where the device has it.
    network, weights, sha256:
                   a pretrained network of timm, the path of its weights and their hash; None: EfficientNet-Lite0.
    """

    architecture, calibration_images = "projected", 64

    def __init__(
        self, c_dim, img_resolution, img_channels, feature_side=None, mixed=32, width=32, half=False,
        network=None, weights=None, sha256=None,
    ):  # fmt: skip
        super().__init__()
        img_resolution = normalized(img_resolution)
        feature_side = feature_side or default_feature_side(img_resolution, network)
        self.init_kwargs = constructor_arguments(locals())
        self.c_dim, self.img_resolution, self.img_channels = c_dim, img_resolution, img_channels
        self.judging_features = feature_networks.judging_features(network)
        self.projection = Projection(feature_side, mixed, half, source=(network, weights, sha256))
        self.heads = nn.ModuleList(Head(mixed, side, width, c_dim) for side in self.projection.sides)

    def calibrate(self, images):
        """Scale the maps of every scale to unit variance on these reals, once, before training."""
        self.projection.calibrate(images)

    def load_frozen(self):
        """Load the pretrained network, which snapshots do not contain."""
        self.projection.load()

    def frozen(self, img):
        """The part of F that is not trained: mixed maps of every scale, finest first."""
        return self.projection(img)

    def features(self, img, blocks=False, frozen=None):
        """F: the heads' last maps, concatenated, [N, channels, 4, 4]. With `blocks`, also returns the maps of all the
        heads' layers.

        frozen: the result of `frozen(img)`, if already computed.
        """
        everything = [head.maps(x) for head, x in zip(self.heads, self.frozen(img) if frozen is None else frozen)]
        last = torch.cat([maps[-1] for maps in everything], dim=1)
        return (last, [x for maps in everything for x in maps]) if blocks else last

    def head(self, features, c):
        """J: logits [N, heads]."""
        parts = features.split([head.channels for head in self.heads], dim=1)
        return torch.cat([head(part, c) for head, part in zip(self.heads, parts)], dim=1)

    def forward(self, img, c):
        return self.head(self.features(img), c)


def default_feature_side(img_resolution, network=None):
    """Twice the longer side of the images, 64 to 256 pixels, but enough for a last map of 4x4."""
    longest = max(img_resolution) if isinstance(img_resolution, list) else img_resolution
    return max(min(max(2 * longest, 64), 256), COARSEST * feature_networks.scales(network)[-1].pixels)


class Projection(nn.Module):
    """Frozen features of images at four scales, mixed by fixed random convolutions; each map [N, mixed, side, side]."""

    def __init__(self, side, mixed, half=False, source=(None, None, None)):
        super().__init__()
        self.source, self.side, self.half = source, side, half
        scales = feature_networks.scales(source[0])
        self.sides = [-(-side // scale.pixels) for scale in scales]
        for i, scale in enumerate(scales):
            self.register_buffer(f"channels{i}", fixed_weight(mixed, scale.channels, 1))
            if i:
                self.register_buffer(f"scales{i}", fixed_weight(mixed, mixed, 3))
        self.register_buffer("scale", torch.ones(len(scales)))
        if not self.scale.is_meta:
            self.load()

    def load(self):
        """Load the pretrained network from its package or file."""
        self.network = feature_networks.load(*self.source, self.side, self.scale.device)

    def calibrate(self, images):
        """Set the scales' factors so that channel-mixed maps of these images have a deviation of 1."""
        with torch.no_grad():
            deviations = [x.std() for x in self._mixed_channels(self._input(images))]
        self.scale.copy_(1 / torch.stack(deviations))

    def forward(self, img):
        maps = [x * factor for x, factor in zip(self._mixed_channels(self._input(img)), self.scale)]
        for i in range(len(maps) - 1, 0, -1):  # from the coarsest map to the finest (§3.2, cross-scale mixing)
            mixed = nn.functional.conv2d(maps[i], getattr(self, f"scales{i}"), padding=1)
            size = maps[i - 1].shape[2:]
            mixed = nn.functional.interpolate(mixed, size, mode="bilinear", align_corners=False)
            maps[i - 1] = (maps[i - 1] + mixed) * MIX
        return maps

    def _mixed_channels(self, x):
        return [nn.functional.conv2d(a, getattr(self, f"channels{i}")) for i, a in enumerate(self._activations(x))]

    def _activations(self, x):
        with convolutions(x.device, self.half):
            return [maps.float() for maps in self.network(x)]

    def _input(self, img):
        """The input of the pretrained network: RGB, at its size."""
        img = opaque(img)
        if img.shape[1] == 1:
            img = img.expand(-1, 3, -1, -1)
        if img.shape[2:] != (self.side, self.side):
            img = nn.functional.interpolate(img, (self.side, self.side), mode="bilinear", align_corners=False)
        return img


def fixed_weight(channels, channels_in, side):
    """A random weight that preserves the variance of its input."""
    return torch.randn(channels, channels_in, side, side) * (channels_in * side * side) ** -0.5


def opaque(img):
    """Images with alpha on a light and dark chequered background, so that transparency is visible."""
    if img.shape[1] != 4:
        return img
    rows, columns = (torch.arange(n, device=img.device) * 8 // n for n in img.shape[2:])
    chequers = ((rows[:, None] + columns) % 2).to(img.dtype) - 0.5
    return alpha.over(img * 127.5 + 127.5, chequers * 127.5 + 127.5) / 127.5 - 1


class Head(nn.Module):
    """Mixed maps of one scale to logits: 4x4 convolutions of stride 2 down to 4x4, then one 4x4 convolution.

    With classes, the product of the embedding of c and the averaged last maps is added (arXiv:1802.05637).
    """

    def __init__(self, channels_in, side, width, c_dim):
        super().__init__()
        layers = []
        while side > LAST or not layers:
            kernel = {"kernel_size": 4, "stride": 2} if side > LAST else {"kernel_size": 3}
            layers.append(layer(channels_in, width, kernel))
            channels_in, width, side = width, min(2 * width, WIDEST), side // kernel.get("stride", 1)
        self.layers, self.channels = nn.ModuleList(layers), channels_in
        self.out = spectral_norm(nn.Conv2d(channels_in, 1, side, bias=False))
        self.embed = spectral_norm(nn.Linear(c_dim, channels_in, bias=False)) if c_dim else None

    def maps(self, x):
        """The maps of every layer; the last are [N, channels, 4, 4]."""
        maps = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return maps

    def forward(self, x, c):
        """Logits [N, 1] from the last maps."""
        logits = self.out(x).flatten(1)
        if self.embed is None:
            return logits
        return logits + (self.embed(c) * x.mean(dim=(2, 3))).sum(dim=1, keepdim=True)


def layer(channels_in, channels, kernel):
    convolution = nn.Conv2d(channels_in, channels, padding=1, bias=False, **kernel)
    return nn.Sequential(spectral_norm(convolution), nn.BatchNorm2d(channels), nn.LeakyReLU(0.2))
