"""Projection: find the latents whose image is closest to a given image."""
