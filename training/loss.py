"""The loss at the import path of StyleGAN2-ADA, for code that expects it there, such as a fork's training loop.

Our own training loop does not use it: step.py builds the loss's core.
"""

from stylegan2_adamix.loss import StyleGAN2Loss  # noqa: F401
