"""Measure the effect of one step of D with and without aw, at every step of a run (arXiv:2012.03149, Figs. 4 and 5).

    python experiments/plain/aw_probe.py --outdir runs --data cifar10.zip --cfg dcgan --objective hinge

trains like train.py, with the same options. The measurement does not affect the run: it steps copies of D. Each
direction has its own Adam, which has seen that direction at every step of the run: moments from gradients of another
length would make its steps too short or too long.

    Loss/probe/angle/A-B     degrees between the gradients of D's real part, fake part and whole (their sum, or
                             aw's with its defaults); other terms are left out
    Loss/probe/obtuse/A-B    the share of steps in which that angle is above 90 degrees
    Loss/probe/before/real   mean logit of the batch's reals before the step; likewise fake, and gap, their difference
    Loss/probe/sum/real      after a step along the sum of both parts; likewise fake and gap
    Loss/probe/aw/real       after a step along aw's weighted sum; likewise fake and gap
"""

import copy
import math
import pathlib
import runpy
import sys

import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from stylegan2_adamix.aw import AdaptiveWeights  # noqa: E402
from stylegan2_adamix.objectives import objective  # noqa: E402
from torch_utils.training_stats import report  # noqa: E402
from training import optimizer, training_loop  # noqa: E402
from training.step import TrainingStep  # noqa: E402


class ProbedStep(TrainingStep):
    """A training step that also measures the effect of its step of D with and without aw."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        updates = self.options.networks
        self.probe = Probe(
            self.networks.D,
            lambda net: optimizer.build(list(net.parameters()), updates.D_reg_interval, **updates.D_optimizer),
        )

    def parts(self):
        return {**super().parts(), "probe": self.probe.optimizers}

    def run_phases(self, indices, real_img, real_c, *more):
        for index in indices:
            if self.phases[index].name == "Dmain":
                latents, loss = self._latents(index, len(real_img)), self.options.loss
                with_aw = loss.terms["aw"] is not None
                self.probe.measure(*self.networks[:2], loss.objective_name, with_aw, (real_img, real_c), latents)
        super().run_phases(indices, real_img, real_c, *more)


class Probe:
    """Copies of D and an optimizer for each direction. `optimizer_of(net)` creates an optimizer like the run's."""

    def __init__(self, D, optimizer_of):
        self.copies = {name: copy.deepcopy(D).requires_grad_(True) for name in ("sum", "aw")}
        self.optimizers = {name: optimizer_of(net) for name, net in self.copies.items()}

    def measure(self, G, D, objective_name, with_aw, real, latents):
        """Measure one step on a batch. real: images [N, C, H, W] and labels [N, c_dim]; latents: z [N, z_dim] and
        labels. `with_aw`: the aw whose direction is "whole"."""
        D = copy.deepcopy(D).requires_grad_(True)
        with torch.no_grad():
            fake = copy.deepcopy(G)(*latents), latents[1]
        losses, parameters = objective(objective_name), list(D.parameters())
        real_logits, fake_logits = D(*real), D(*fake)
        g_r = gradient(losses.real(real_logits).mean(), parameters)
        g_f = gradient(losses.fake(fake_logits).mean(), parameters)
        scores = (logits.detach().sigmoid().mean() for logits in (real_logits, fake_logits))
        w_r, w_f = AdaptiveWeights().weights(g_r @ g_r, g_r @ g_f, g_f @ g_f, *scores)
        directions = {"sum": g_r + g_f, "aw": w_r * g_r + w_f * g_f}
        report_angles(g_r, g_f, directions["aw" if with_aw else "sum"])
        report_scores("before", real_logits, fake_logits)
        for name, direction in directions.items():
            stepped = self.step(name, D, direction)
            with torch.no_grad():
                report_scores(name, stepped(*real), stepped(*fake))

    @torch.no_grad()
    def step(self, name, D, direction):
        """The copy of D after one step along a flat gradient."""
        stepped, start = self.copies[name], 0
        stepped.load_state_dict(D.state_dict())
        for p in stepped.parameters():
            p.grad = torch.empty_like(p)  # in p's memory layout, as the fused step requires
            p.grad.copy_(direction[start : start + p.numel()].reshape(p.shape))
            start += p.numel()
        self.optimizers[name].step()
        return stepped


def gradient(loss, parameters):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


def report_angles(g_r, g_f, whole):
    for name, a, b in (("real-fake", g_r, g_f), ("whole-real", whole, g_r), ("whole-fake", whole, g_f)):
        angle = torch.nn.functional.cosine_similarity(a, b, dim=0).clamp(-1, 1).acos() * (180 / math.pi)
        report(f"Loss/probe/angle/{name}", angle)
        report(f"Loss/probe/obtuse/{name}", (angle > 90).float())


def report_scores(when, real_logits, fake_logits):
    real, fake = real_logits.mean(), fake_logits.mean()
    for name, value in (("real", real), ("fake", fake), ("gap", real - fake)):
        report(f"Loss/probe/{when}/{name}", value)


if __name__ == "__main__":
    training_loop.Run.step_class = ProbedStep
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
