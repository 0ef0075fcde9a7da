"""Whether a classifier's confidence is its accuracy (arXiv:1706.04599)."""

import torch

BINS = 15


def reliability(logits, labels, bins=BINS):
    """Per bin of confidence, (i/bins, (i+1)/bins]: count, mean confidence and accuracy, [bins] each; 0 where empty."""
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1
    count = torch.bincount(index, minlength=bins).double()
    sums = [torch.zeros_like(count).index_add_(0, index, x.double()) for x in (confidence, predicted == labels)]
    return count, *(total / count.clamp(min=1) for total in sums)


def ece(logits, labels, bins=BINS):
    """Expected calibration error of logits [N, K] and classes [N], in percent (Eq. 3 there)."""
    count, confidence, accuracy = reliability(logits, labels, bins)
    return 100 * float((count * (confidence - accuracy).abs()).sum() / count.sum())
