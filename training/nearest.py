"""Detect copying: compare samples with their nearest training images, in features of EfficientNet-Lite0, or of VGG16 if
D uses those of EfficientNet-Lite0.

Samples of a network that copies are nearer to the training images than held-out images are or, if none are held out,
than training images are to each other.
"""

import numpy as np
import torch

from metrics.detectors import load_detector
from metrics.draws import over_grey
from metrics.features_metrics import nearest_neighbours
from metrics.processes import Processes
from metrics.real_features import RealFeatures
from training import grids

COUNT = 64  # samples to compare
SHOWN = 12  # show this many of them, those with the smallest distances
MAX_IMAGES = 5000  # compare with more only if a metric has cached their features
REFERENCES = 500  # number of reference images for comparison


class NearestImages:
    """Compares samples with the images of a `Dataset`."""

    def __init__(self, dataset, device, progress=None, features="effnet"):
        """progress: called with (images done, images in all) while features are computed; it may raise.

        features: the detector, by its name in metrics (metrics/registry.py).

        Raises UserError if the detector is not available.
        """
        self.data, self.held_out = dataset.with_held_out()
        self.detector = load_detector(features, device)
        self.features = RealFeatures(Processes(device, progress=progress), self.detector)

    def __call__(self, samples):
        """(picture uint8 [C, H, W], figures for JSON) of samples uint8 [N, C, H, W]; None if the data set is too large.

        The picture shows the samples with the smallest distances above their nearest training images. Figures:
        `samples`, `reference`: medians of the distance to the nearest training image; `of`: the kind of reference.
        """
        if len(self.data) > MAX_IMAGES and not self.features.remembered(self.data, len(self.data)):
            return None
        features = self.features.of(self.data, len(self.data))
        held_out = torch.from_numpy(self.held_out)
        train = features[~held_out]
        chosen = torch.from_numpy(samples[:COUNT])
        distances, indices = nearest_neighbours(self.detector.features(over_grey(chosen, range(len(chosen)))), train)
        if held_out.any():
            reference, of = nearest_neighbours(features[held_out][:REFERENCES], train)[0], "held-out images"
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
