"""APA, adaptive pseudo augmentation (Jiang et al. 2021, arXiv:2111.06849): some reals are replaced by fakes."""

import torch


class PseudoAugmentation:
    """Each real image is replaced, with probability `p`, by a generated one of the last generator phase.

    `p` is a scalar tensor; whoever adapts it (ADA's controller) writes into it. Each call of a generator phase leaves
    its images with `remember`, and the call of the same number in a discriminator phase takes them with `replace`.
    """

    def __init__(self, p: torch.Tensor) -> None:
        self.p = p
        self._pool: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._turn = 0

    def begin(self, generator: bool) -> None:
        """A phase starts: the pool is emptied by a generator phase, read from its start by a discriminator phase."""
        self._turn = 0
        if generator:
            self._pool = []

    def remember(self, fake: torch.Tensor, fake_c: torch.Tensor) -> None:
        self._pool.append((fake.detach(), fake_c))

    def replace(self, real: torch.Tensor, real_c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images [N, ...], labels [N, c_dim] and a mask [N] of the reals that stayed. Without a pool, all stay."""
        replaced = torch.rand([len(real)], device=real.device) < self.p
        if not self._pool:
            return real, real_c, torch.ones_like(replaced)
        fake, fake_c = self._pool[self._turn % len(self._pool)]
        self._turn += 1
        image_mask = replaced.reshape([-1] + [1] * (real.ndim - 1))
        return torch.where(image_mask, fake, real), torch.where(replaced[:, None], fake_c, real_c), ~replaced
