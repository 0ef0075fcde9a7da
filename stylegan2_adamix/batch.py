"""A microbatch for the terms of the loss: its images with their labels, and the halves of D's batch.

Shapes: N images of a microbatch; logits [N, 1]; images [N, C, H, W] in about [-1, 1].
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from stylegan2_adamix.features import DiscriminatorOutput


class Images(NamedTuple):
    """Images before augmentation [N, C, H, W], their labels [N, c_dim], and a mask [N] of true reals (None: all are, or
    it does not matter)."""

    img: torch.Tensor
    c: torch.Tensor
    true_real: torch.Tensor | None = None


class Seen(NamedTuple):
    """Images before augmentation, images as D sees them [N, C, H, W], and the output of D's frozen part for these, if
    already computed (features.py). With `one_pass`, D's phase passes them, with G's graph, to G's phase."""

    source: Images
    img: torch.Tensor
    frozen: Sequence[torch.Tensor] | None = None

    def detached(self) -> "Seen":
        """A detached copy."""
        frozen = None if self.frozen is None else [x.detach() for x in self.frozen]
        return Seen(Images(self.source.img.detach(), self.source.c), self.img.detach(), frozen)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Half(DiscriminatorOutput):
    """The real or the fake half of D's batch: D's output (features.py) and its images.

    name:   "real" or "fake".
    source: the images before augmentation. `source.c` is the label that D got.
    """

    name: str
    source: Images


class Batch:
    """The microbatch, for the terms.

    phase:        Gmain, Greg, Gboth, Dmain, Dreg or Dboth.
    step:         the number of D's step, counted from 1.
    kimg:         thousands of real images shown before this step, or before this microbatch if the host does not say.
    reals:        the true reals with their labels, before augmentation and before APA.
    gen_z, gen_c: latents and labels of the generated images.
    gain, last:   factor of its gradient, and whether it is the last of its phase.
    weighted:     aw weights the two halves, so a joint part needs its own graph.
    active:       the terms that take part in this step.
    replacing:    the terms that replace logits, in every phase.
    """

    def __init__(
        self, core: Any, reals: Images, gen_z: torch.Tensor, gen_c: torch.Tensor, gain: float, last: bool
    ) -> None:
        self._core, self.gain, self.last = core, gain, last
        self.replacing = core.replacing
        self.phase, self.step, self.kimg = core.phase, core.steps, core.cur_nimg / 1e3
        self.weighted = core.backward.aw is not None
        self.reals, self.gen_z, self.gen_c = reals, gen_z, gen_c
        self.active = [term for term in core.terms.values() if term.active(self.kimg, self.step)]
        self.block_features = any(term.needs_block_features for term in self.active)
        self._shown: Images | None = None
        self._fakes: Images | None = None
        self._real_outputs: dict[bool, DiscriminatorOutput] = {}

    def generate(self, count: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Images of the first `count` latents (None: all), and their ws [count, num_ws, w_dim]."""
        return self._core.host.generate(self.phase, self.gen_z[:count], self.gen_c[:count], self.last)

    @property
    def fakes(self) -> Images:
        """Generated images without a graph, and their labels; cached for the microbatch."""
        if self._fakes is None:
            with torch.no_grad():
                self._fakes = Images(self.generate()[0], self.gen_c)
        return self._fakes

    def generated_half(self, joining: Sequence = ()) -> Half:
        """The fake `Half` of G's phase, with G's graph. With `one_pass`, D's phase has generated its images."""
        if self._core.kept:
            made = self._core.kept.pop(0)
        else:
            img = self.generate()[0]
            made = Seen(Images(img, self.gen_c), self.augment(img))
        half = self._half("fake", made, joining)
        if self._core.inputs.apa:  # APA shows these images to D among the reals
            self._core.inputs.apa.remember(made.source.img, made.source.c)
        return half

    def fake_half(self, joining: Sequence = ()) -> Half:
        """The fake `Half` of D's phase, without G's graph, which `one_pass` keeps for G's phase."""
        if not self._core.one_pass:
            return self.half("fake", self.fakes, joining)
        with torch.enable_grad():
            img = self.generate()[0]
            seen = self.augment(img)
            made = Seen(Images(img, self.gen_c), seen, self._core.split.frozen(seen))
        self._core.kept.append(made)
        self._fakes = Images(img.detach(), self.gen_c)
        return self._half("fake", made.detached(), joining)

    @property
    def shown(self) -> Images:
        """The reals of D's phases, after APA; cached for the microbatch."""
        if self._shown is None:
            self._shown = Images(*self._core.inputs.reals(self.reals.img, self.reals.c))
        return self._shown

    def augment(self, img: torch.Tensor) -> torch.Tensor:
        """Images as D sees them."""
        return self._core.inputs(img, self.kimg)

    def forward(self, img: torch.Tensor, c: torch.Tensor, blocks: bool = False) -> DiscriminatorOutput:
        """D on images [N, C, H, W] with labels [N, c_dim], with the replaced logits if a term replaces them."""
        return self._core.discriminate(img, c, self.replacing, blocks)

    def plain_forward(self, img: torch.Tensor, c: torch.Tensor, blocks: bool = False) -> DiscriminatorOutput:
        """D without any term's guests; its logits have the same scale as `forward`'s."""
        output = self._core.discriminate(img, c, (), blocks)
        return output.with_logits(output.logits * self._core.logit_scale)

    def forward_again(self, half: Half, index: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Plain logits [k, 1] and block features of the samples `index` [k] of a half, with their own graph."""
        logits, blocks = self._core.split.forward_again(half, index)
        return logits * self._core.logit_scale, blocks

    @torch.no_grad()
    def real_output(self, plain: bool = False) -> DiscriminatorOutput:
        """D on the augmented true reals, without a graph, for G's phases; cached. plain: like `plain_forward`.

        All of them go through D, because the head's minibatch statistics need a whole microbatch of reals.
        """
        plain = plain and bool(self.replacing)
        if plain not in self._real_outputs:
            forward = self.plain_forward if plain else self.forward
            output = forward(self.augment(self.reals.img), self.reals.c, self.block_features)
            self._real_outputs[plain] = output
        return self._real_outputs[plain]

    def half(self, name: str, images: Images, joining: Sequence = (), other: DiscriminatorOutput | None = None) -> Half:
        """The real or the fake `Half` of D's batch: one pass of D over augmented images, with the guests of terms.

        Reports D's scores.
        """
        return self._half(name, Seen(images, self.augment(images.img)), joining, other)

    def _half(self, name: str, made: Seen, joining: Sequence = (), other: DiscriminatorOutput | None = None) -> Half:
        c, blocks = made.source.c, self.block_features
        output = self._core.discriminate(made.img, c, joining, blocks, other, made.frozen)
        self.report(self.scores(name, output.logits))
        return Half(**vars(output), name=name, source=made.source)

    def scores(self, half: str, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """D's scores of reals or fakes and their signs, to report.

        ADA and APA use the sign. An objective of pairs reports its own, because single scores are meaningless there.
        """
        scores = {f"Loss/scores/{half}": logits}
        return scores if self._core.objective.pairs else {**scores, f"Loss/signs/{half}": logits.sign()}

    def report(self, values: dict[str, torch.Tensor]) -> None:
        """Report statistics, {name: values of any shape}."""
        for name, value in values.items():
            self._core.report(name, value.detach())
