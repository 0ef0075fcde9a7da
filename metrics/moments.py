"""Mean and covariance of a stream of features, in float64 and in the memory of one F×F matrix."""

import torch

BLOCK_ROWS = 512


class Moments:
    """Add features with `append`, get mean and covariance with `result`.

    The first image is subtracted from all, which keeps digits that features far from zero would lose when the squared
    mean is subtracted. Rows are summed in blocks of a fixed size, so the result does not depend, bit for bit, on how
    the stream was split.
    """

    def __init__(self):
        self.count = 0
        self._origin = self._sum = self._products = None
        self._waiting = None

    def append(self, features):
        """Add `features` [N, F] of any float type; returns self."""
        features = torch.as_tensor(features)
        if self._origin is None:
            self._origin = features[0].double().clone()
            self._sum = torch.zeros_like(self._origin)
            self._products = self._sum.new_zeros(features.shape[1], features.shape[1])
            self._waiting = features[:0]
        self.count += len(features)
        blocks = torch.cat([self._waiting, features]).split(BLOCK_ROWS)
        for block in blocks[:-1]:
            self._add(self._sum, self._products, block)
        self._waiting = blocks[-1].clone()
        return self

    def _add(self, total, products, block):
        centred = block.double() - self._origin
        total += centred.sum(dim=0)
        products.addmm_(centred.T, centred)

    def result(self):
        """(mean [F], covariance [F, F]), float64; the covariance is divided by the number of images."""
        total, products = self._sum.clone(), self._products.clone()
        self._add(total, products, self._waiting)
        mean = total / self.count
        return self._origin + mean, products / self.count - torch.outer(mean, mean)
