"""What one step of D does with and without aw, at every step of a run (aw, arXiv:2012.03149, Figs. 4 and 5).

The run itself continues as if nothing was measured: steps are taken on copies of D. Each direction has an Adam of its
own, which has seen that direction at every step of the run: moments that belong to gradients of another length would
make its steps too short or too long.

    Loss/probe/angle/A-B     degrees between the gradients of D's real part, fake part and whole (their sum, or
                             aw's with its defaults); other terms are left out
    Loss/probe/obtuse/A-B    the share of steps in which that angle is above 90 degrees
    Loss/probe/before/real   mean logit of the batch's reals before the step; likewise fake, and gap, their difference
    Loss/probe/sum/real      after a step along the sum of both parts; likewise fake and gap
    Loss/probe/aw/real       after a step along aw's weighted sum; likewise fake and gap
"""

import copy
import math

import torch

from stylegan2_adamix.aw import AdaptiveWeights
from stylegan2_adamix.objectives import objective
from torch_utils.training_stats import report


class Probe:
    """Copies of D and an optimizer for each direction. `optimizer_of(net)` makes an optimizer like the run's own."""

    def __init__(self, D, optimizer_of):
        self.copies = {name: copy.deepcopy(D).requires_grad_(True) for name in ("sum", "aw")}
        self.optimizers = {name: optimizer_of(net) for name, net in self.copies.items()}

    def measure(self, G, D, objective_name, with_aw, real, z):
        """Measure one step on a batch: real [N, 3, 32, 32], z [N, z_dim]. `with_aw`: whose direction "whole" is."""
        D = copy.deepcopy(D).requires_grad_(True)
        with torch.no_grad():
            fake = copy.deepcopy(G)(z)
        losses, parameters = objective(objective_name), list(D.parameters())
        real_logits, fake_logits = D(real), D(fake)
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
                report_scores(name, stepped(real), stepped(fake))

    def step(self, name, D, direction):
        """The copy of D that is one step further along a flat gradient."""
        stepped, start = self.copies[name], 0
        stepped.load_state_dict(D.state_dict())
        for p in stepped.parameters():
            p.grad = direction[start : start + p.numel()].reshape(p.shape).clone()
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
