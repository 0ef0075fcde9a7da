"""Where code that was written for StyleGAN2-ADA, such as a fork's training loop, looks for the loss.

`training.loss.StyleGAN2Loss` is its name there. Our own training loop does not use it: step.py makes the loss's core.
"""

from stylegan2_adamix.loss import StyleGAN2Loss  # noqa: F401
