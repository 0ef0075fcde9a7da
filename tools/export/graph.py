"""The generator as a graph of PyTorch's standard operations, which runs without our code.

Inputs of the graph, all float32 on the CPU: z [N, z_dim]; c [N, c_dim] if the network has classes; psi [1], the
truncation; for each layer with noise its map [N, 1, H, W], named after the layer (`b8.conv0`). Output: images
[N, img_channels, H, W], about -1 to 1. N can be any number from 1 up. Four channels are red, green, blue and alpha
with straight colours, as in image files; G's colours are multiplied by alpha.
"""

import warnings

import numpy as np
import torch
from torch.func import functional_call

from dnnlib.util import atomic_write
from tools.sampling.synthesis import cycled_labels, seed_z, truncate
from torch_utils.alpha import straight

NOISE = ".noise_const"


class ImageFunction(torch.nn.Module):
    """G with all variable inputs as arguments; truncation applies to all layers."""

    def __init__(self, G):
        super().__init__()
        self.G = G

    def forward(self, z, psi, noise, c=None):
        ws = truncate(self.G, self.G.mapping(z, z.new_zeros([z.shape[0], 0]) if c is None else c), psi)
        buffers = {layer + NOISE: noise_map for layer, noise_map in noise.items()}
        images = functional_call(self.G.synthesis, buffers, (ws,), {"noise_mode": "const"})
        return straight(images) if self.G.img_channels == 4 else images


def largest_difference(images, expected):
    """Of two batches of images [N, C, H, W]; with four channels, of colours times alpha, as they look.

    In nearly transparent pixels, the last bit of alpha changes the colours, but invisibly.
    """
    images, expected = (torch.as_tensor(batch) for batch in (images, expected))
    if images.shape[1] == 4:
        images, expected = ((1 + batch) / 2 for batch in (images, expected))
        images, expected = (
            torch.cat([batch[:, :3] * batch[:, 3:], batch[:, 3:]], dim=1) * 2 for batch in (images, expected)
        )
    return (images - expected).abs().max().item()


def graph_inputs(G, seeds, psi=0.7, random_noise=False):
    """Arguments of `ImageFunction` by name. Seeds give the same z as in generate.py; sample i has class i modulo c_dim.

    The noise maps are the network's own, or random from the first seed.
    """
    z = torch.cat([seed_z(seed, G.z_dim) for seed in seeds])
    noise = {
        name.removesuffix(NOISE): noise_map.expand(len(seeds), 1, -1, -1).clone()
        for name, noise_map in G.synthesis.named_buffers()
        if name.endswith(NOISE)
    }
    if random_noise:
        generator = torch.Generator().manual_seed(seeds[0])
        noise = {layer: torch.randn(noise_map.shape, generator=generator) for layer, noise_map in noise.items()}
    inputs = {"z": z, "psi": torch.tensor([psi]), "noise": noise}
    if G.c_dim > 0:
        inputs["c"] = cycled_labels(G, len(seeds))
    return inputs


def flat_arrays(inputs):
    """The inputs as NumPy arrays under single names, in the graph's order: z, psi, noise.b8.conv0 and so on, c."""
    tensors = {"z": inputs["z"], "psi": inputs["psi"]}
    tensors |= {f"noise.{layer}": noise_map for layer, noise_map in inputs["noise"].items()}
    tensors |= {"c": inputs["c"]} if "c" in inputs else {}
    return {name: tensor.numpy() for name, tensor in tensors.items()}


@torch.no_grad()
def write_example(G, path):
    """Write the inputs of two samples and the resulting `image` as .npz, under the names of `flat_arrays`."""
    inputs = graph_inputs(G, seeds=[0, 1])
    with atomic_write(path) as file:
        np.savez(file, **flat_arrays(inputs), image=ImageFunction(G)(**inputs).numpy())


@torch.no_grad()
def trace(G):
    """An `ExportedProgram` of `ImageFunction(G)` for any batch size. G: on the CPU, in evaluation mode."""
    inputs = graph_inputs(G, seeds=[0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # from inside torch.export
        program = torch.export.export(ImageFunction(G), (), inputs, dynamic_shapes=batch_axes(inputs), strict=False)
        program = program.run_decompositions({torch.ops.aten.convolution_backward.default: _transposed_convolution})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # contains paths of this machine
    return program


def batch_axes(inputs):
    """The axis of variable size of each input: the first, except for psi."""
    batch = {0: torch.export.Dim("batch")}
    axes = dict.fromkeys(inputs, batch) | {"psi": None}
    return axes | {"noise": dict.fromkeys(inputs["noise"], batch)}


def _transposed_convolution(gradient, x, weight, bias_sizes, stride, padding, dilation, transposed, _, groups, mask):
    """Replace a convolution's input gradient (used by our upsampling) by a transposed convolution for other tools."""
    if transposed or list(mask) != [True, False, False]:
        raise NotImplementedError("only input gradients of ordinary convolutions are supported")
    reached = [
        (gradient.shape[i + 2] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (weight.shape[i + 2] - 1) + 1
        for i in (0, 1)
    ]
    beyond = [x.shape[i + 2] - reached[i] for i in (0, 1)]
    image = torch.ops.aten.convolution(gradient, weight, None, stride, padding, dilation, True, beyond, groups)
    return image, None, None
