"""LeCam regularisation (arXiv:2104.03310, Eq. 4): pull scores towards the moving average of the other class."""

import torch

from stylegan2_adamix.averages import PhaseAverage
from stylegan2_adamix.batch import Batch, Half
from stylegan2_adamix.settings import LeCamOptions
from stylegan2_adamix.term import Parts, Term


class LeCam(LeCamOptions, Term):
    """E[relu(D(x) - a_f)^2] + E[relu(a_r - D(G(z)))^2]; a_r and a_f: moving averages of scores, updated before use.

    With `one_sided=False`, the paper's form: (D(x) - a_f)^2 and (D(G(z)) - a_r)^2.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.to(None)

    def to(self, device: torch.device | str | None) -> "LeCam":
        self.real = PhaseAverage(torch.zeros([1], device=device), self.decay, debias=True)
        self.fake = PhaseAverage(torch.zeros([1], device=device), self.decay, debias=True)
        return self

    @property
    def averages(self) -> tuple[PhaseAverage, ...]:
        return self.real, self.fake

    def penalties(self, real_logits: torch.Tensor, fake_logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The real and the fake half, each [N, H], from one microbatch's logits [N, H] for H heads."""
        a_r = self.real.update(real_logits.detach().float().mean(dim=1, keepdim=True)).detach()
        a_f = self.fake.update(fake_logits.detach().float().mean(dim=1, keepdim=True)).detach()
        real, fake = real_logits - a_f, a_r - fake_logits
        if self.one_sided:
            real, fake = real.relu(), fake.relu()
        return real.square(), fake.square()

    def joint(self, real: Half, fake: Half, batch: Batch) -> Parts:
        real_half, fake_half = self.penalties(real.logits, fake.logits)
        reports = {"Loss/lecam/real": real_half, "Loss/lecam/fake": fake_half}
        return Parts(real_half * self.weight, fake_half * self.weight, reports=reports)

    def state_dict(self) -> dict:
        return {"real": self.real.state_dict(), "fake": self.fake.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.real.load_state_dict(state["real"])
        self.fake.load_state_dict(state["fake"])
