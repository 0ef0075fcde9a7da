"""The libraries that only this study needs. Files of this folder import them from here.

timm and pytorch-ood import torchvision, whose wheel on PyPI is built for CUDA. With a CPU build of torch its operators
do not load, and its import fails when it registers two of them. None of its operators is used here, so these
two names are declared first.
"""

import contextlib
import importlib.util
import pathlib
import sys

import torch

from dnnlib.util import say


def _operators_load():
    """Whether torchvision's operators can be loaded into this torch."""
    package = pathlib.Path(importlib.util.find_spec("torchvision").origin).parent
    with contextlib.suppress(OSError):
        for file in (*package.glob("_C*.so"), *package.glob("_C*.pyd")):
            torch.ops.load_library(file)
            return True
    return False


try:
    if importlib.util.find_spec("torchvision") and not _operators_load():
        _declared = torch.library.Library("torchvision", "FRAGMENT")  # lasts as long as this object
        for _name in ("nms", "qnms"):
            _declared.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import pytorch_ood.detector as detectors
    import pytorch_ood.metrics.functional as ood_metrics
    import timm
    import torchattacks
    from pytorchcv.models.preresnet_cifar import CIFARPreResNet
    from pytorchcv.models.wrn_cifar import get_wrn_cifar
    from timm.data.mixup import Mixup
except ImportError as error:  # no command runs yet that would print a UserError in one line
    needs = f"needs the package {error.name}: pip install --no-deps -r requirements-recognition.txt"
    say(f"{pathlib.Path(sys.argv[0]).name}: error: recognition {needs}", err=True)
    sys.exit(2)

__all__ = ["CIFARPreResNet", "Mixup", "detectors", "get_wrn_cifar", "ood_metrics", "timm", "torchattacks"]
