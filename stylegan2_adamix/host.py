"""Differences between hosts: StyleGAN2-ADA, StyleGAN3, DistributedDataParallel.

The loss gets images, the parameters of a phase and a function for statistics from the host. Only this file knows which
code base it is used in.
"""

import contextlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from stylegan2_adamix.averages import PhaseAverage
from stylegan2_adamix.features import unwrap
from stylegan2_adamix.gradients import FlatGradient, flatten, mean_over_processes, unflatten_into, world_size


class Host:
    """The networks of a host.

    Takes the constructor arguments of StyleGAN2-ADA's loss (G_mapping, G_synthesis, D) or of StyleGAN3's (G, D, or both
    by position). `compiled_synthesis` may hold a compiled G_synthesis, for phases that differentiate once.
    `gradients` may hold a `FlatGradient` for each player, {"G":, "D":}, which takes the gradients instead of `.grad`.
    """

    compiled_synthesis: Callable | None = None

    def __init__(
        self,
        G_mapping: Any,
        G_synthesis: Any,
        D: Any,
        G: Any = None,
        style_mixing_prob: float | None = None,
    ) -> None:
        if D is None and G is None:  # StyleGAN3: (device, G, D)
            G, D = G_mapping, G_synthesis
        self.stylegan3 = G is not None
        self.G_mapping, self.G_synthesis = (G.mapping, G.synthesis) if self.stylegan3 else (G_mapping, G_synthesis)
        self.D = D
        self.gradients: dict[str, FlatGradient] = {}
        self.style_mixing_prob = self.default(style_mixing_prob, 0.9)
        # w_avg is updated here and not by G's mapping, so that it does not depend on microbatches and processes.
        mapping = unwrap(self.G_mapping)
        offers = set(inspect.signature(mapping.forward).parameters)
        self._leave_w_avg = {"skip_w_avg_update": True} if "skip_w_avg_update" in offers else {}
        self._moves_in_d_only = "update_emas" in offers  # StyleGAN3 updates w_avg and magnitudes in D's phases
        keeps = (self._leave_w_avg or self._moves_in_d_only) and hasattr(mapping, "w_avg")
        self.w_average = PhaseAverage(mapping.w_avg, mapping.w_avg_beta) if keeps else None

    def default(self, value: float | None, stylegan2: float) -> float:
        """`value`, or if it is None, the host's default: `stylegan2`, or 0 for StyleGAN3."""
        return value if value is not None else 0 if self.stylegan3 else stylegan2

    def parameters(self, phase: str) -> list[torch.nn.Parameter]:
        """The trainable parameters of the phase's player."""
        modules = [self.G_mapping, self.G_synthesis] if phase[0] == "G" else [self.D]
        return [p for module in modules for p in module.parameters() if p.requires_grad]

    def generate(
        self, phase: str, z: torch.Tensor, c: torch.Tensor, sync: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [N, C, H, W] and their ws [N, num_ws, w_dim], with style mixing; `sync`: for wrapped modules."""
        moves = phase[0] == "D" or not self._moves_in_d_only
        emas = {"update_emas": True} if self._moves_in_d_only and phase[0] == "D" else {}
        synthesis = self.G_synthesis
        if self.compiled_synthesis is not None and phase.endswith("main"):
            synthesis = self.compiled_synthesis
        with _no_sync(self.G_mapping, sync):
            ws, other = self._map(z, c)
        if self.w_average is not None and moves:
            self.w_average.update(ws[:, 0].detach())
        if other is not None:
            ws = mix_styles(ws, other, self.style_mixing_prob)
        with _no_sync(self.G_synthesis, sync):
            return synthesis(ws, **emas), ws

    def _map(self, z: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """ws, and others for style mixing, if enabled; in one pass if the mapping updates no average."""
        if self.style_mixing_prob == 0:
            return self.G_mapping(z, c, **self._leave_w_avg), None
        z2 = torch.randn_like(z)
        if self._leave_w_avg:
            ws, other = self.G_mapping(torch.cat([z, z2]), torch.cat([c, c]), **self._leave_w_avg).chunk(2)
            return ws, other
        return self.G_mapping(z, c), self.G_mapping(z2, c)

    def begin(self, phase: str) -> None:
        """Start a phase."""
        if phase[0] in self.gradients:
            self.gradients[phase[0]].begin()

    def differentiate(self, phase: str, loss: torch.Tensor, bad: torch.Tensor) -> None:
        """Add the gradient of a loss, or nothing if the scalar tensor `bad` is true."""
        if phase[0] in self.gradients:
            self.gradients[phase[0]].add(loss, bad)
            return
        if bad.device.type == "cpu" and not bad:
            loss.backward()
            return
        # Run backward anyway so that all processes stay in step, but zero the gradients.
        hooks = [p.register_hook(lambda g: g.masked_fill(bad, 0)) for p in self.parameters(phase)]
        loss.backward()
        for hook in hooks:
            hook.remove()

    def average_gradients(self, phase: str) -> None:
        """Average gradients like DistributedDataParallel, whose wrapper D's features and head bypass."""
        if phase[0] == "D" and isinstance(self.D, DistributedDataParallel) and world_size() > 1:
            gradients = [p.grad for p in self.parameters(phase) if p.grad is not None]
            if gradients:  # Dreg without R1 and R2 has none, in all processes alike
                unflatten_into(mean_over_processes(flatten(gradients)), gradients)


def host_statistics(name: str, value: torch.Tensor) -> None:
    """Report to the host's own statistics, if it has them: its ADA controller reads Loss/signs/real."""
    statistics = sys.modules.get("torch_utils.training_stats")
    if statistics is not None:
        statistics.report(name, value)


def mix_styles(ws: torch.Tensor, other: torch.Tensor, probability: float) -> torch.Tensor:
    """With the given probability, use the other styles from a random layer on (arXiv:1812.04948 §3.1)."""
    num_ws = ws.shape[1]
    cutoff = torch.randint(1, max(num_ws, 2), [1], device=ws.device)
    mixed = torch.rand([1], device=ws.device) < probability
    switched = (torch.arange(num_ws, device=ws.device) >= cutoff) & mixed
    return torch.where(switched[:, None], other, ws)


def _no_sync(module: torch.nn.Module, sync: bool) -> contextlib.AbstractContextManager:
    return module.no_sync() if isinstance(module, DistributedDataParallel) and not sync else contextlib.nullcontext()
