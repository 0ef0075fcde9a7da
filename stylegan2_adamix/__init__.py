"""AdaptiveMix, SDP, aw and APA for any GAN in PyTorch; `loss.StyleGAN2Loss` has them all for StyleGAN2-ADA's family."""
