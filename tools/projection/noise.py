"""Noise maps, optimised with w and regularised to stay white (Karras et al. 2020, arXiv:1912.04958, appendix D)."""

import torch

from tools.sampling.projected import noise_layers


class Noise:
    """Context manager: puts `maps` {"b8.conv0": [starts, 1, H, W]} into G for optimisation; {} for a weight of 0."""

    def __init__(self, G, starts, weight):
        self.weight = weight
        self._layers = noise_layers(G) if weight > 0 else {}
        self._constants = {name: layer.noise_const for name, layer in self._layers.items()}
        self.maps = {
            name: constant.repeat(starts, 1, 1, 1).requires_grad_() for name, constant in self._constants.items()
        }

    def __enter__(self):
        for name, layer in self._layers.items():
            layer.noise_const = self.maps[name]
        return self

    def __exit__(self, *exception):
        for name, layer in self._layers.items():
            layer.noise_const = self._constants[name]

    def penalty(self):
        """weight * sum over maps and scales of the squared correlations of neighbouring pixels (appendix D)."""
        total = 0
        for tensor in self.maps.values():
            while True:
                total = total + sum((tensor * tensor.roll(1, dim)).mean(dim=(1, 2, 3)).square().sum() for dim in (2, 3))
                if min(tensor.shape[2:]) <= 8:
                    break
                tensor = torch.nn.functional.avg_pool2d(tensor, 2) * 2  # keeps the variance of white noise
        return self.weight * total

    @torch.no_grad()
    def normalize(self):
        """Mean 0 and variance 1 for each map, after each step."""
        for tensor in self.maps.values():
            tensor -= tensor.mean(dim=(2, 3), keepdim=True)
            tensor *= tensor.square().mean(dim=(2, 3), keepdim=True).clamp(min=1e-12).rsqrt()

    def synthesize(self, G, ws, start):
        """The image [1, C, H, W] of ws [1, num_ws, w_dim] with the maps of one start."""
        for name, layer in self._layers.items():
            layer.noise_const = self.maps[name][start : start + 1]
        return G.synthesis(ws, noise_mode="const")
