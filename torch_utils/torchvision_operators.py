"""Lets torchvision be imported beside any build of torch.

timm and pytorch-ood import torchvision, whose wheel on PyPI is built for CUDA. With a CPU build of torch its operators
do not load, and its import fails when it registers two of them. We use none of its operators, so these two names are
declared first.
"""

import contextlib
import functools
import importlib.util
import pathlib

import torch


@functools.cache
def declare_missing():
    """Declare the two operators if torchvision is installed and its own cannot be loaded.

    The declarations last as long as the result.
    """
    if importlib.util.find_spec("torchvision") is None or _load():
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def _load():
    """Whether torchvision's operators can be loaded into this torch."""
    package = pathlib.Path(importlib.util.find_spec("torchvision").origin).parent
    with contextlib.suppress(OSError):
        for file in (*package.glob("_C*.so"), *package.glob("_C*.pyd")):
            torch.ops.load_library(file)
            return True
    return False
