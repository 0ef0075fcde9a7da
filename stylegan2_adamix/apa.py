"""APA, adaptive pseudo augmentation (Jiang et al. 2021, arXiv:2111.06849): some reals are replaced by fakes."""

import torch


class PseudoAugmentation:
    """Each real image is replaced, with probability `p`, by a generated one of the last generator phase.

    `p` is a scalar tensor that the controller (ADA's) changes in place. Call number i of a generator phase stores its
    images with `remember`; call number i of a discriminator phase takes them with `replace`.
    """

    def __init__(self, p: torch.Tensor) -> None:
        self.p = p
        self._pool: list[tuple[torch.Tensor, torch.Tensor]] = []  # written in place
        self._filled = 0  # how many of them are of the last generator phase
        self._turn = 0
        self._new = False

    def begin(self, generator: bool) -> None:
        """Start a phase: a discriminator phase reads the pool from its start, and the first `remember` of a generator
        phase empties it. (A recorded generator phase writes into the same pool without calling `remember`.)"""
        self._turn, self._new = 0, generator
        self.p.clamp_(max=1)  # the controller of StyleGAN2-ADA lets it grow: D would see no real image for long

    def forget(self) -> None:
        """After an unfinished phase: all images of the pool count again."""
        self._filled = len(self._pool)

    @property
    def has_images(self) -> bool:
        return bool(self._pool)

    @torch.no_grad()
    def remember(self, fake: torch.Tensor, fake_c: torch.Tensor) -> None:
        if self._new:
            self._filled, self._new = 0, False
        kept = self._pool[self._filled] if self._filled < len(self._pool) else None
        if kept is None or kept[0].shape != fake.shape:
            self._pool[self._filled :] = [(fake.detach().clone(), fake_c.clone())]
        else:
            kept[0].copy_(fake)
            kept[1].copy_(fake_c)
        self._filled += 1

    def replace(self, real: torch.Tensor, real_c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images [N, ...], labels [N, c_dim] and a mask [N] of the kept reals. Without a pool, all are kept."""
        replaced = torch.rand([len(real)], device=real.device) < self.p
        if not self._filled:
            return real, real_c, torch.ones_like(replaced)
        fake, fake_c = self._pool[self._turn % self._filled]
        self._turn += 1
        image_mask = replaced.reshape([-1] + [1] * (real.ndim - 1))
        return torch.where(image_mask, fake, real), torch.where(replaced[:, None], fake_c, real_c), ~replaced
