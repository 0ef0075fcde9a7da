"""Directions in w along which images change: SeFA's closed form, and GANSpace's principal components.

- SeFA (Shen & Zhou 2021, arXiv:2007.06600, eq. 7): the unit vectors that a layer's style affine A maps to the longest
  change of style are the eigenvectors of AᵀA with the largest eigenvalues.
- GANSpace (Härkönen et al. 2020, arXiv:2004.02546, section 2.1): the principal components of w over many z.

A strength of 1 along a principal component is one standard deviation of w along it. SeFA's unit vectors have no scale
of w: there, a strength of 1 is one standard deviation along the first principal component.
"""

from typing import NamedTuple

import numpy as np
import torch

from dnnlib.util import UserError, atomic_write, printable

SAMPLES = 10_000  # samples of w for statistics


class Direction(NamedTuple):
    """`vector` [w_dim]: added to w for a strength of 1; `layers`: the indices into ws that it is added to."""

    vector: torch.Tensor
    layers: tuple


@torch.no_grad()
def sample_w(G, label, count=SAMPLES, seed=0):
    """w [count, w_dim], float64 on the CPU, of seeded z under one label [1, c_dim], or under one each."""
    device = G.mapping.w_avg.device
    z = torch.from_numpy(np.random.RandomState(seed).randn(count, G.z_dim).astype(np.float32)).to(device)
    labels = label.to(device).expand(count, -1)
    parts = zip(z.split(1000), labels.split(1000))
    return torch.cat([G.mapping(*part)[:, 0] for part in parts]).cpu().double()  # MPS has no float64


def sefa(G, layers, count, w, variant="paper"):
    """{sefa0: Direction, ...}: the `count` directions that change the styles of `layers` most, largest change first.

    variant: `paper` uses every style affine of the layers unchanged (eq. 7). `official` follows the authors' public
    code: every row is normalised, so each channel counts equally, and of the torgb layers only the last counts.
    """
    A = torch.cat([weight.cpu().double() for i, weight in style_weights(G, variant) if i in layers])
    A = torch.nn.functional.normalize(A, dim=1) if variant == "official" else A
    eigenvectors = torch.linalg.eigh(A.t() @ A).eigenvectors.flip(1).t()  # rows, largest eigenvalue first
    deviation = torch.linalg.eigvalsh(w.t().cov())[-1].sqrt()
    return _named("sefa", eigenvectors[:count] * deviation, layers)


def pca(layers, count, w):
    """{pca0: Direction, ...}: the first `count` principal components of w [N, w_dim], times the standard deviation."""
    eigenvalues, eigenvectors = torch.linalg.eigh(w.t().cov())
    components = eigenvectors * eigenvalues.clamp(min=0).sqrt()
    return _named("pca", components.flip(1).t()[:count], layers)


def style_weights(G, variant="paper"):
    """(index into ws, A [in_channels, w_dim]) of the generator's style affines, including those of torgb.

    With `official`, only the last block's torgb is included.
    """
    first = 0
    for res in G.synthesis.block_resolutions:
        block = getattr(G.synthesis, f"b{res}")
        names = [name for name in ("conv0", "conv1", "torgb") if hasattr(block, name)]
        if variant == "official" and res != G.synthesis.block_resolutions[-1]:
            names = [name for name in names if name != "torgb"]
        for i, name in enumerate(names):
            yield first + i, getattr(block, name).affine.weight
        first += block.num_conv


def _named(prefix, vectors, layers):
    """Directions with a fixed sign: the largest entry of each vector is positive."""
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    vectors = (vectors * largest.sign()).float()
    return {f"{prefix}{i}": Direction(vector, tuple(layers)) for i, vector in enumerate(vectors)}


def apply_directions(ws, directions, strengths):
    """New ws [N, num_ws, w_dim]: each named direction times its strength is added in its layers."""
    ws = ws.clone()
    for name, strength in strengths.items():
        if name not in directions:
            raise UserError(f"unknown direction {name}: give one of {', '.join(directions)}")
        vector, layers = directions[name]
        ws[:, list(layers)] += strength * vector.to(ws.device)
    return ws


# ---- Files


def save_directions(path, directions):
    """Write an npz: `names`, and for each name `NAME/vector` float32 [w_dim] and `NAME/layers` int64 [n]."""
    arrays = {"names": np.array(list(directions))}
    for name, (vector, layers) in directions.items():
        arrays[f"{name}/vector"] = vector.cpu().numpy()
        arrays[f"{name}/layers"] = np.array(layers, dtype=np.int64)
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def load_directions(path, G):
    """{name: Direction} of a file that `save_directions` wrote. UserError if it does not fit G."""
    try:
        with np.load(path, allow_pickle=False) as data:
            fields = {str(name): [data[f"{name}/{key}"] for key in Direction._fields] for name in data["names"]}
        return {name: _checked(G, *arrays) for name, arrays in fields.items()}
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror or printable(error)}): check the path") from None
    except Exception:  # NumPy and zipfile raise many kinds on damaged files
        raise UserError(f"{path} has no directions for this network: give a file that directions.py wrote") from None


def _checked(G, vector, layers):
    if vector.shape != (G.w_dim,) or vector.dtype.kind != "f" or not np.isfinite(vector).all():
        raise ValueError(f"a vector is not {G.w_dim} finite floats")
    if layers.ndim != 1 or layers.dtype.kind != "i" or not all(0 <= i < G.num_ws for i in layers):
        raise ValueError(f"layers are not within 0 to {G.num_ws - 1}")
    return Direction(torch.from_numpy(vector.astype(np.float32)), tuple(int(i) for i in layers))


# ---- Pictures


def strip(ws, direction, strength, columns):
    """ws [N * columns, num_ws, w_dim]: each of `ws` [N, ...] moved by strengths from -strength to strength."""
    vector, layers = direction
    moved = ws.repeat_interleave(columns, dim=0)
    moved[:, list(layers)] += (steps(strength, columns).to(ws.device).repeat(len(ws))[:, None] * vector.to(ws.device))[
        :, None
    ]
    return moved


def steps(strength, columns):
    """The strengths of a strip [columns], from -strength to strength; the middle one is exactly 0."""
    return torch.tensor([strength * (2 * i - columns + 1) / (columns - 1) for i in range(columns)])
