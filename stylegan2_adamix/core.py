"""The loss: how a phase of G or D turns microbatches into gradients. The phases themselves are in phases.py.

A training loop calls `begin`, then `microbatch` once or several times, then `end`, and steps its optimiser. Phases:
Gmain and Greg, Dmain and Dreg, or Gboth and Dboth, which combine both parts. Each term is in its own file
(terms.py lists them); differences between hosts are in host.py.
"""

from collections.abc import Callable, Sequence

import torch

from stylegan2_adamix import phases
from stylegan2_adamix.averages import synchronise
from stylegan2_adamix.aw import AdaptiveWeights
from stylegan2_adamix.backward import Backward
from stylegan2_adamix.batch import Batch, Images, Seen
from stylegan2_adamix.features import DiscriminatorOutput, SplitDiscriminator
from stylegan2_adamix.gan import GANLoss
from stylegan2_adamix.host import Host
from stylegan2_adamix.inputs import Inputs
from stylegan2_adamix.objectives import Objective, clip_weights
from stylegan2_adamix.term import Term

PHASES = ("Gmain", "Greg", "Gboth", "Dmain", "Dreg", "Dboth")


class Core:
    """
    host:      G and D, and the differences of their code base (host.py).
    objective: the `Objective` (objectives.py).
    terms:     the active terms, in the order in which they are added.
    inputs:    the processing of images before D (inputs.py).
    aw:        `AdaptiveWeights`, or None for the plain sum.
    report:    function of a statistic's name and its values, a tensor of any shape.
    one_pass:  G's phase follows D's and uses the images of D's phase, microbatch by microbatch; both players'
               parameters require gradients throughout.

    Raises TypeError if D cannot be split into features and head; ValueError if two terms replace logits.
    """

    def __init__(
        self,
        host: Host,
        objective: Objective,
        terms: Sequence[Term],
        inputs: Inputs,
        aw: AdaptiveWeights | None,
        report: Callable[[str, torch.Tensor], object],
        one_pass: bool = False,
    ) -> None:
        self.host, self.objective, self.inputs = host, objective, inputs
        self.one_pass = one_pass
        self.kept: list[Seen] = []  # images that D's phase has kept for G's
        self.terms: dict[str, Term] = {term.name: term for term in (GANLoss(objective), *terms)}
        self.replacing = [term for term in terms if term.replaces_logits]
        if len(self.replacing) > 1:
            raise ValueError(f"only one term may replace logits, not {' and '.join(t.name for t in self.replacing)}")
        self.logit_scale = self.replacing[0].logit_scale if self.replacing else 1
        blocks = any(term.needs_block_features for term in terms)
        self.split = SplitDiscriminator(host.D, blocks)
        self.backward = Backward(host, report, aw)
        self.report = report
        self.cur_nimg = self.steps = 0  # images shown so far; steps of D
        self.phase = ""

    def begin(self, phase: str, cur_nimg: int) -> None:
        """Start a phase; `cur_nimg` images have been shown. Without a host's `FlatGradient`s (host.py) the parameters'
        `.grad` are None."""
        self.phase, self.cur_nimg = phase, cur_nimg
        if phase in ("Dmain", "Dboth"):
            self.kept.clear()  # from an unfinished step
        self.steps += phase in ("Dmain", "Dboth")
        if self.host.w_average is not None:
            self.host.w_average.begin()
        for term in self.terms.values():
            term.begin()
        self.backward.begin(phase, self.steps)
        self.split.differentiated_once = phase.endswith("main")
        if self.inputs.apa:
            self.inputs.apa.begin(generator=phase in ("Gmain", "Gboth"))
        if self.objective.clip:  # before a phase uses a D that its optimiser has just changed
            clip_weights(self.host.D, self.objective.clip)

    def microbatch(
        self,
        real_img: torch.Tensor,
        real_c: torch.Tensor,
        gen_z: torch.Tensor,
        gen_c: torch.Tensor,
        gain: float = 1,
        last: bool = True,
    ) -> None:
        """Add the gradient of one microbatch, times `gain`.

        real_img [N, C, H, W] in [-1, 1], real_c and gen_c [N, c_dim], gen_z [N, z_dim]; last: of its phase. A
        microbatch whose loss is not finite adds nothing.
        """
        self.prepare(len(real_img), real_img.device)
        self.compute(real_img, real_c, gen_z, gen_c, gain, last)

    def prepare(self, n: int, device: torch.device) -> None:
        """The part of a microbatch of n images on `device` that needs the host. `compute`, which follows, does not need
        it."""
        self.inputs.prepare(self.cur_nimg / 1e3)
        for term in self.terms.values():
            term.prepare(n, device)

    def compute(
        self,
        real_img: torch.Tensor,
        real_c: torch.Tensor,
        gen_z: torch.Tensor,
        gen_c: torch.Tensor,
        gain: float = 1,
        last: bool = True,
    ) -> None:
        """The part of `microbatch` that runs on the device alone, on tensors at fixed places in memory."""
        player, part = self.phase[0], self.phase[1:]
        batch = Batch(self, Images(real_img, real_c), gen_z, gen_c, gain, last)
        regularisers = self.regularisers(player) if part in ("reg", "both") else []
        if self.phase in ("Gmain", "Gboth"):
            phases.generator_main(batch, self.backward)
        if self.phase in ("Dmain", "Dboth"):
            weighted = regularisers if batch.weighted else []  # aw adds them to its weighted gradients
            phases.discriminator_main(batch, self.backward, weighted)
            regularisers = [] if batch.weighted else regularisers
        phases.regularisation(batch, self.backward, regularisers)
        self.backward.record()

    def form(self, names: tuple[str, ...], cur_nimg: int) -> tuple | None:
        """A key of the operations of these phases, one after another, besides the shapes of their inputs; None if they
        cannot be recorded, because they change from step to step."""
        measuring = any(name in ("Dmain", "Dboth") for name in names)
        kimg, step = cur_nimg / 1e3, self.steps + measuring
        inputs = self.inputs.form(kimg)
        if inputs is None or (measuring and self.backward.strength.due(step)):
            return None
        if self.inputs.apa and not self.inputs.apa.has_images:
            return None
        return names, inputs, *(term.active(kimg, step) for term in self.terms.values())

    @property
    def numbers_microbatches(self) -> bool:
        """Whether the operations of a microbatch depend on its number in the phase."""
        return self.one_pass or self.inputs.apa is not None

    def end(self) -> None:
        """End a phase: update the averages. Raises FloatingPointError after many consecutive updates that were not
        finite."""
        averages = [self.host.w_average, *(a for term in self.terms.values() for a in term.averages)]
        synchronise([average for average in averages if average is not None])
        self.backward.end()

    def regularisers(self, player: str) -> list[Term]:
        """The terms of `player`'s regularisation phase."""
        return [term for term in self.terms.values() if term.regularises == player and term.weight > 0]

    def measure_strength(self) -> None:
        """Report `Loss/strength/<term>` once in D's next steps (strength.py); does not affect the run."""
        gan, *others = self.terms.values()
        if self.backward.aw is not None or any(term.regularises is None for term in others):
            self.backward.strength.request(self.steps + max(term.interval for term in (gan, *others)))

    def take_bad_losses(self) -> list[str]:
        """One line per term that was not finite since the last call; synchronises."""
        return self.backward.finite.take()

    def use_compiled(self, synthesis: Callable, features: Callable) -> None:
        """Use compiled versions of G's synthesis and D's features in the phases that differentiate once."""
        self.host.compiled_synthesis, self.split.compiled = synthesis, features

    def state_dict(self) -> dict:
        """Everything that a resumed run needs from the loss and its terms."""
        terms = {name: state for name, term in self.terms.items() if (state := term.state_dict())}
        counters = {"cur_nimg": self.cur_nimg, "steps": self.steps}
        return {**counters, "finite": self.backward.finite.state_dict(), **terms}

    def load_state_dict(self, state: dict) -> None:
        """Continue from `state_dict()`, of this version or an earlier one."""
        self.cur_nimg, self.steps = state["cur_nimg"], state["steps"]
        self.backward.finite.load_state_dict(state.get("finite", {}))
        for name, term in self.terms.items():
            if name in state:
                term.load_state_dict(state[name])

    def discriminate(
        self,
        img: torch.Tensor,
        c: torch.Tensor,
        joining: Sequence[Term],
        blocks: bool = False,
        other: DiscriminatorOutput | None = None,
        frozen: Sequence[torch.Tensor] | None = None,
    ) -> DiscriminatorOutput:
        """One pass of D over augmented images, with the guests of the terms `joining` it."""
        guests = {term.name: guest for term in joining if (guest := term.join_pass(img, other)) is not None}
        return self.split.forward(img, c, blocks, guests, frozen)
