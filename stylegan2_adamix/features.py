"""Split a discriminator D into a feature extractor F and a head J, D = J(F(x)), without editing it.

A discriminator with `features(img)` and `head(features, c)` is used as it is. A discriminator of StyleGAN2-ADA's
family has `block_resolutions`, blocks `b{res}(x, img) -> (x, img)` and an epilogue `b4(x, img, cmap)`: there F is
every block down to b8, and J is b4.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.parallel import DistributedDataParallel


class Features(NamedTuple):
    """Feature maps x [N, C, H, W] (or [N, C]), and the downsampled image that a `skip` head needs as well."""

    x: torch.Tensor
    img: torch.Tensor | None = None

    def split(self, lengths: Sequence[int]) -> list["Features"]:
        """The features of consecutive parts of the batch, as slices."""
        ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
        parts = [slice(end - length, end) for end, length in zip(ends, lengths)]
        return [Features(self.x[part], None if self.img is None else self.img[part]) for part in parts]


@dataclasses.dataclass(frozen=True)
class DiscriminatorOutput:
    """The output of one pass of D over a microbatch of N images.

    logits [N, 1], or [N, H] for H heads; img [N, C, H, W], as D saw them; c [N, c_dim], their labels;
    features: F(img); block_features: every block's feature maps, if requested; guests: the terms' additions to the
    pass, by the term's name.
    """

    logits: torch.Tensor
    img: torch.Tensor
    c: torch.Tensor
    features: Features
    block_features: list[torch.Tensor] = dataclasses.field(default_factory=list)
    guests: dict[str, Any] = dataclasses.field(default_factory=dict)

    def with_logits(self, logits: torch.Tensor) -> "DiscriminatorOutput":
        """The same with other logits."""
        return dataclasses.replace(self, logits=logits)


class SplitDiscriminator:
    """F and J of a discriminator, DistributedDataParallel or not.

    Raises TypeError if it cannot be split, or cannot return every block's feature maps although `blocks` is set.
    `couples`: D has batch normalisation, so a sample's features depend on its batch. `compiled` may hold a
    compiled version of D's `features`, which is used while `differentiated_once` is set.
    """

    compiled: Callable | None = None
    differentiated_once = False

    def __init__(self, D: Any, blocks: bool = False) -> None:
        D = unwrap(D)
        self.D = D
        self.couples = any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in D.modules())
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

    def features(
        self, img: torch.Tensor, blocks: bool = False, frozen: Any = None
    ) -> tuple[Features, list[torch.Tensor]]:
        """F(img) as `Features`, and the list of every block's feature maps (empty unless `blocks`).

        frozen: the result of `frozen(img)`, if already computed.
        """
        if self.own:
            F = self.compiled if self.compiled is not None and self.differentiated_once else self.D.features
            known = {} if frozen is None else {"frozen": frozen}
            features, maps = F(img, blocks=True, **known) if blocks else (F(img, **known), [])
            return Features(*features) if isinstance(features, tuple) else Features(features), maps
        x: Any = None
        maps = []
        for res in self.D.block_resolutions:
            x, img = getattr(self.D, f"b{res}")(x, img)
            maps.append(x)
        return Features(x, img), maps if blocks else []

    def frozen(self, img: torch.Tensor) -> Any:
        """The output of the part of F that is not trained, from which `forward` can continue; None if D has no
        `frozen`."""
        return self.D.frozen(img) if hasattr(self.D, "frozen") else None

    def head(self, features: Features, c: torch.Tensor | None) -> torch.Tensor:
        """J(features): logits [N, 1], or [N, H] of H heads."""
        if self.own:
            return self.D.head(features.x if features.img is None else features, c)
        conditional = getattr(self.D, "c_dim", 0) > 0
        return self.D.b4(features.x, features.img, self.D.mapping(None, c) if conditional else None)

    def forward(
        self,
        img: torch.Tensor,
        c: torch.Tensor,
        blocks: bool = False,
        guests: dict[str, Any] | None = None,
        frozen: Any = None,
    ) -> DiscriminatorOutput:
        """One pass of D over images [N, C, H, W] with labels [N, c_dim]. guests: {term: `Guest` (term.py)}.

        Guests' images go through F after the images in the same batch, or in separate batches if D couples samples.
        frozen: the result of `frozen(img)`, if already computed.
        """
        guests = guests or {}
        batches = [img, *(guest.images for guest in guests.values())]
        if len(batches) == 1 or self.couples or frozen is not None:
            features, maps = self.features(img, blocks, frozen)
            others = [self.features(batch)[0] for batch in batches[1:]]
        else:
            everything, maps = self.features(torch.cat(batches), blocks)
            features, *others = everything.split([len(batch) for batch in batches])
            maps = [m[: len(img)] for m in maps]
        for guest, own in zip(guests.values(), others):
            guest.arrive(features, own)
        replaced = [guest.logits(features, functools.partial(self.head, c=c)) for guest in guests.values()]
        logits = next((logits for logits in replaced if logits is not None), None)
        logits = self.head(features, c) if logits is None else logits
        return DiscriminatorOutput(logits, img, c, features, maps, guests)

    def forward_again(
        self, output: DiscriminatorOutput, index: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits [k, 1] and block features of the samples `index` [k] of a pass of D, with their own graph.

        The head gets the whole batch, so minibatch statistics are unchanged; the other samples are constants. With
        batch normalisation the whole batch goes through F again, without constants.
        """
        if self.couples:
            features, maps = self.features(output.img, blocks=True)
            return self.head(features, output.c)[index], [m[index] for m in maps]
        features, maps = self.features(output.img[index], blocks=True)
        # A sample may be chosen twice, so each row of the batch takes one of its copies (or none, -1).
        source = torch.full([len(output.img)], -1, device=index.device)
        source[index] = torch.arange(len(index), device=index.device)
        chosen = (source >= 0).reshape([-1] + [1] * (features.x.ndim - 1))
        whole = torch.where(chosen, features.x[source], output.features.x.detach())
        img = output.features.img
        return self.head(Features(whole, None if img is None else img.detach()), output.c)[index], maps


def _takes_blocks(features: Callable) -> bool:
    parameters = inspect.signature(getattr(features, "forward", features)).parameters.values()
    return any(p.name == "blocks" or p.kind is p.VAR_KEYWORD for p in parameters)


def unwrap(module: Any) -> Any:
    return module.module if isinstance(module, DistributedDataParallel) else module
