"""Copying: samples beside their nearest training images, in the features of EfficientNet-Lite0, or of VGG16 where D
judges with those.

A network that copies draws samples nearer to the training images than other images of the kind are: than held-out
images, or, where there are none, than training images are to each other.
"""

import numpy as np
import torch

from metrics.detectors import load_detector
from metrics.draws import over_grey
from metrics.features_metrics import nearest_neighbours
from metrics.processes import Processes
from metrics.real_features import RealFeatures
from training import grids

COUNT = 64  # samples that are compared
SHOWN = 12  # of these, with the smallest distances
MAX_IMAGES = 5000  # more are compared with only where a metric has left their features in the cache
REFERENCES = 500  # images whose distances the samples' are compared with


class NearestImages:
    """Compares samples with the images of a `Dataset`."""

    def __init__(self, dataset, device, progress=None, features="effnet"):
        """progress: called with (images done, images in all) while features are computed; it may raise.

        features: of which network, by its name in metrics (metrics/registry.py).

        Raises UserError where the detector cannot be had.
        """
        self.data, self.held_out = dataset.with_held_out()
        self.detector = load_detector(features, device)
        self.features = RealFeatures(Processes(device, progress=progress), self.detector)

    def __call__(self, samples):
        """(picture uint8 [C, H, W], figures fit for JSON) of samples uint8 [N, C, H, W]; None for too large a data set.

        The picture has the samples with the smallest distances above, their nearest training images below. Figures:
        `samples`, `reference`: medians of the distance to the nearest training image; `of`: what the reference is of.
        """
        if len(self.data) > MAX_IMAGES and not self.features.remembered(self.data, len(self.data)):
            return None
        known = self.features.of(self.data, len(self.data))
        held_out = torch.from_numpy(self.held_out)
        train = known[~held_out]
        chosen = torch.from_numpy(samples[:COUNT])
        distances, indices = nearest_neighbours(self.detector.features(over_grey(chosen, range(len(chosen)))), train)
        if held_out.any():
            reference, of = nearest_neighbours(known[held_out][:REFERENCES], train)[0], "held-out images"
        else:
            reference, of = (
                nearest_neighbours(train[:: -(-len(train) // REFERENCES)], train, skip=1)[0],
                "training images",
            )
        order = distances.argsort()[:SHOWN]
        places = np.flatnonzero(~self.held_out)[indices[order].numpy()]
        rows = np.concatenate([samples[order.numpy()], np.stack([self.data[int(i)][0] for i in places])])
        figures = {
            "samples": float(distances.median()),
            "reference": float(reference.median()),
            "of": of,
            "features": self.detector.name,
            "count": len(distances),
            "shown": [round(float(distance), 3) for distance in distances[order]],
        }
        return grids.tile(rows, len(order)), figures
