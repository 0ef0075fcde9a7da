"""Images with transparency: four channels, the colours multiplied by alpha (Porter & Duff 1984, section 4.2).

Where alpha is 0, all four channels are 0, so invisible colours have no effect. Over a background b such an image is
colour + (1 - alpha) b. Filters, geometry and mixtures can treat the four channels alike. Files store straight colours,
which are not multiplied. Networks see all four channels in -1..1, like other images.
"""

import numpy as np
import torch


def premultiply(image):
    """Straight uint8 [4, H, W] (NumPy) with the colours multiplied by alpha."""
    colour, alpha = image[:3].astype(np.uint16), image[3:]
    return np.concatenate([(colour * alpha + 127) // 255, alpha]).astype(np.uint8)


def straighten(image):
    """The inverse, uint8 [4, H, W]: black where alpha is 0. Colours above alpha, possible in samples, are clipped."""
    colour, alpha = image[:3].astype(np.uint16), image[3:].astype(np.uint16)
    divisor = np.maximum(alpha, 1)
    return np.concatenate([(np.minimum(colour, alpha) * 255 + divisor // 2) // divisor, alpha]).astype(np.uint8)


def straight(images):
    """Images [N, 4, H, W] (-1..1, torch) with colours that are not multiplied by alpha; black where alpha rounds to 0.

    Colours above alpha, possible in samples, are clipped to 1.
    """
    colour, alpha = ((images + 1) / 2).clamp(0, 1).split([3, 1], dim=1)
    colour = torch.minimum(colour, alpha) / alpha.clamp(min=1 / 255)
    return torch.cat([torch.where(alpha < 0.5 / 255, 0.0, colour), alpha], dim=1) * 2 - 1


def over(images, background):
    """Images [N, 4, H, W] (0..255, torch) over a background that broadcasts to [N, 3, H, W]: float, 0..255."""
    colour, alpha = images.float().split([3, 1], dim=1)
    alpha = alpha.clamp(0, 255)
    return torch.minimum(colour, alpha) + (1 - alpha / 255) * background
