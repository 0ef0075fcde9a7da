"""StyleGAN2's loss with AdaptiveMix, SDP, aw, APA and the comparators in it, for any code base of that family.

A host calls `accumulate_gradients` once or several times a phase and steps its optimizer afterwards. Phases: Gmain
and Greg (path length), Dmain and Dreg (R1), or Gboth and Dboth. Each call computes the gradient of one microbatch and
adds it to the parameters' `.grad`. A phase starts at the first call that finds all of them None.

What the terms do is in their own files (terms.py lists them), what hosts do differently in host.py; here each phase is
its formula. docs/loss.md has the formulas.
"""

import functools
from typing import Any

import torch

from stylegan2_adamix import settings
from stylegan2_adamix.averages import synchronise
from stylegan2_adamix.aw import AdaptiveWeights
from stylegan2_adamix.backward import Backward
from stylegan2_adamix.features import SplitDiscriminator
from stylegan2_adamix.gradients import world_size
from stylegan2_adamix.host import Host
from stylegan2_adamix.inputs import FadingBlur, Inputs, InstanceNoise
from stylegan2_adamix.objectives import clip_weights, objective
from stylegan2_adamix.penalties import PathLength, r1_penalty
from stylegan2_adamix.term import Batch, Parts
from stylegan2_adamix.terms import build_term, build_terms

PHASES = ("Gmain", "Greg", "Gboth", "Dmain", "Dreg", "Dboth")


class StyleGAN2Loss:
    """The loss of StyleGAN2-ADA's and StyleGAN3's training loops, with terms.

    device:              where the networks are.
    G_mapping:           G's mapping network (StyleGAN2-ADA); by position, StyleGAN3's G may stand here,
    G_synthesis:         G's synthesis network, and its D here.
    D:                   the discriminator.
    augment_pipe:        callable on images [N, C, H, W], or None.
    style_mixing_prob:   probability of style mixing. None: the host's default, 0.9, or 0 for StyleGAN3.
    r1_gamma:            weight of R1, times 2. None: 10, or 0 for a Wasserstein objective.
    pl_batch_shrink:     path length takes 1/n of the batch.
    pl_decay:            how fast the average of path lengths moves.
    pl_weight:           weight of path length. None: the host's default, 2, or 0 for StyleGAN3; 0 for wgan, wgan-gp.
    G:                   StyleGAN3's generator, in place of G_mapping and G_synthesis.
    aw:                  aw, off by default. True: defaults. A dict: its arguments (settings.AWOptions; `normalize` is
                         False here unless given). Or the term itself.
    apa:                 whether reals are replaced by generated images with probability `augment_pipe.p`.
    with_dataaug:        whether `augment_pipe` augments images too, where `apa` is on.
    blur_init_sigma:     StyleGAN3's blur of D's first images, in pixels,
    blur_fade_kimg:      and when it has faded, in kimg.
    batch_size:          taken because callers pass it; it changes nothing.
    pl_no_weight_grad:   likewise.

    And by name, among `options`:

    adamix:              AdaptiveMix, on by default. None or False: off. True: defaults. A number: its weight. A dict:
                         its arguments (settings.AdaptiveMixOptions). Or the term itself.
    sdp, lecam, ...:     the other terms of terms.py likewise; off unless given.
    objective_name:      logistic, hinge, ls, wgan or wgan-gp.
    label_smoothing:     how far the real target lies below 1, in [0, 1).
    instance_noise:      deviation of the noise on D's inputs,
    instance_noise_kimg: and when it has fallen to 0, in kimg.

    Raises TypeError where D cannot be split into features and head, or for an unknown option; ValueError for settings
    that make no sense.
    """

    def __init__(
        self,
        device: torch.device | str,
        G_mapping: torch.nn.Module | None = None,
        G_synthesis: torch.nn.Module | None = None,
        D: torch.nn.Module | None = None,
        augment_pipe: torch.nn.Module | None = None,
        style_mixing_prob: float | None = None,
        r1_gamma: float | None = None,
        pl_batch_shrink: int = 2,
        pl_decay: float = 0.01,
        pl_weight: float | None = None,
        G: torch.nn.Module | None = None,
        aw: Any = None,
        apa: bool = False,
        with_dataaug: bool = False,
        blur_init_sigma: float = 0.0,
        blur_fade_kimg: float = 0.0,
        batch_size: int | None = None,
        pl_no_weight_grad: bool = False,
        **options: Any,
    ) -> None:
        comparators, self.terms = build_terms(options, device)
        settings.check_together(comparators.objective_name, aw)
        self.objective = objective(comparators.objective_name, comparators.label_smoothing)
        self.r1_gamma = settings.default_gamma(comparators.objective_name, 10) if r1_gamma is None else r1_gamma
        if not self.r1_gamma >= 0:
            raise ValueError(f"weights must not be negative: r1_gamma {self.r1_gamma}")
        self.host = Host(G_mapping, G_synthesis, D, G, style_mixing_prob)
        usual = settings.default_pl_weight(comparators.objective_name, 2)
        self.path_length = PathLength(self.host.default(pl_weight, usual), pl_batch_shrink, pl_decay, device)
        self.backward = Backward(self.host, build_term(AdaptiveWeights, aw, normalize=False))
        self.adamix = self.terms.get("adamix")
        self.official = self.adamix is not None and self.adamix.replaces_logits
        self.split = SplitDiscriminator(self.host.D, blocks=any(term.needs_maps for term in self.terms.values()))
        noise = InstanceNoise(comparators.instance_noise, comparators.instance_noise_kimg)
        self.inputs = Inputs(augment_pipe, apa, with_dataaug, noise, FadingBlur(blur_init_sigma, blur_fade_kimg))
        self._cur_nimg = self._steps = 0  # images, counted here when the host does not tell; steps of D
        self._phase = None

    # ------------------------------------------------------------------ what the host calls

    def accumulate_gradients(self, phase, real_img, real_c, gen_z, gen_c, sync=True, gain=1, cur_nimg=None):
        """Add the gradient of one microbatch, times `gain`.

        real_img [N, C, H, W] in [-1, 1], real_c and gen_c [N, c_dim], gen_z [N, z_dim]. `sync` is False on every call
        of a phase but the last, where the host tells. A microbatch whose loss is not finite adds nothing;
        FloatingPointError after many such updates in a row.
        """
        if phase not in PHASES:
            raise ValueError(f"phase is one of {', '.join(PHASES)}, not {phase!r}")
        self._begin(phase, real_img, cur_nimg)
        if phase in ("Gmain", "Gboth"):
            self._generator_main(real_img, real_c, gen_z, gen_c, sync, gain)
        if phase in ("Greg", "Gboth") and self.path_length.weight > 0:
            self._generator_regularization(gen_z, gen_c, sync, gain)
        joined = phase == "Dboth" and self.backward.aw is not None  # aw adds R1 to its weighted gradients
        shown = None  # what stands for the reals: in Dboth both parts see the same images
        if phase in ("Dmain", "Dboth"):
            shown = self._discriminator_main(real_img, real_c, gen_z, gen_c, sync, gain, joined)
        if phase in ("Dreg", "Dboth") and self.r1_gamma > 0 and not joined:
            loss = self._r1_loss(*(shown or self.inputs.reals(real_img, real_c)[:2]))
            self.backward.total({"R1": loss}, loss * gain)
        if sync:
            averages = [
                self.path_length.mean,
                self.host.w_average,
                *(a for t in self.terms.values() for a in t.averages),
            ]
            synchronise([a for a in averages if a is not None])
            self.backward.end()

    def measure_strength(self):
        """Have D's next steps report `Loss/strength/<term>`, once each (strength.py); it changes no bit of the run."""
        self.backward.strength.request(self._steps + (self.adamix.interval if self.adamix else 1))

    def take_bad_losses(self):
        """What was not finite since the last call, a line a term; waits for the device."""
        return self.backward.finite.take()

    def use_compiled(self, synthesis, features):
        """Take compiled twins of G's synthesis and D's features in the phases that differentiate once."""
        self.host.compiled_synthesis, self.split.compiled = synthesis, features

    def state_dict(self):
        """Everything that a resumed run needs from the loss and its terms."""
        terms = {name: state for name, term in self.terms.items() if (state := term.state_dict())}
        counters = {"cur_nimg": self._cur_nimg, "steps": self._steps}
        return {
            "pl": self.path_length.mean.state_dict(),
            **counters,
            "finite": self.backward.finite.state_dict(),
            **terms,
        }

    def load_state_dict(self, state):
        """Continue from `state_dict()`, of this version or of one before."""
        self.path_length.mean.load_state_dict(state["pl"])
        self._cur_nimg, self._steps = state["cur_nimg"], state["steps"]
        self.backward.finite.load_state_dict(state.get("finite", {}))
        for name, term in self.terms.items():
            if name in state:
                term.load_state_dict(state[name])

    # ------------------------------------------------------------------ phases

    def _begin(self, phase, real_img, cur_nimg):
        starts = phase != self._phase or all(p.grad is None for p in self.host.parameters(phase))
        self._cur_nimg = self._cur_nimg if cur_nimg is None else cur_nimg
        if starts:
            self._phase = phase
            self._steps += phase in ("Dmain", "Dboth")
            for kept in (self.path_length.mean, self.host.w_average, *self.terms.values()):
                if kept is not None:
                    kept.begin()
            self.backward.begin(phase, self._steps)
            self.split.differentiated_once = phase.endswith("main")
            if self.inputs.apa:
                self.inputs.apa.begin(generator=phase in ("Gmain", "Gboth"))
            if self.objective.name == "wgan":  # before either player meets a D that its optimizer has just moved
                clip_weights(self.host.D)
        if cur_nimg is None and phase in ("Dmain", "Dboth"):
            self._cur_nimg += len(real_img) * world_size()

    def _generator_main(self, real_img, real_c, gen_z, gen_c, sync, gain):
        """mean l_G(D(G(z))), and what the terms add."""
        img, _ = self.host.generate(self._phase, gen_z, gen_c, sync)
        if self.inputs.apa:
            self.inputs.apa.remember(img, gen_c)
        batch, active = self._batch(fake_img=img, fake_c=gen_c, real_img=real_img, real_c=real_c)
        batch.fake = self._judge(batch.augment(img), gen_c, self.official, any(t.needs_maps for t in active))
        self.host.report_scores("fake", batch.fake.logits)
        gan = self.objective.generator(batch.fake.logits)
        self.host.report("Loss/G/loss", gan)
        parts = self._parts("generator", active, batch)
        values = {"GAN": gan.mean(), **parts.joint}
        self.backward.total(values, sum(values.values()) * gain)

    def _generator_regularization(self, gen_z, gen_c, sync, gain):
        n = max(1, len(gen_z) // self.path_length.shrink)
        img, ws = self.host.generate(self._phase, gen_z[:n], gen_c[:n], sync)
        penalty = self.path_length.penalty(img, ws)
        self.host.report("Loss/pl_penalty", penalty)
        self.host.report("Loss/G/reg", penalty * self.path_length.weight)
        # Times 0: parameters that the penalty does not reach get a gradient of zero, not none.
        loss = (penalty * self.path_length.weight + img[:, 0, 0, 0] * 0).mean()
        self.backward.total({"path length": loss}, loss * gain)

    def _discriminator_main(self, real_img, real_c, gen_z, gen_c, sync, gain, with_r1):
        """mean l_fake(D(G(z))) + mean l_real(D(x)), and what the terms add. Returns what stood for the reals.

        Where no term spans both halves, the first is differentiated, and its graph freed, before the second begins.
        """
        with torch.no_grad():
            fake_img, _ = self.host.generate(self._phase, gen_z, gen_c, sync)
        batch, active = self._batch(fake_img=fake_img, fake_c=gen_c, real_img=real_img)
        maps = any(term.needs_maps for term in active)
        together = self.backward.aw is not None or any(term.spans_halves for term in active)
        mix = any(term is self.adamix for term in active)
        cross = mix and self.adamix.spans_halves

        batch.fake = self._judge(batch.augment(fake_img), gen_c, mix and not cross, maps)
        self.host.report_scores("fake", batch.fake.logits)
        fake_loss = self.objective.fake(batch.fake.logits)
        self.host.report("Loss/D/fake", fake_loss)
        if not together:
            parts = self._parts("discriminator", active, batch).fake
            self.backward.half(fake_loss, parts, batch.fake, gain)
            batch.fake = None

        img, batch.real_c, batch.true_real = self.inputs.reals(real_img, real_c)
        batch.real = self._judge(batch.augment(img), batch.real_c, mix, maps, batch.fake if cross else None)
        self.host.report_scores("real", batch.real.logits)
        real_loss = self.objective.real(batch.real.logits)
        self.host.report("Loss/D/loss", fake_loss.detach() + real_loss.detach())
        parts = self._parts("discriminator", active, batch)
        if not together:
            self.backward.half(real_loss, parts.real, batch.real, gain)
        else:
            if with_r1:
                parts.joint["R1"] = self._r1_loss(img, batch.real_c)
            self.backward.both(batch, real_loss, fake_loss, parts, gain, sync)
        for name, ratio in self.backward.strength.take().items():
            self.host.report(f"Loss/strength/{name}", ratio)
        return img, batch.real_c

    def _r1_loss(self, real_img, real_c):
        img = real_img.detach().requires_grad_()  # the penalised gradient runs through the augmentation, as upstream
        real = self._judge(self.inputs(img, self._cur_nimg / 1e3), real_c, self.official)
        self.host.report_scores("real", real.logits)
        penalty = r1_penalty(img, real.logits)
        self.host.report("Loss/r1_penalty", penalty)
        self.host.report("Loss/D/reg", penalty * (self.r1_gamma / 2))
        # Times 0: parameters that the penalty does not reach get a gradient of zero, not none.
        return (penalty * (self.r1_gamma / 2) + real.logits.flatten() * 0).mean()

    # ------------------------------------------------------------------ D, terms, gradients

    def _judge(self, img, c, mix=False, maps=False, other=None):
        """One pass of D; with `mix` AdaptiveMix's hard samples take part in it."""
        return self.adamix.judge(self.split, img, c, maps, other) if mix else self.split.judge(img, c, maps)

    def _batch(self, **images):
        """The microbatch as the terms see it, and the terms that take part in it."""
        kimg = self._cur_nimg / 1e3
        scale = 2 if self.official else 1  # its logits are sums of two; a sample that is not mixed counts twice

        def judge(img, c, mixed=True, maps=False):
            if mixed:
                return self._judge(img, c, self.official, maps)
            judged = self._judge(img, c, False, maps)
            return judged._replace(logits=judged.logits * scale)

        def judge_again(judged, c, index):
            logits, maps = self.split.judge_again(judged, c, index)
            return logits * scale, maps

        augment = functools.partial(self.inputs, kimg=kimg)
        weighted = self.backward.aw is not None
        batch = Batch(self._phase, self._steps, kimg, augment, judge, judge_again, weighted=weighted, **images)
        return batch, [term for term in self.terms.values() if term.active(kimg, self._steps)]

    def _parts(self, hook, active, batch):
        """What the terms add, as `Parts` of {name: part}; what they report is passed on."""
        given = {term.name: getattr(term, hook)(batch) for term in active}
        for part in given.values():
            for name, value in part.reports.items():
                self.host.report(name, value)
        sides = ("real", "fake", "joint")
        return Parts(*({n: v for n, part in given.items() if (v := getattr(part, s)) is not None} for s in sides))
