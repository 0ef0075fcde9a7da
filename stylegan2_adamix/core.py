"""The loss: how a phase of G or D turns microbatches into gradients. docs/loss.md has the formulas.

A training loop calls `begin`, then `microbatch` once or several times, then `end`, and steps its optimiser. Phases:
Gmain and Greg, Dmain and Dreg, or Gboth and Dboth, which are both parts at once. What a term does is in its own file
(terms.py lists them), what the hosts' networks do differently in host.py.
"""

from stylegan2_adamix.averages import synchronise
from stylegan2_adamix.backward import Backward
from stylegan2_adamix.batch import Batch
from stylegan2_adamix.features import SplitDiscriminator
from stylegan2_adamix.gan import GANLoss
from stylegan2_adamix.objectives import clip_weights
from stylegan2_adamix.term import Images

PHASES = ("Gmain", "Greg", "Gboth", "Dmain", "Dreg", "Dboth")


class Core:
    """
    host:      G and D, and what the code base around them does differently (host.py).
    objective: the `Objective` (objectives.py).
    terms:     the terms that are on, in the order in which they are added.
    inputs:    what images go through before D sees them (inputs.py).
    aw:        `AdaptiveWeights`, or None for the plain sum.
    report:    function of a statistic's name and its values, a tensor of any shape.

    Raises TypeError where D cannot be split into features and head; ValueError where two terms replace logits.
    """

    def __init__(self, host, objective, terms, inputs, aw, report):
        self.host, self.objective, self.inputs = host, objective, inputs
        self.terms = {term.name: term for term in (GANLoss(objective), *terms)}
        self.replacing = [term for term in terms if term.replaces_logits]
        if len(self.replacing) > 1:
            raise ValueError(f"only one term may replace logits, not {' and '.join(t.name for t in self.replacing)}")
        self.logit_scale = self.replacing[0].logit_scale if self.replacing else 1
        blocks = any(term.needs_block_features for term in terms)
        self.split = SplitDiscriminator(host.D, blocks)
        self.backward = Backward(host, report, aw)
        self._report = report
        self.cur_nimg = self.steps = 0  # images shown so far; steps of D
        self.phase = None

    # ------------------------------------------------------------------ what a training loop calls

    def begin(self, phase: str, cur_nimg: int) -> None:
        """A phase starts: the parameters' `.grad` are None, and `cur_nimg` images have been shown."""
        self.phase, self.cur_nimg = phase, cur_nimg
        self.steps += phase in ("Dmain", "Dboth")
        if self.host.w_average is not None:
            self.host.w_average.begin()
        for term in self.terms.values():
            term.begin()
        self.backward.begin(phase, self.steps)
        self.split.differentiated_once = phase.endswith("main")
        if self.inputs.apa:
            self.inputs.apa.begin(generator=phase in ("Gmain", "Gboth"))
        if self.objective.clip:  # before either player meets a D that its optimiser has just moved
            clip_weights(self.host.D, self.objective.clip)

    def microbatch(self, real_img, real_c, gen_z, gen_c, gain=1, last=True):
        """Add the gradient of one microbatch, times `gain`, to `.grad`.

        real_img [N, C, H, W] in [-1, 1], real_c and gen_c [N, c_dim], gen_z [N, z_dim]; last: of its phase. A
        microbatch whose loss is not finite adds nothing.
        """
        player, part = self.phase[0], self.phase[1:]
        batch = Batch(self, Images(real_img, real_c), gen_z, gen_c, last)
        regularisers = self.regularisers(player) if part in ("reg", "both") else []
        if self.phase in ("Gmain", "Gboth"):
            self._generator(batch, gain)
        if self.phase in ("Dmain", "Dboth"):
            weighted = regularisers if batch.weighted else []  # aw adds them to its weighted gradients
            self._discriminator(batch, gain, last, weighted)
            regularisers = [] if batch.weighted else regularisers
        for term in regularisers:
            loss = self._added(term.regularise(batch)).mean()
            self.backward.total({term.title: loss}, loss * gain)

    def end(self) -> None:
        """A phase ends: averages follow the whole batch. FloatingPointError after many updates in a row that were not
        finite."""
        averages = [self.host.w_average, *(a for term in self.terms.values() for a in term.averages)]
        synchronise([average for average in averages if average is not None])
        self.backward.end()

    def regularisers(self, player: str) -> list:
        """The terms that are `player`'s regularisation phase."""
        return [term for term in self.terms.values() if term.regularises == player and term.weight > 0]

    def measure_strength(self) -> None:
        """Have D's next steps report `Loss/strength/<term>`, once each (strength.py); it changes no bit of the run."""
        self.backward.strength.request(self.steps + max(term.interval for term in self.terms.values()))

    def take_bad_losses(self) -> list[str]:
        """What was not finite since the last call, a line a term; waits for the device."""
        return self.backward.finite.take()

    def use_compiled(self, synthesis, features) -> None:
        """Take compiled twins of G's synthesis and D's features in the phases that differentiate once."""
        self.host.compiled_synthesis, self.split.compiled = synthesis, features

    def state_dict(self) -> dict:
        """Everything that a resumed run needs from the loss and its terms."""
        terms = {name: state for name, term in self.terms.items() if (state := term.state_dict())}
        counters = {"cur_nimg": self.cur_nimg, "steps": self.steps}
        return {**counters, "finite": self.backward.finite.state_dict(), **terms}

    def load_state_dict(self, state: dict) -> None:
        """Continue from `state_dict()`, of this version or of one before."""
        self.cur_nimg, self.steps = state["cur_nimg"], state["steps"]
        self.backward.finite.load_state_dict(state.get("finite", {}))
        for name, term in self.terms.items():
            if name in state:
                term.load_state_dict(state[name])

    # ------------------------------------------------------------------ phases

    def _generator(self, batch, gain):
        """mean l_G(D(G(z))), and what the terms add."""
        img, _ = batch.generate()
        if self.inputs.apa:
            self.inputs.apa.remember(img, batch.gen_c)
        fake = self._half(batch, "fake", Images(img, batch.gen_c), self.replacing)
        values = {term.name: self._added(term.generator(fake, batch)) for term in batch.active}
        values = {name: value.mean() for name, value in values.items() if value is not None}
        self.backward.total(values, sum(values.values()) * gain)

    def _discriminator(self, batch, gain, last, weighted):
        """mean l_fake(D(G(z))) + mean l_real(D(x)), and what the terms add; weighted: regularisers under aw.

        Where no term spans both halves, the fake one is differentiated, and its graph freed, before the real one
        begins.
        """
        joining = [term for term in batch.active if term.joins_pass]
        together = batch.weighted or any(term.spans_halves for term in batch.active)
        fake = self._half(batch, "fake", batch.fakes, joining)
        if not together:
            self.backward.half(self._parts(fake, batch), fake.features.x, gain)
            fake = None
        real = self._half(batch, "real", batch.shown, joining, fake)
        if not together:
            self.backward.half(self._parts(real, batch), real.features.x, gain)
        else:
            parts = {"real": {}, "fake": {}, "joint": {}}
            for term in batch.active:
                self._add_both(parts, term, real, fake, batch)
            for term in weighted:
                parts["joint"][term.title] = self._added(term.regularise(batch)).mean()
            self.backward.both(real, fake, **{f"{name}_parts": p for name, p in parts.items()}, gain=gain, last=last)
        for name, ratio in self.backward.strength.take().items():
            self._report(f"Loss/strength/{name}", ratio)

    def _parts(self, half, batch):
        """{term: what it adds to this half}."""
        parts = {term.name: self._added(term.per_half(half, batch)) for term in batch.active}
        return {name: part for name, part in parts.items() if part is not None}

    def _add_both(self, parts, term, real, fake, batch):
        """Put what a term adds, with both halves at hand, under its name into `parts`."""
        for half in (fake, real):
            value = self._added(term.per_half(half, batch))
            if value is not None:
                parts[half.name][term.name] = value
        if not term.spans_halves:
            return
        joint = term.joint(real, fake, batch)
        self._pass_on(joint.reports)
        for side in parts:
            if (value := getattr(joint, side)) is not None:
                parts[side][term.name] = value

    def _half(self, batch, name, images, joining, other=None):
        half = batch.half(name, images, joining, other)
        self._pass_on(batch.scores(name, half.logits))
        return half

    def _added(self, part):
        self._pass_on(part.reports)
        return part.value

    def _pass_on(self, reports):
        for name, value in reports.items():
            self._report(name, value.detach())

    def discriminate(self, img, c, joining, blocks=False, other=None):
        """One pass of D over augmented images, with the guests of the terms `joining` it."""
        guests = {term.name: guest for term in joining if (guest := term.join_pass(img, other)) is not None}
        return self.split.forward(img, c, blocks, guests)
