"""D's inputs: blur, augmentation and noise on real and generated images, and APA's fakes among the reals."""

from typing import Any

import torch
import torch.nn.functional as F

from stylegan2_adamix.apa import PseudoAugmentation


class Inputs:
    """Converts images [N, C, H, W] to D's inputs. `augment_pipe` is a host's; with `apa` only its p is used, unless
    `with_dataaug`. noise and blur: `InstanceNoise` and `FadingBlur`. Raises ValueError for APA without a pipe.
    """

    def __init__(
        self, augment_pipe: Any, apa: bool, with_dataaug: bool, noise: "InstanceNoise", blur: "FadingBlur"
    ) -> None:
        if apa and augment_pipe is None:
            raise ValueError("APA needs an augment_pipe, whose buffer p is the probability that it follows")
        self.apa = PseudoAugmentation(augment_pipe.p) if apa else None
        self.augment_pipe = augment_pipe if with_dataaug or not apa else None
        self.noise, self.blur = noise, blur

    def __call__(self, img: torch.Tensor, kimg: float) -> torch.Tensor:
        img = self.blur(img, kimg)
        img = self.augment_pipe(img) if self.augment_pipe is not None else img
        return self.noise(img, kimg)

    def reals(self, img: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Images and labels after APA, and the mask [N] of true reals (None: all are)."""
        return (img, c, None) if self.apa is None else self.apa.replace(img, c)

    def form(self, kimg: float) -> object:
        """A key of the operations on images (`Core.form`); None: they differ from step to step."""
        return None if self.blur.fades(kimg) else self.noise.deviation(kimg) > 0

    def prepare(self, kimg: float) -> None:
        """Prepare a microbatch at `kimg`: do all work that needs the host."""
        self.noise.prepare(kimg)


class InstanceNoise:
    """Gaussian noise on D's inputs, falling linearly to 0 at `kimg` (arXiv:1610.04490)."""

    def __init__(self, std: float, kimg: float = 500) -> None:
        if not std >= 0 or not kimg > 0:
            raise ValueError(f"instance noise needs std >= 0 and kimg > 0, not std {std} and kimg {kimg}")
        self.std, self.kimg = std, kimg
        self._at: float | None = None
        self._deviation: torch.Tensor | None = None  # at `_kimg`, on the device

    def deviation(self, kimg: float) -> float:
        return self.std * max(0, 1 - kimg / self.kimg)

    def prepare(self, kimg: float) -> None:
        """Write the deviation to the device; a call with the same `kimg` reads it there."""
        self._at = kimg
        if self._deviation is not None:
            self._deviation.fill_(self.deviation(kimg))

    def __call__(self, images: torch.Tensor, kimg: float) -> torch.Tensor:
        if self.deviation(kimg) == 0:
            return images
        if self._deviation is None:
            self._deviation = images.new_zeros([], requires_grad=False)
            self._at = None
        if kimg != self._at:
            self.prepare(kimg)
        return images + torch.randn_like(images) * self._deviation


class FadingBlur:
    """Gaussian blur of D's inputs, from `sigma` pixels linearly to 0 at `kimg` (arXiv:2106.12423, App. F)."""

    def __init__(self, sigma: float, kimg: float) -> None:
        if not sigma >= 0 or not kimg >= 0:
            raise ValueError(f"blur needs sigma >= 0 and kimg >= 0, not sigma {sigma} and kimg {kimg}")
        self.sigma, self.kimg = sigma, kimg

    def fades(self, kimg: float) -> bool:
        """Whether there is blur; its width depends on the images shown."""
        return self.sigma > 0 and kimg < self.kimg

    def __call__(self, images: torch.Tensor, kimg: float) -> torch.Tensor:
        sigma = self.sigma * (1 - kimg / self.kimg) if self.fades(kimg) else 0
        radius = int(3 * sigma)
        if radius == 0:
            return images
        offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
        taps = torch.exp2(-(offsets / sigma).square())
        taps = (taps / taps.sum()).expand(images.shape[1], 1, 1, -1)
        images = F.conv2d(images, taps, padding="same", groups=images.shape[1])
        return F.conv2d(images, taps.transpose(2, 3), padding="same", groups=images.shape[1])
