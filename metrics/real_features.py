"""Features of real images, computed by all processes together and cached on disk."""

import dataclasses
import functools
import threading

import numpy as np
import torch

from metrics import cache, detectors
from metrics.draws import over_grey
from metrics.moments import Moments
from metrics.processes import Processes

MAX_KEPT = 200_000  # with more images, the Fréchet distance stores only moments, not features
SLAB = 16_384  # number of images whose features are in memory while moments are summed


@dataclasses.dataclass(frozen=True)
class RealFeatures:
    """A detector's features of the images of a data set; see training/dataset.py for `data`."""

    processes: Processes
    detector: detectors.Detector

    def of(self, data, num):
        """Features [num, F] of the first `num` images on the first process; None on the others."""
        path = functools.partial(self._path, "features", data, num)
        return cache.shared(self.processes, path, lambda: {"features": self._rows(data, num)}).get("features")

    def remembered(self, data, num):
        """Whether the cache has these features."""
        return self._path("features", data, num).exists()

    def moments(self, data, num):
        """(mean, covariance) of the first images' features on the first process; (None, None) on the others."""
        if num <= MAX_KEPT:  # other metrics need these features too
            features = self.of(data, num)
            return (None, None) if features is None else Moments().append(features).result()
        path = functools.partial(self._path, "moments", data, num)
        stored = cache.shared(self.processes, path, lambda: self._streamed_moments(data, num))
        return stored.get("mean"), stored.get("covariance")

    def _rows(self, data, num, start=0):
        one_reader = threading.Lock()

        def rows_of(indices):
            with one_reader:
                images = np.stack([data[min(i, len(data) - 1)][0] for i in indices])
            return self.detector.features(over_grey(torch.from_numpy(images), indices))

        return self.processes.rows("real images", rows_of, num, start)

    def _streamed_moments(self, data, num):
        moments = Moments()
        for start in range(0, num, SLAB):
            rows = self._rows(data, min(SLAB, num - start), start)
            if rows is not None:
                moments.append(rows)
        return dict(zip(("mean", "covariance"), moments.result())) if self.processes.rank == 0 else {}

    def _path(self, kind, data, num):
        seen_by = cache.seen_by(self.detector, self.processes.device)
        key = [
            kind,
            num,
            cache.content_hash(data),
            *seen_by,
        ]  # without the seed: runs with different seeds share a file
        return cache.path_of(f"{data.name[:40]}-{self.detector.name[:40]}", key)
