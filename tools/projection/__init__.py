"""The latents whose image comes closest to a given image."""
