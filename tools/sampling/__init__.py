"""Samples of a trained generator, from seeds or from saved w: images, videos, style mixing, directions."""
