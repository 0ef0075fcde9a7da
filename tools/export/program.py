"""The generator as a torch.export program (.pt2): PyTorch runs it without our code."""

import io
import warnings

import torch

from dnnlib.util import UserError, atomic_write
from tools.export.graph import ImageFunction, graph_inputs, largest_difference, trace

TOLERANCE = 1e-5


@torch.no_grad()
def write_program(G, path):
    """Write the program of `tools.export.graph` to `path`, or nothing if its images differ from G's.

    Returns the largest difference. Raises `UserError` beyond `TOLERANCE`, OSError if `path` cannot be written.
    """
    buffer = io.BytesIO()
    torch.export.save(trace(G), buffer)
    inputs = graph_inputs(G, seeds=[2, 3, 4], random_noise=True)
    buffer.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # from inside torch.export
        images = torch.export.load(buffer).module()(**inputs)
    difference = largest_difference(images, ImageFunction(G)(**inputs))
    if not difference <= TOLERANCE:
        raise UserError(f"the program's images differ from PyTorch's by {difference:.1e}: {path} was not written")
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
    return difference
