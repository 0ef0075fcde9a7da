"""The GAN loss itself, the first term of the loss: an objective (objectives.py) on D's logits."""

import torch

from stylegan2_adamix.batch import Batch, Half
from stylegan2_adamix.objectives import Objective
from stylegan2_adamix.term import Part, Parts, Term


class GANLoss(Term):
    """The losses of D and G by `objective`. An objective of pairs compares real i with generated image i."""

    name, weight = "GAN", 1

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self._fake: torch.Tensor | None = None  # D's loss of this microbatch's fake half, to report the total

    @property
    def spans_halves(self) -> bool:
        return self.objective.pairs

    def per_half(self, half: Half, batch: Batch) -> Part:
        if self.objective.fake is None:
            return Part()
        if half.name == "fake":
            loss = self.objective.fake(half.logits)
            self._fake = loss.detach()
            return Part(loss, {"Loss/D/fake": loss})
        loss = self.objective.real(half.logits)
        both, self._fake = self._fake + loss.detach(), None
        return Part(loss, {"Loss/D/loss": both})

    def joint(self, real: Half, fake: Half, batch: Batch) -> Parts:
        """The loss of pairs. ADA and APA use the sign of the difference, because single scores mean nothing there."""
        if not self.objective.pairs:
            return Parts()
        difference = real.logits - fake.logits
        loss = self.objective.real(difference)
        signs = {"Loss/signs/real": difference.sign(), "Loss/signs/fake": (-difference).sign()}
        return Parts(joint=loss.mean(), reports={"Loss/D/loss": loss, **signs})

    def generator(self, fake: Half, batch: Batch) -> Part:
        logits = fake.logits
        if self.objective.pairs:
            logits = logits - batch.real_output().logits
        loss = self.objective.generator(logits)
        return Part(loss, {"Loss/G/loss": loss})
