"""StyleGAN2's loss with AdaptiveMix, SDP, aw, APA and the comparators in it, for any code base of that family.

A host calls `accumulate_gradients` once or several times a phase and steps its optimizer afterwards. Phases: Gmain
and Greg (path length), Dmain and Dreg (R1), or Gboth and Dboth. Each call computes the gradient of one piece of the
batch and adds it to the parameters' `.grad`. A phase starts at the first call that finds all of them None.

What the terms do is in their own files; only this class knows in which phase, on which images.
"""

import contextlib
import inspect
import sys
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from stylegan2_adamix.adaptivemix import AdaptiveMix
from stylegan2_adamix.apa import PseudoAugmentation
from stylegan2_adamix.averages import PhaseAverage, synchronise, world_size
from stylegan2_adamix.aw import AdaptiveWeights
from stylegan2_adamix.features import Features, SplitDiscriminator, unwrap
from stylegan2_adamix.finite import FiniteCheck
from stylegan2_adamix.objectives import GRADIENT_PENALTY, WASSERSTEIN, clip_weights, objective
from stylegan2_adamix.regularizers import FadingBlur, InstanceNoise, LeCam, gradient_penalty, path_lengths, r1_penalty
from stylegan2_adamix.sdp import SampleDifferences, take

PHASES = ("Gmain", "Greg", "Gboth", "Dmain", "Dreg", "Dboth")


class Judgement(NamedTuple):
    """What one pass of D over a piece gives."""

    logits: torch.Tensor  # [N, 1]
    img: torch.Tensor  # [N, C, H, W], as D saw them
    features: Features
    maps: list | None  # every block's feature maps, when asked for
    distance: torch.Tensor | None  # [N]: AdaptiveMix, when it takes part


class StyleGAN2Loss:
    """Takes the constructor arguments of StyleGAN2-ADA (G_mapping, G_synthesis, D) or of StyleGAN3 (G, D).

    Terms are None or False (off), True (defaults), a dict of the term's own arguments, or the term itself: adamix (on
    by default), sdp, aw. `apa` is a flag: it follows `augment_pipe.p`, and the pipe is used only `with_dataaug`.
    `lecam` is a weight, `instance_noise` a standard deviation that falls to 0 at `instance_noise_kimg`. `r1_gamma=None`
    means 10, or 0 for a Wasserstein objective. `style_mixing_prob` and `pl_weight` of None mean what the code base
    means: 0.9 and 2, or 0 and 0 for StyleGAN3, whose `pl_no_weight_grad` changes nothing here. `batch_size`, which
    older callers pass, changes nothing either.

    Raises TypeError when D cannot be split, ValueError for settings that make no sense.
    """

    def __init__(
        self,
        device,
        G_mapping=None,
        G_synthesis=None,
        D=None,
        augment_pipe=None,
        style_mixing_prob=None,
        r1_gamma=None,
        pl_batch_shrink=2,
        pl_decay=0.01,
        pl_weight=None,
        G=None,
        adamix=True,
        sdp=None,
        aw=None,
        apa=False,
        with_dataaug=False,
        lecam=0.0,
        instance_noise=0.0,
        instance_noise_kimg=500,
        objective_name="logistic",
        label_smoothing=0.0,
        batch_size=None,
        pl_no_weight_grad=False,
        blur_init_sigma=0,
        blur_fade_kimg=0,
    ):
        if D is None and G is None:  # StyleGAN3: (device, G, D)
            G, D = G_mapping, G_synthesis
        stylegan3 = G is not None
        if stylegan3:
            G_mapping, G_synthesis = G.mapping, G.synthesis
        if style_mixing_prob is None:
            style_mixing_prob = 0 if stylegan3 else 0.9
        if pl_weight is None:
            pl_weight = 0 if stylegan3 else 2
        self.device = torch.device(device)
        self.G_mapping, self.G_synthesis = G_mapping, G_synthesis
        self.D = D
        self.augment_pipe = augment_pipe
        self.style_mixing_prob = style_mixing_prob
        self.pl_batch_shrink, self.pl_weight = pl_batch_shrink, pl_weight

        self.objective = objective(objective_name, label_smoothing)
        wasserstein = objective_name in WASSERSTEIN
        self.r1_gamma = (0 if wasserstein else 10) if r1_gamma is None else r1_gamma
        if not self.r1_gamma >= 0 or not pl_weight >= 0:
            raise ValueError(f"weights must not be negative: r1_gamma {self.r1_gamma}, pl_weight {pl_weight}")
        self.adamix = _term(AdaptiveMix, adamix)
        self.sdp = _term(SampleDifferences, sdp)
        self.split = SplitDiscriminator(D, blocks=self.sdp is not None)
        # Lazy R1 shares D's optimizer: unit-norm and raw gradients would meet in the same moments of Adam.
        self.aw = _term(AdaptiveWeights, aw, normalize=False)
        if self.aw and wasserstein:
            raise ValueError(f"aw reads scores as probabilities, which {objective_name} has not: drop one of them")
        self.lecam = LeCam(lecam, device=self.device) if lecam else None
        self.instance_noise = InstanceNoise(instance_noise, instance_noise_kimg)
        self.blur = FadingBlur(blur_init_sigma, blur_fade_kimg)
        self.apa, self.augment_images = None, augment_pipe is not None
        if apa:
            if augment_pipe is None:
                raise ValueError("APA needs an augment_pipe, whose buffer p is the probability that it follows")
            self.apa, self.augment_images = PseudoAugmentation(augment_pipe.p), with_dataaug

        self.pl_mean = torch.zeros([], device=self.device)
        self._pl_average = PhaseAverage(self.pl_mean, 1 - pl_decay)
        # w_avg is kept here, so that pieces and processes do not change it: the mapping network is told to leave it.
        mapping = unwrap(G_mapping)
        self._offers = {"skip_w_avg_update", "update_emas"} & set(inspect.signature(mapping.forward).parameters)
        keeps = self._offers and hasattr(mapping, "w_avg")
        self._w_average = PhaseAverage(mapping.w_avg, mapping.w_avg_beta) if keeps else None
        self._finite = FiniteCheck()
        self._cur_nimg = 0  # counted here when the host does not tell
        self._steps = 0  # steps of D
        self._phase = None

    # ------------------------------------------------------------------ state

    def state_dict(self):
        """Everything that a continued run needs from the loss and its terms."""
        state = {"pl": self._pl_average.state_dict(), "cur_nimg": self._cur_nimg, "steps": self._steps}
        if self.lecam:
            state["lecam"] = self.lecam.state_dict()
        return state

    def load_state_dict(self, state):
        self._pl_average.load_state_dict(state["pl"])
        self._cur_nimg, self._steps = state["cur_nimg"], state["steps"]
        if self.lecam:
            self.lecam.load_state_dict(state["lecam"])

    # ------------------------------------------------------------------ phases

    def accumulate_gradients(self, phase, real_img, real_c, gen_z, gen_c, sync=True, gain=1, cur_nimg=None):
        """Add the gradient of one piece, times `gain`.

        real_img [N, C, H, W] in [-1, 1], real_c and gen_c [N, c_dim], gen_z [N, z_dim]. `sync` is False on every call
        of a phase but the last, where the host tells. FloatingPointError where a term is not finite.
        """
        if phase not in PHASES:
            raise ValueError(f"phase is one of {', '.join(PHASES)}, not {phase!r}")
        self._begin(phase, real_img, cur_nimg)
        if phase[0] == "G":
            if phase != "Greg":
                self._generator_main(real_img, real_c, gen_z, gen_c, sync, gain)
            if phase != "Gmain" and self.pl_weight > 0:
                self._generator_regularization(gen_z, gen_c, sync, gain)
        else:
            r1 = phase != "Dmain" and self.r1_gamma > 0
            joined = r1 and phase == "Dboth" and self.aw is not None  # aw adds R1 to its weighted gradients
            real = None
            if phase != "Dreg":
                real = self._discriminator_main(real_img, real_c, gen_z, gen_c, sync, gain, joined)
            if r1 and not joined:  # in Dboth both parts see the same images
                self._backward("Dreg", self._r1_loss(*(real or self._pseudo(real_img, real_c)[:2])), gain)
        if sync:
            self._end(phase)

    def _begin(self, phase, real_img, cur_nimg):
        parameters = self._parameters(phase)
        fresh = all(p.grad is None for p in parameters)
        if cur_nimg is not None:
            self._cur_nimg = cur_nimg
        if fresh or phase != self._phase:
            if phase in ("Dmain", "Dboth"):
                self._steps += 1
            self._phase = phase
            self._pl_average.begin()
            for term in (self._w_average, self.lecam, self.aw):
                if term:
                    term.begin()
            if self.apa:
                self.apa.begin(generator=phase in ("Gmain", "Gboth"))
            if self.objective.name == "wgan":  # before either player meets a D that its optimizer has just moved
                clip_weights(self.D)
            self._finite.raise_if_any(self._steps)
        if cur_nimg is None and phase in ("Dmain", "Dboth"):
            self._cur_nimg += len(real_img) * world_size()

    def _parameters(self, phase):
        modules = [self.G_mapping, self.G_synthesis] if phase[0] == "G" else [self.D]
        return [p for module in modules for p in module.parameters() if p.requires_grad]

    def _end(self, phase):
        averages = [self._pl_average, self._w_average]
        averages += [self.lecam.real, self.lecam.fake] if self.lecam else []
        synchronise([a for a in averages if a])
        if phase[0] == "D" and isinstance(self.D, DistributedDataParallel) and world_size() > 1:
            # F and J were called past the wrapper, whose averaging has not happened.
            gradients = [p.grad for p in self._parameters(phase) if p.grad is not None]
            flat = torch.cat([g.flatten() for g in gradients])
            dist.all_reduce(flat)
            for g, part in zip(gradients, (flat / world_size()).split([g.numel() for g in gradients])):
                g.copy_(part.reshape(g.shape))

    def _generator_main(self, real_img, real_c, gen_z, gen_c, sync, gain):
        img, _ = self._generate(gen_z, gen_c, sync)
        if self.apa:
            self.apa.remember(img, gen_c)
        pairs = self._sdp_active()
        official = self._takes_official()
        fake = self._judge(self._augment(img), gen_c, mix=official, blocks=pairs)
        self._report_scores("fake", fake.logits)
        loss = self.objective.generator(fake.logits)
        self._report("Loss/G/loss", loss)
        loss = loss.mean()
        if fake.distance is not None:
            loss = loss + self._adamix_loss("G", fake.distance)
        if pairs:
            loss = loss + self._sdp_generator(fake, img, real_img, real_c)
        self._backward("Gmain", loss, gain)

    def _generator_regularization(self, gen_z, gen_c, sync, gain):
        n = max(1, len(gen_z) // self.pl_batch_shrink)
        img, ws = self._generate(gen_z[:n], gen_c[:n], sync)
        lengths = path_lengths(img, ws)
        mean = self._pl_average.update(lengths)
        penalty = (lengths - mean).square()
        self._report("Loss/pl_penalty", penalty)
        self._report("Loss/G/reg", penalty * self.pl_weight)
        # Times 0: parameters that the penalty does not reach get a gradient of zero, not none.
        self._backward("Greg", (penalty * self.pl_weight + img[:, 0, 0, 0] * 0).mean(), gain)

    def _discriminator_main(self, true_img, real_c, gen_z, gen_c, sync, gain, with_r1):
        """Returns the images and labels that stood for the reals."""
        with torch.no_grad():
            img, _ = self._generate(gen_z, gen_c, sync)
        pairs = self._sdp_active()
        mixes = self.adamix is not None and self.adamix.weight > 0 and self._steps % self.adamix.interval == 0
        cross = mixes and self.adamix.pairs == "cross"
        penalised = self.objective.name == "wgan-gp"
        # Terms that span both halves need both passes at once; else the first is over before the second begins.
        together = pairs or cross or penalised or self.lecam is not None or self.aw is not None

        fake = self._judge(self._augment(img), gen_c, mix=mixes and not cross, blocks=pairs)
        self._report_scores("fake", fake.logits)
        fake_loss = self.objective.fake(fake.logits)
        self._report("Loss/D/fake", fake_loss)
        if not together:
            self._backward("Dmain", self._half("fake", fake_loss, fake), gain)

        real_img, real_c, stayed = self._pseudo(true_img, real_c)
        real = self._judge(self._augment(real_img), real_c, mix=mixes, blocks=pairs, other=fake if cross else None)
        self._report_scores("real", real.logits)
        real_loss = self.objective.real(real.logits)
        self._report("Loss/D/loss", fake_loss.detach() + real_loss.detach())
        if not together:
            self._backward("Dmain", self._half("real", real_loss, real), gain)
            return real_img, real_c

        if self.lecam:
            real_half, fake_half = self.lecam.penalties(real.logits, fake.logits)
            self._report("Loss/lecam/real", real_half)
            self._report("Loss/lecam/fake", fake_half)
            real_loss = real_loss + real_half * self.lecam.weight
            fake_loss = fake_loss + fake_half * self.lecam.weight
        joint = []
        if cross:
            joint.append(self._adamix_loss("cross", real.distance))
            real = real._replace(distance=None)
        if pairs:
            joint.append(self._sdp_discriminator(real, fake, real_c, gen_c, true_img, img, stayed))
        if penalised:
            joint.append(self._gradient_penalty(real, fake, real_c))
        if with_r1:
            joint.append(self._r1_loss(real_img, real_c))
        real_loss, fake_loss = self._half("real", real_loss, real), self._half("fake", fake_loss, fake)
        if self.aw:
            self._weighted_backward(real_loss, fake_loss, real.logits, fake.logits, joint, gain, sync)
        else:
            self._backward("Dmain", sum(joint, real_loss + fake_loss), gain)
        return real_img, real_c

    def _r1_loss(self, real_img, real_c):
        img = real_img.detach().requires_grad_()  # the penalised gradient runs through the augmentation, as upstream
        real = self._judge(self._augment(img), real_c, mix=self._takes_official())
        self._report_scores("real", real.logits)
        penalty = r1_penalty(img, real.logits)
        self._report("Loss/r1_penalty", penalty)
        self._report("Loss/D/reg", penalty * (self.r1_gamma / 2))
        # Times 0: parameters that the penalty does not reach get a gradient of zero, not none.
        return (penalty * (self.r1_gamma / 2) + real.logits.flatten() * 0).mean()

    # ------------------------------------------------------------------ networks

    def _generate(self, z, c, sync):
        """Images [N, C, H, W] and their ws, with style mixing; `sync` matters only to wrapped modules."""
        skip = {"skip_w_avg_update": True} if "skip_w_avg_update" in self._offers else {}
        emas = {"update_emas": True} if "update_emas" in self._offers and self._phase[0] == "D" else {}
        with _no_sync(self.G_mapping, sync):
            ws = self.G_mapping(z, c, **skip)
            if self._w_average is not None and (emas or "update_emas" not in self._offers):  # StyleGAN3: D's phases
                self._w_average.update(ws[:, 0].detach())
            if self.style_mixing_prob > 0:
                other = self.G_mapping(torch.randn_like(z), c, **skip)
                ws = self._mix_styles(ws, other)
        with _no_sync(self.G_synthesis, sync):
            return self.G_synthesis(ws, **emas), ws

    def _mix_styles(self, ws, other):
        """From a random layer on, the other styles, with probability style_mixing_prob (arXiv:1812.04948 §3.1)."""
        num_ws = ws.shape[1]
        cutoff = torch.randint(1, max(num_ws, 2), [1], device=ws.device)
        mixed = torch.rand([1], device=ws.device) < self.style_mixing_prob
        switched = (torch.arange(num_ws, device=ws.device) >= cutoff) & mixed
        return torch.where(switched[:, None], other, ws)

    def _augment(self, img):
        img = self.blur(img, self._cur_nimg / 1e3)
        img = self.augment_pipe(img) if self.augment_images else img
        return self.instance_noise(img, self._cur_nimg / 1e3)

    def _pseudo(self, real_img, real_c):
        """APA's images, labels and the mask of true reals (None without APA)."""
        if self.apa is None:
            return real_img, real_c, None
        return self.apa.replace(real_img, real_c)

    def _judge(self, img, c, mix=False, blocks=False, other=None):
        """One pass of D; with `mix` AdaptiveMix's hard samples take part in its pass through F, behind the others.

        They are mixtures of the images, or of them and those of another `Judgement` (pairs across the halves).
        """
        if not mix:
            features, maps = self.split.features(img, blocks)
            return Judgement(self.split.head(features, c), img, features, maps, None)
        n, mixture = len(img), self.adamix.draw(len(img), img.device)
        hard_img = mixture.blend(img, None if other is None else other.img)
        features, maps = self.split.features(torch.cat([img, hard_img]), blocks)
        features, hard = features.select(slice(0, n)), features.select(slice(n, None))
        maps = None if maps is None else [m[:n] for m in maps]
        target = mixture.blend(features.x, None if other is None else other.features.x)
        distance = self.adamix.distance(target, hard.x)
        if self.adamix.official:
            logits = self.split.head(Features(target, features.img), c) + self.split.head(hard, c)
        else:
            logits = self.split.head(features, c)
        return Judgement(logits, img, features, maps, distance)

    # ------------------------------------------------------------------ terms

    def _takes_official(self):
        """Whether AdaptiveMix replaces the logits, in every phase. A weight of 0 switches all of it off."""
        return self.adamix is not None and self.adamix.official and self.adamix.weight > 0

    def _half(self, kind, loss, judged):
        """The mean of one half of D's loss, with AdaptiveMix's part of that half."""
        loss = loss.mean()
        return loss if judged.distance is None else loss + self._adamix_loss(kind, judged.distance)

    def _adamix_loss(self, kind, distance):
        self._report(f"Loss/adamix/{kind}", distance)
        self._finite(f"AdaptiveMix ({kind}, {self._phase})", distance, self._steps)
        return distance.mean() * (self.adamix.weight * self.adamix.interval)

    def _sdp_active(self):
        return self.sdp is not None and self.sdp.active(self._cur_nimg / 1e3)

    def _sdp_choose(self, fake_logits, fake_img, real_img, allowed=None):
        k = self.sdp.count(self._cur_nimg / 1e3, len(fake_img))
        self._report("Loss/sdp/k", fake_logits.new_full([], k))
        return self.sdp.choose(fake_logits, fake_img, real_img, k, allowed)

    def _sdp_loss(self, player, differences, counted):
        scores, features = (d * counted for d in differences)
        self._report(f"Loss/sdp/{player}/score", scores)
        self._report(f"Loss/sdp/{player}/feature", features)
        self._finite(f"SDP ({player}, {self._phase})", scores + features, self._steps)
        return (scores + features).mean() * self.sdp.weight

    def _sdp_generator(self, fake, fake_img, real_img, real_c):
        """G's part: the reals are constants, from one pass without a graph.

        All of them go through D, for the head's minibatch statistics are those of a whole batch of reals.
        """
        best, nearest, counted = self._sdp_choose(fake.logits, fake_img, real_img)
        with torch.no_grad():
            real = self._judge(self._augment(real_img), real_c, blocks=True)
        logits = real.logits[nearest]
        if self._takes_official():  # its logits are sums of two; a sample unmixed counts twice
            logits = logits * 2
        fake_maps, real_maps = (
            [take(m, index) for m in maps] for maps, index in ((fake.maps, best), (real.maps, nearest))
        )
        return self._sdp_loss("G", self.sdp.differences(fake.logits[best], logits, fake_maps, real_maps), counted)

    def _sdp_discriminator(self, real, fake, real_c, gen_c, true_img, fake_img, stayed):
        best, nearest, counted = self._sdp_choose(fake.logits, fake_img, true_img, stayed)
        if self.aw:
            # A third backward pass through the whole batch would cost more than a pass of the chosen pairs alone.
            fake_logits, fake_maps = self._judge_again(fake, gen_c, best)
            real_logits, real_maps = self._judge_again(real, real_c, nearest)
        else:
            fake_logits, fake_maps = fake.logits[best], [take(m, best) for m in fake.maps]
            real_logits, real_maps = real.logits[nearest], [take(m, nearest) for m in real.maps]
        return self._sdp_loss("D", self.sdp.differences(fake_logits, real_logits, fake_maps, real_maps), counted)

    def _judge_again(self, judged, c, index):
        """Logits and maps of some samples with a graph of their own.

        The head sees the whole batch, so minibatch statistics are what they were; the other samples are constants. The
        official variant's mixture is not drawn again: its logits are approximated by twice the plain ones.
        """
        features, maps = self.split.features(judged.img[index], blocks=True)
        # Two fakes may share a real: each row of the batch comes from one of the chosen (or from none, -1).
        source = torch.full([len(judged.img)], -1, device=index.device)
        source[index] = torch.arange(len(index), device=index.device)
        chosen = (source >= 0).reshape([-1] + [1] * (features.x.ndim - 1))
        whole = torch.where(chosen, features.x[source], judged.features.x.detach())
        img = judged.features.img
        img = None if img is None else img.detach()
        logits = self.split.head(Features(whole, img), c)[index]
        return logits * 2 if self._takes_official() else logits, maps

    def _gradient_penalty(self, real, fake, c):
        official = self._takes_official()  # the critic that is penalised is the one that is trained
        penalty = gradient_penalty(lambda img: self._judge(img, c, mix=official).logits, real.img, fake.img)
        self._report("Loss/gradient_penalty", penalty)
        return penalty.mean() * GRADIENT_PENALTY

    # ------------------------------------------------------------------ gradients and reports

    def _backward(self, phase, loss, gain):
        self._finite(f"the loss of {phase}", loss, self._steps)
        (loss * gain).backward()

    def _weighted_backward(self, real_loss, fake_loss, real_logits, fake_logits, joint, gain, sync):
        self._finite(f"the loss of {self._phase}", sum(joint, real_loss + fake_loss), self._steps)
        joint = sum(joint) * gain if joint else None
        numbers = self.aw.backward(
            self._parameters("D"), real_loss * gain, fake_loss * gain, real_logits, fake_logits, joint, sync
        )
        if sync:
            for name, value in numbers.items():
                self._report(f"Loss/aw/{name}", value)

    def _report_scores(self, kind, logits):
        self._report(f"Loss/scores/{kind}", logits)
        self._report(f"Loss/signs/{kind}", logits.sign())

    @staticmethod
    def _report(name, value):
        """To the host's own statistics, where it has them: its ADA controller reads Loss/signs/real."""
        statistics = sys.modules.get("torch_utils.training_stats")
        if statistics is not None:
            statistics.report(name, value.detach())


def _term(cls, setting, **defaults):
    """A term from None/False, True, a dict of arguments, or an instance."""
    if isinstance(setting, bool):
        setting = {} if setting else None
    return cls(**{**defaults, **setting}) if isinstance(setting, dict) else setting


def _no_sync(module, sync):
    return module.no_sync() if isinstance(module, DistributedDataParallel) and not sync else contextlib.nullcontext()
