"""The generator as an ONNX model, checked with ONNX Runtime."""

import contextlib
import io
import logging
import warnings

import torch

from dnnlib.util import UserError, atomic_write
from tools.export.graph import ImageFunction, batch_axes, flat_arrays, graph_inputs, largest_difference, trace

TOLERANCE = 1e-4


@torch.no_grad()
def write_onnx(G, path):
    """Write the graph of `tools.export.graph` to `path`, or nothing if ONNX Runtime's images differ from PyTorch's.

    Its inputs have the names of `flat_arrays`, its output is `image`. Returns the largest difference. Raises
    `UserError` beyond `TOLERANCE` or without the packages, OSError if `path` cannot be written.
    """
    model = onnx_model(G)
    inputs = graph_inputs(G, seeds=[2, 3, 4], random_noise=True)
    images = run_onnx(model, flat_arrays(inputs))
    difference = largest_difference(images, ImageFunction(G)(**inputs))
    if not difference <= TOLERANCE:
        raise UserError(f"ONNX Runtime's images differ from PyTorch's by {difference:.1e}: {path} was not written")
    with atomic_write(path) as file:
        file.write(model)
    return difference


def onnx_model(G):
    """The serialised model, bytes."""
    inputs = graph_inputs(G, seeds=[0, 1])
    program = trace(G)
    with _quiet():
        exported = torch.onnx.export(
            program, kwargs=inputs, dynamo=True, input_names=list(flat_arrays(inputs)), output_names=["image"],
            dynamic_shapes=batch_axes(inputs), verbose=False,
        )  # fmt: skip
        return exported.model_proto.SerializeToString()


def run_onnx(model, arrays):
    """The images of a serialised model for inputs by name, computed by ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["image"], arrays)[0]


def check_installed():
    """Raise `UserError` unless the packages for this format are installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"ONNX needs {error.name}: pip install -r requirements-export.txt") from None


@contextlib.contextmanager
def _quiet():
    """Silence the exporter's reports of progress, optional packages and deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
