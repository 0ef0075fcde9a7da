"""AdaptiveMix, SDP, aw and APA for any GAN in PyTorch; `StyleGAN2Loss` has them all for StyleGAN2-ADA and its forks."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stylegan2_adamix.loss import StyleGAN2Loss

__all__ = ["StyleGAN2Loss"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # lazy imports: settings.py must be importable without torch
        from stylegan2_adamix.loss import StyleGAN2Loss

        return StyleGAN2Loss
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
