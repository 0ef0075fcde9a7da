"""What a trained generator's latents z and w are good for: paths and videos, mixing, directions, projection."""
