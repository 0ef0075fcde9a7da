"""How a discriminator D is split into a feature extractor F and a head J, D = J(F(x)), without editing it.

A discriminator that offers `features(img)` and `head(features, c)` is taken at its word. One of the StyleGAN2-ADA
family has `block_resolutions`, blocks `b{res}(x, img) -> (x, img)` and an epilogue `b4(x, img, cmap)`: there F is
every block down to b8, J is b4.
"""

import inspect
from typing import NamedTuple

import torch
from torch.nn.parallel import DistributedDataParallel


class Features(NamedTuple):
    """Feature maps x [N, C, H, W] (or [N, C]), and the downsampled image that a `skip` head needs as well."""

    x: torch.Tensor
    img: torch.Tensor | None = None

    def select(self, index):
        """The samples `index` of the batch."""
        return Features(self.x[index], None if self.img is None else self.img[index])


class SplitDiscriminator:
    """F and J of a discriminator, DistributedDataParallel or not.

    TypeError where it cannot be split, or cannot give every block's feature maps though `blocks` will be asked for.
    """

    def __init__(self, D, blocks=False):
        D = unwrap(D)
        self.D = D
        self.own = all(callable(getattr(D, name, None)) for name in ("features", "head"))
        resolutions = getattr(D, "block_resolutions", ())
        family = bool(resolutions) and all(hasattr(D, f"b{res}") for res in [*resolutions, 4])
        if not self.own and not family:
            raise TypeError(
                f"{type(D).__name__} cannot be split into features and head: give it features(img) and "
                "head(features, c), or block_resolutions, b{res}(x, img) -> (x, img) and b4(x, img, cmap)"
            )
        if self.own and blocks and not _takes_blocks(D.features):
            raise TypeError(
                f"{type(D).__name__}.features gives the last feature map only: let features(img, blocks=True) return "
                "the features and a list of all feature maps, which SDP compares"
            )

    def features(self, img, blocks=False):
        """F(img) as `Features`, and the list of every block's feature maps (None unless `blocks`)."""
        if self.own:
            features = self.D.features(img, blocks=True) if blocks else self.D.features(img)
            features, maps = features if blocks else (features, None)
            return Features(*features) if isinstance(features, tuple) else Features(features), maps
        x, maps = None, []
        for res in self.D.block_resolutions:
            x, img = getattr(self.D, f"b{res}")(x, img)
            maps.append(x)
        return Features(x, img), maps if blocks else None

    def head(self, features, c):
        """J(features): logits [N, 1]."""
        if self.own:
            return self.D.head(features.x if features.img is None else features, c)
        conditional = getattr(self.D, "c_dim", 0) > 0
        return self.D.b4(features.x, features.img, self.D.mapping(None, c) if conditional else None)


def _takes_blocks(features):
    parameters = inspect.signature(getattr(features, "forward", features)).parameters.values()
    return any(p.name == "blocks" or p.kind is p.VAR_KEYWORD for p in parameters)


def unwrap(module):
    return module.module if isinstance(module, DistributedDataParallel) else module
