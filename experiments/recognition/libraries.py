"""The libraries that only this study needs. Files of this folder import them from here."""

import pathlib
import sys

from dnnlib.util import say
from torch_utils import torchvision_operators

try:
    torchvision_operators.declare_missing()
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
