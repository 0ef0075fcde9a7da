"""The pretrained networks of the projected discriminator: feature maps at four scales, frozen.

EfficientNet-Lite0 comes with the installation. `--feature-network NAME=FILE` takes another network of timm with the
user's weights. timm builds the network from its own code; the file, safetensors, holds tensors alone.

Images: RGB [N, 3, side, side] in [-1, 1].
"""

import functools
import logging
import pathlib
import re
from typing import NamedTuple

import safetensors.torch
import torch
from torch import nn

from dnnlib.util import UserError, printable
from metrics.efficientnet import load_efficientnet
from metrics.weights import read_checked
from torch_utils import torchvision_operators
from torch_utils.precision import keep_depthwise_exact
from training.architectures.frozen import freeze
from training.networks import memory_format

BUILT_IN = {1: (16, 2), 3: (24, 4), 5: (40, 8), 11: (112, 16)}  # block: channels, pixels of one element
SCALES, COARSEST = len(BUILT_IN), 4  # number of maps, and the least side of the last one
GET = "give the model.safetensors of the network's page at Hugging Face"
# Networks whose features metrics know, by their names there (metrics/registry.py).
JUDGES = {None: "effnet", "tf_efficientnet_lite0": "effnet", "vgg16": "vgg"}


class Matching:
    """The strings that match a pattern: those that a snapshot may pass to D's constructor (WORDS)."""

    def __init__(self, pattern):
        self.pattern = re.compile(pattern)

    def __contains__(self, text):
        return self.pattern.fullmatch(text) is not None


WORDS = {
    "network": Matching(r"\w{1,100}(\.\w{1,100})?"),
    "weights": Matching(r"[^\x00-\x1f]{1,4000}\.safetensors"),
    "sha256": Matching("[0-9a-f]{64}"),
}


class Scale(NamedTuple):
    """One of the maps: its channels, and the pixels of the image that one element stands for, horizontally."""

    channels: int
    pixels: int


def arguments_of(option):
    """{"network", "weights", "sha256"} of a value of `--feature-network`. Raises UserError if it has another form, or
    if the file cannot be read."""
    network, _, file = option.partition("=")
    if network not in WORDS["network"] or file not in WORDS["weights"]:
        raise UserError(f"--feature-network {printable(option)}: give NAME=FILE, a network of timm and a .safetensors")
    path = str(pathlib.Path(file).expanduser().absolute())
    return {"network": network, "weights": path, "sha256": read_checked(path)[1]}


def judging_features(network):
    """The features of metrics that are a network's own, by their name there; None if no metric uses it."""
    return JUDGES.get(network and network.partition(".")[0])


def scales(network=None):
    """The four `Scale`s of a network of timm. None: of EfficientNet-Lite0."""
    if network is None:
        return [Scale(*scale) for scale in BUILT_IN.values()]
    return [scale for _, scale in _levels(network)]


def load(network, weights, sha256, side, device):
    """The frozen network: a module from images of `side` to the list of its four maps.

    Raises UserError if it cannot be used, or if the file has another SHA-256.
    """
    if network is None:
        return freeze(EfficientNetLite0(device))
    layout = {"memory_format": memory_format(torch.device(device).type == "cpu")}
    loaded = freeze(TimmNetwork(network, weights, sha256)).to(device, **layout)
    shapes = [(scale.channels, *[-(-side // scale.pixels)] * 2) for scale in scales(network)]
    try:
        with torch.no_grad():
            maps = loaded(torch.zeros(1, 3, side, side, device=device))
        if [tuple(x.shape[1:]) for x in maps] != shapes:
            raise ValueError("unusual shapes of maps")
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = printable(str(error).partition("\n")[0])
        raise UserError(
            f"--feature-network: {network} does not take images of {side}x{side} ({reason}): give a network such as "
            "resnet50"
        ) from None
    return loaded


class EfficientNetLite0(nn.Module):
    """The network of the metrics, up to the last block that is used."""

    def __init__(self, device):
        super().__init__()
        _, self.network = load_efficientnet(device)
        self.network.blocks = self.network.blocks[: max(BUILT_IN)]
        self.network.head = self.network.classifier = None
        keep_depthwise_exact(self.network)

    def forward(self, img):
        img = (img * 127.5 + 127.5).contiguous(memory_format=memory_format(img.device.type == "cpu"))
        outputs = self.network.activations(img)
        return [outputs[block] for block in BUILT_IN]


class TimmNetwork(nn.Module):
    """A network of timm, always in evaluation mode, with its own normalisation of images."""

    def __init__(self, network, weights, sha256):
        super().__init__()
        content, _ = read_checked(weights, sha256)
        try:
            tensors = safetensors.torch.load(content)
        except safetensors.SafetensorError as error:
            raise UserError(f"{weights} is not a safetensors file, or is damaged ({error}): {GET}") from None
        tensors = _fitting(network, tensors, weights)
        self.network = _timm().create_model(
            network,
            features_only=True,
            out_indices=[level for level, _ in _levels(network)],
            pretrained=True,
            pretrained_cfg_overlay={"state_dict": tensors},
        )
        keep_depthwise_exact(self.network)
        config = _timm().get_pretrained_cfg(network)
        self.register_buffer("mean", torch.tensor(config.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(config.std)[:, None, None])
        self.eval()

    def train(self, mode=True):
        return super().train(False)

    def forward(self, img):
        img = (img * 0.5 + 0.5 - self.mean) / self.std
        return self.network(img.contiguous(memory_format=memory_format(img.device.type == "cpu")))


def _timm():
    torchvision_operators.declare_missing()
    try:
        import timm
    except ImportError as error:
        install = "pip install --no-deps -r requirements-timm.txt"
        raise UserError(f"--feature-network needs the package {error.name}: {install}") from None
    logging.getLogger("timm").setLevel(logging.ERROR)  # it warns of the tensors that maps do not need
    return timm


def _built(network, **settings):
    """A network of timm without values."""
    try:
        known = _timm().is_model(network) and _timm().get_pretrained_cfg(network)
    except RuntimeError:  # an unknown tag, the part after the dot
        known = None
    if not known:
        raise UserError(f"--feature-network: timm has no network {network}: see timm.list_models(pretrained=True)")
    with torch.device("meta"):
        return _timm().create_model(network, pretrained=False, **settings)


@functools.cache
def _levels(network):
    """[(level of timm's, Scale)] of the four finest maps of a network that are smaller than the image."""
    try:
        features = _built(network, features_only=True).feature_info
    except (RuntimeError, AttributeError, AssertionError):  # timm's, for networks without maps
        features = None
    found = features and [Scale(*scale) for scale in zip(features.channels(), features.reduction())]
    used = [(level, scale) for level, scale in enumerate(found or ()) if scale.pixels > 1][:SCALES]
    if len({scale.pixels for _, scale in used}) < SCALES:
        raise UserError(f"--feature-network: {network} has no maps at four scales: give a network such as resnet50")
    return used


def _fitting(network, tensors, weights):
    """The tensors of a file that a network needs. Raises UserError if one is missing or has another shape."""
    fitting = {}
    for name, like in _built(network, num_classes=0).state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if name not in tensors or tensors[name].shape != like.shape:
            shape = list(tensors[name].shape) if name in tensors else "missing"
            raise UserError(
                f"{weights} does not fit {network}: {name} is {shape}, expected is {list(like.shape)}: {GET}"
            )
        fitting[name] = tensors[name]
    return fitting
