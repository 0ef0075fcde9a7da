"""aw, adaptive weighted discriminator (Zadorozhnyy et al., CVPR 2021, arXiv:2012.03149, Alg. 1).

D steps along w_r g_r + w_f g_f, the gradients of the real and the fake part of its loss. The weights are such that
the step increases neither part, and decreases the one that lags behind.
"""

from collections.abc import Iterable
from math import pi

import torch

from stylegan2_adamix.gradients import FlatGradient, clean, flatten, mean_over_processes, unflatten_into
from stylegan2_adamix.settings import AWOptions

CASES = ("real_opposed", "real_aligned", "fake_opposed", "fake_aligned", "balanced")


class AdaptiveWeights(AWOptions):
    """Weights from inner products (`weights`), and gradients of a whole batch from its microbatches (`backward`).

    `normalize` steps along unit vectors. Without it, every weight lacks one factor 1/norm, which suits an optimizer
    that also gets other gradients (lazy R1). The cases depend on scores, which are means of sigmoid(logit).
    """

    _sums: torch.Tensor | None = None  # gradients and scores, summed over a phase's microbatches
    _empty = True  # whether the sums are from another phase

    def weights(
        self,
        rr: torch.Tensor | float,
        rf: torch.Tensor | float,
        ff: torch.Tensor | float,
        real_score: torch.Tensor | float,
        fake_score: torch.Tensor | float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(w_r, w_f) from the inner products <g_r,g_r>, <g_r,g_f>, <g_f,g_f> and the mean scores: tensors or floats."""
        return self._weights_and_case(rr, rf, ff, real_score, fake_score)[:2]

    def _weights_and_case(
        self,
        rr: torch.Tensor | float,
        rf: torch.Tensor | float,
        ff: torch.Tensor | float,
        real_score: torch.Tensor | float,
        fake_score: torch.Tensor | float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rr, rf, ff, s_r, s_f = (torch.as_tensor(x) for x in (rr, rf, ff, real_score, fake_score))
        rr, ff = rr + 1e-4, ff + 1e-4  # as in the public code: avoids infinite weights for vanishing gradients
        norm_r, norm_f = (rr.sqrt(), ff.sqrt()) if self.normalize else (torch.ones_like(rr), torch.ones_like(ff))
        favour_real = (s_r < self.alpha1) | (s_r < s_f - self.delta)
        favour_fake = ~favour_real & (s_r > self.alpha2) & (s_r > s_f - self.delta)
        opposed = rf <= 0
        zero = torch.zeros_like(rr)
        w_r = torch.where(favour_fake, torch.where(opposed, -rf / (rr * norm_f), zero), 1 / norm_r) + self.epsilon
        w_f = torch.where(favour_real, torch.where(opposed, -rf / (ff * norm_r), zero), 1 / norm_f) + self.epsilon
        case = torch.where(favour_real, 0, torch.where(favour_fake, 2, 4))
        return w_r, w_f, torch.where(case < 4, case + (~opposed).long(), case)

    def begin(self) -> None:
        """Start a phase: reset the sums."""
        self._empty = True

    def backward(
        self,
        parameters: Iterable[torch.nn.Parameter],
        real_loss: torch.Tensor,
        fake_loss: torch.Tensor,
        real_logits: torch.Tensor,
        fake_logits: torch.Tensor,
        joint_loss: torch.Tensor | None = None,
        sync: bool = True,
        bad: torch.Tensor | None = None,
        into: FlatGradient | None = None,
    ) -> dict[str, torch.Tensor]:
        """Add a microbatch's gradients, and write the combined gradient of the batch so far to `.grad` or to `into`.

        real_loss, fake_loss: scalars; real_logits, fake_logits [N, 1] of the same microbatch; `joint_loss` (a scalar
        that spans both parts) is added with weight 1. `sync` averages over processes; required for the last microbatch.
        bad: a scalar tensor; True skips this microbatch. Returns a dict of statistics: weights, angle in degrees, and
        1 for the case that applied, 0 for the others.
        """
        parameters = [p for p in parameters if p.requires_grad]
        keep = joint_loss is not None
        losses = [(real_loss, keep), (fake_loss, keep), *([(joint_loss, False)] if joint_loss is not None else [])]
        vectors = [clean(into.of(*a) if into else _flat_gradient(*a, parameters)) for a in losses]
        joint = vectors[2] if keep else torch.zeros_like(vectors[0])
        flat = torch.cat([*vectors[:2], joint, _score_sums(real_logits, fake_logits).to(joint.dtype)])
        if bad is not None:
            flat.masked_fill_(bad, 0)
        total = mean_over_processes(self._add(flat)) if sync else self._add(flat)
        n = joint.numel()
        real, fake, joint, (s_r, n_r, s_f, n_f) = total[:n], total[n : 2 * n], total[2 * n : 3 * n], total[3 * n :]
        rr, rf, ff = real @ real, real @ fake, fake @ fake
        tiny = torch.finfo(total.dtype).tiny  # counts are 0 if every microbatch was skipped
        w_r, w_f, case = self._weights_and_case(rr, rf, ff, s_r / n_r.clamp(min=tiny), s_f / n_f.clamp(min=tiny))
        combined = w_r * real + w_f * fake + joint
        if into is None:
            _write_gradient(parameters, combined)
        else:
            into.put(combined)
        return self._numbers(w_r, w_f, case, rf / (rr.sqrt() * ff.sqrt()).clamp(min=torch.finfo(rf.dtype).tiny))

    def _add(self, flat: torch.Tensor) -> torch.Tensor:
        """The sums of this phase's microbatches, at a fixed place in memory."""
        if self._sums is None or self._sums.shape != flat.shape:
            self._sums = torch.empty_like(flat)
        if self._empty:
            self._sums.copy_(flat)
        else:
            self._sums += flat
        self._empty = False
        return self._sums

    @staticmethod
    def _numbers(
        w_r: torch.Tensor, w_f: torch.Tensor, case: torch.Tensor, cosine: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        angle = cosine.clamp(-1, 1).acos() * (180 / pi)
        taken = {f"case/{name}": (case == i).float() for i, name in enumerate(CASES)}
        return {"w_real": w_r, "w_fake": w_f, "angle": angle, **taken}


def _score_sums(*logits: torch.Tensor) -> torch.Tensor:
    """Sum and number of sigmoid(logit), for each tensor of logits."""
    probabilities = [x.detach().float().sigmoid() for x in logits]
    return torch.stack([value for p in probabilities for value in (p.sum(), p.new_full([], p.numel()))])


def _flat_gradient(loss: torch.Tensor, retain_graph: bool, parameters: list[torch.nn.Parameter]) -> torch.Tensor:
    gradients = torch.autograd.grad(loss, parameters, retain_graph=retain_graph, allow_unused=True)
    return flatten([torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients)])


def _write_gradient(parameters: list[torch.nn.Parameter], flat: torch.Tensor) -> None:
    for p in parameters:
        p.grad = torch.empty_like(p)  # in p's memory layout, as fused optimizers require
    unflatten_into(flat, [p.grad for p in parameters if p.grad is not None])
