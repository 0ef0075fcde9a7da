"""The input of metrics: features of real and generated images.

Sample i depends only on (seed, i), so values do not depend on the number of processes.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
import torch

from dnnlib.util import UserError
from metrics import cache, detectors
from metrics.draws import over_grey, sample_rng, synthesized
from metrics.processes import Processes
from metrics.real_features import RealFeatures
from torch_utils.misc import to_uint8


@dataclasses.dataclass
class Evaluation:
    """Networks and data of one evaluation. Networks are on the device of `processes` and in eval mode.

    dataset: the images to compare with, and the source of labels; see training/dataset.py.
    shared:  a dict that keeps features of generated images for the next metric of the same network.
    used:    data and detectors of this evaluation, for its record.
    """

    G: Any
    D: Any
    dataset: Any
    processes: Processes
    detector: detectors.Detector | None = None
    seed: int = 0
    shared: dict = dataclasses.field(default_factory=dict)
    used: dict = dataclasses.field(default_factory=dict)

    @property
    def device(self):
        return self.processes.device

    def generate(self, indices):
        """Images of the samples `indices`, float [N, C, H, W], about -1..1.

        Latent, label and noise of sample i depend only on (seed, i).
        """
        draws = [sample_rng(self.seed, i) for i in indices]
        z = np.stack([rng.standard_normal(self.G.z_dim) for rng in draws])
        labels = np.stack([self.dataset.label(int(rng.integers(len(self.dataset)))) for rng in draws])
        seeds = [int(rng.integers(2**63)) for rng in draws]
        z, c = (torch.from_numpy(x).float().to(self.device) for x in (z, labels))
        with torch.inference_mode():
            return synthesized(self.G, self.G.mapping(z, c[:, : self.G.c_dim]), seeds)

    def generated(self, want, num):
        """ "features" or "probabilities" of the first `num` generated images; [num, F] on the first process."""
        key = (want, self.detector.sha256, num, self.seed)
        self.used["num_fake"] = num
        if key not in self.shared:
            self.shared[key] = self._generated_rows(want, num)
        return self.shared[key]

    def _generated_rows(self, want, num):
        """The same, from the disk cache if possible. Networks without init_kwargs are not cached."""

        def compute():
            rows_of = functools.partial(self._detected, want)
            return {want: self.processes.rows("generated images", rows_of, num)}

        if not hasattr(self.G, "init_kwargs"):
            return compute()[want]
        path = functools.partial(self._generated_path, want, num)
        return cache.shared(self.processes, path, compute, cache.keep_generated).get(want)

    def _detected(self, want, indices):
        images = self.generate(indices)
        rows = getattr(self.detector, want)(over_grey(to_uint8(images), indices))
        broken = ~images.flatten(1).isfinite().all(dim=1).cpu()
        return rows.masked_fill(broken[:, None], float("nan"))  # as uint8, an image of NaN would look valid

    def _generated_path(self, want, num):
        labels = (
            cache.content_hash(self.dataset) if self.G.c_dim else len(self.dataset)
        )  # labels are drawn from the data set
        key = [want, num, self.seed, cache.network_hash(self.G), labels, *cache.seen_by(self.detector, self.device)]
        return cache.path_of(self.detector.name[:40], key, cache.GENERATED)

    def real_features(self, metric):
        """Features [N, F] of the metric's real images on the first process; None on the others."""
        return RealFeatures(self.processes, self.detector).of(*self._reals(metric))

    def real_moments(self, metric):
        """(mean, covariance) of the real images' features on the first process; (None, None) on the others."""
        return RealFeatures(self.processes, self.detector).moments(*self._reals(metric))

    def _reals(self, metric):
        data, num = reals_of(metric, self.dataset)
        self.used["num_real"] = num
        return data, num

    def on_both_sets(self, metric, measure):
        """`measure(real features, generated features, metric.k)`, computed on the first process and sent to all."""
        real = self.real_features(metric)
        fake = self.generated("features", metric.num)
        device = "cuda" if self.device.type == "cuda" else "cpu"  # other devices lack float64
        return self.processes.on_first(lambda: measure(real.to(device), fake.to(device), metric.k))


def reals_of(metric, dataset):
    """(dataset, number of its images) for `metric`. Raises UserError if there are too few."""
    data = dataset.unflipped() if metric.full else dataset
    if not metric.full and len(data) < metric.real_limit:
        raise UserError(
            f"{metric.name} needs {metric.real_limit} real images, {data.name} has {len(data)}: "
            f"use {metric.name}_full, which uses all images"
        )
    if len(data) < metric.at_least:
        raise UserError(f"{metric.name} needs {metric.at_least} real images, {data.name} has {len(data)}: add more")
    return data, min(len(data), metric.real_limit or len(data))


def require_reals(metric, dataset):
    """Raise UserError if `dataset` has too few images for `metric`."""
    reals_of(metric, dataset)
