"""The augmentation of the papers' classifiers: a random crop of the padded image, and a flip."""

import torch
import torch.nn.functional as F

PAD = 4


def crop_and_flip(images, pad=PAD):
    """Pad images [N, C, H, W] by reflection, crop them to their size at random positions, flip half of them."""
    n, _, height, width = images.shape
    padded = F.pad(images, [pad] * 4, mode="reflect")
    top, left = torch.randint(2 * pad + 1, [2, n, 1], device=images.device)
    rows = top + torch.arange(height, device=images.device)
    columns = left + torch.arange(width, device=images.device)
    flip = torch.rand([n, 1], device=images.device) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    samples = torch.arange(n, device=images.device)
    return padded[samples[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
