"""Classification networks, J(F(x)): networks of pytorchcv and timm as F, and a linear or an orthogonal layer as J.

    wrn-D-W           Wide ResNet of depth D and width W (arXiv:1605.07146): 28 and 10 in the paper, 10 and 1 on a CPU
    preactresnet-18   arXiv:1603.05027
    resnet-50         arXiv:1512.03385, for images of 64x64 and more

In every row of a table, the activation before the classifier is removed (AdaptiveMix, arXiv:2303.01559, §3.4), and
also its batch normalisation. Features that are all positive would lie in one orthant, where the cosine
with a vector of mixed signs cannot be near 1.

Images [N, C, H, W] in [0, 1], features [N, F], logits [N, K].
"""

import re

import torch
from torch import nn

from dnnlib.util import UserError
from experiments.recognition.libraries import CIFARPreResNet, get_wrn_cifar, timm
from stylegan2_adamix.orthogonal import OrthogonalClassifier

ARCHITECTURES = "wrn-D-W, preactresnet-18, resnet-50"
HEADS = ("linear", "orthogonal")
MIXED_LAYERS = 3  # Manifold Mixup mixes the input of one of the first three parts (arXiv:1806.05236, §4)


class Classifier(nn.Module):
    """F normalises the images, then applies a sequence of parts; `head` is J.

    mean, std: of the training images, [C].
    """

    def __init__(self, parts, head, mean, std):
        super().__init__()
        self.parts, self.head = nn.ModuleList(parts), head
        self.register_buffer("mean", mean.reshape(-1, 1, 1))
        self.register_buffer("std", std.reshape(-1, 1, 1))

    def features(self, img, layer=None, change=None):
        """F(img); `change` is applied to the input of part number `layer`."""
        x = (img - self.mean) / self.std
        for i, part in enumerate(self.parts):
            x = part(change(x) if i == layer else x)
        return x

    def forward(self, img):
        return self.head(self.features(img))


class Scaled(nn.Module):
    """The same network with its logits times `factor`."""

    def __init__(self, net, factor):
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, img):
        return self.net(img) * self.factor


def build(arch, num_classes, mean, std, head="linear", absolute=False, scale=1.0):
    """A `Classifier`. Raises UserError for an unknown architecture, or more classes than orthogonal vectors."""
    parts, num_features = architecture(arch, channels=len(mean))
    if head == "linear":
        return Classifier(parts, nn.Linear(num_features, num_classes), mean, std)
    try:
        return Classifier(parts, OrthogonalClassifier(num_features, num_classes, absolute, scale), mean, std)
    except ValueError as error:
        raise UserError(f"{arch} with an orthogonal head: {error}") from None


def architecture(name, channels):
    """The parts of F, and its number of features."""
    if match := re.fullmatch(r"wrn-(\d+)-(\d+)", name):
        depth, width = int(match[1]), int(match[2])
        if depth < 10 or (depth - 4) % 6 or not width:
            raise UserError(f"{name}: a WRN's depth is 10, 16, 22, 28, ... and its width 1 or more")
        return _stages(get_wrn_cifar(num_classes=1, blocks=depth, width_factor=width, in_channels=channels))
    if name == "preactresnet-18":
        stages = [[64] * 2, [128] * 2, [256] * 2, [512] * 2]
        return _stages(CIFARPreResNet(stages, 64, bottleneck=False, in_channels=channels, num_classes=1))
    if name == "resnet-50":
        net = timm.create_model("resnet50", num_classes=1, in_chans=channels)
        net.layer4[-1].act3 = nn.Identity()  # behind the last addition
        first = nn.Sequential(net.conv1, net.bn1, net.act1, net.maxpool, net.layer1)
        return [first, net.layer2, net.layer3, nn.Sequential(net.layer4, net.global_pool)], net.num_features
    raise UserError(f"unknown architecture {name!r}: give one of {ARCHITECTURES}")


def _stages(net):
    """pytorchcv's stages as parts, without the last normalisation and activation. The last part pools maps of any size,
    not only 8x8."""
    first, *stages, last, _, _ = net.features
    last = nn.Sequential(last, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return [nn.Sequential(first, stages[0]), *stages[1:], last], net.output.in_features


def snapshot(net):
    """The network's tensors for a safetensors file."""
    return {name: tensor.contiguous() for name, tensor in net.state_dict().items()}


def load_snapshot(net, path):
    from safetensors.torch import load_file

    try:
        net.load_state_dict(load_file(path))
    except Exception as error:  # damaged, or names and shapes of another network
        raise UserError(f"{path} is not a snapshot of this network ({type(error).__name__}): give another") from None
    return net.eval().requires_grad_(False)


def in_batches(function, images, batch=256):
    """Apply `function` of images [N, C, H, W] in [0, 1] to uint8 images in batches; concatenate the results."""
    return torch.cat([function(part.float() / 255) for part in images.split(batch)])


def of(options, sets):
    """The classifier of a run's options, with the classes and statistics of its `Sets`."""
    mean, std = sets.mean_std()
    head = {name: options[name] for name in ("head", "absolute", "scale")}
    return build(options["arch"], sets.num_classes, mean, std, **head)
