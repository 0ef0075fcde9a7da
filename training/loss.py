"""The loss of the training loop is the plug-in's, as it is."""

from stylegan2_adamix.loss import StyleGAN2Loss  # noqa: F401
