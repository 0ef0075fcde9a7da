"""What metrics are computed from: features of real and of generated images, by one process or by several.

Work is cut into chunks of one size, and chunk p goes to process p modulo their number. Sample i depends on (seed, i)
alone. So the first process ends up with the same rows in the same order however many share the work. On a CPU every
thread takes chunks of its own: convolutions come out with other last bits when threads share one.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import math
import threading
from typing import Any

import numpy as np
import torch
import torch.distributed

from dnnlib.util import UserError
from metrics import cache, detectors
from metrics.moments import Moments
from torch_utils import alpha
from torch_utils.misc import to_uint8

MAX_KEPT = 200_000  # above so many real images the Fréchet distance keeps moments only, never the features
GREY = 2  # of a sample's random generators, the one that draws the grey behind an image with alpha
SLAB = 16_384  # images whose features are in memory while moments are summed


@dataclasses.dataclass
class Evaluation:
    """Networks and data of one evaluation, and who shares the work. Networks are on `device` and in eval mode.

    dataset: the images to compare with, and the source of labels; see training/dataset.py.
    shared:  a dict where features of generated images are kept for the next metric of the same network.
    used:    what this evaluation has used, for its record.
    """

    G: Any
    D: Any
    dataset: Any
    device: torch.device
    detector: detectors.Detector | None = None
    seed: int = 0
    rank: int = 0
    num_processes: int = 1
    progress: Any = None
    shared: dict = dataclasses.field(default_factory=dict)
    used: dict = dataclasses.field(default_factory=dict)

    def rows(self, what, rows_of, num, start=0):
        """Rows start to start + num of `rows_of(range) -> [len(range), F]`; [num, F] on the first process, else None.

        The ranges have one length, so the last may reach beyond the end. Raises UserError for rows with NaN.
        """
        size = detectors.chunk_size(self.device)
        rounds = math.ceil(num / size / self.num_processes)
        firsts = [start + (step * self.num_processes + self.rank) * size for step in range(rounds)]
        share = []
        with exact_convolutions(), piecewise_map(self.device) as apply:
            for rows in apply(lambda first: rows_of(range(first, first + size)).cpu(), firsts):
                share.append(rows)
                if self.progress and self.rank == 0:
                    self.progress(min(len(share) * self.num_processes * size, num), num)
        shares = self._gather(torch.stack(share))
        rows = interleave(shares, num) if self.rank == 0 else None
        self.on_first(lambda: _require_finite(rows, what))
        return rows

    def _gather(self, share):
        """The shares of all processes on the first, None on the others."""
        if self.num_processes == 1:
            return [share]
        if _on_nccl():
            share = share.to(self.device)
        shares = [torch.empty_like(share) for _ in range(self.num_processes)] if self.rank == 0 else None
        torch.distributed.gather(share, shares)
        return shares and [share.cpu() for share in shares]

    def on_first(self, compute):
        """What `compute()` gives on the first process, on all of them; a UserError there is raised on all of them."""
        outcome = [None, None]
        if self.rank == 0:
            try:
                outcome = [compute(), None]
            except UserError as error:
                outcome = [None, str(error)]
        if self.num_processes > 1:
            torch.distributed.broadcast_object_list(outcome, device=self.device if _on_nccl() else None)
        if outcome[1] is not None:
            raise UserError(outcome[1])
        return outcome[0]

    def generate(self, indices):
        """Images of the samples `indices`, float [N, C, H, W], -1..1 (a little more where G overshoots).

        Latent, label and noise inputs of sample i depend on (seed, i) alone.
        """
        draws = [sample_rng(self.seed, i) for i in indices]
        z = np.stack([rng.standard_normal(self.G.z_dim) for rng in draws])
        labels = np.stack([self.dataset.label(int(rng.integers(len(self.dataset)))) for rng in draws])
        randn = noise_source([int(rng.integers(2**63)) for rng in draws], self.device)
        z, c = (torch.from_numpy(x).float().to(self.device) for x in (z, labels))
        with torch.inference_mode():
            ws = self.G.mapping(z, c[:, : self.G.c_dim])
            return self.G.synthesis(ws, noise_mode="random", randn=randn).float()

    def generated(self, want, num):
        """ "features" or "probabilities" of the first `num` generated images; [num, F] on the first process."""
        key = (want, self.detector.sha256, num, self.seed)
        self.used["num_fake"] = num
        if key not in self.shared:
            self.shared[key] = self._generated_rows(want, num)
        return self.shared[key]

    def _generated_rows(self, want, num):
        """The same from the disk where they are; networks that do not tell their arguments are not known again."""

        def compute():
            return {want: self.rows("generated images", lambda indices: self._detected(want, indices), num)}

        if not hasattr(self.G, "init_kwargs"):
            return compute()[want]
        path = functools.partial(self._generated_path, want, num)
        return self._cached(path, compute, cache.keep_generated).get(want)

    def _detected(self, want, indices):
        images = self.generate(indices)
        rows = getattr(self.detector, want)(over_grey(to_uint8(images), indices))
        broken = ~images.flatten(1).isfinite().all(dim=1).cpu()
        return rows.masked_fill(broken[:, None], float("nan"))  # in uint8 an image of NaN looks like any other

    def reals(self, metric):
        """`reals_of` the data set, written down."""
        data, num = reals_of(metric, self.dataset)
        self.used["num_real"] = num
        return data, num

    def real_features(self, metric):
        """Features [N, F] of the metric's real images, from the cache on disk where they are; on the first process."""
        return self.features_of(*self.reals(metric))

    def features_of(self, data, num):
        """Features [num, F] of the first images of `data`, cached on disk; on the first process, else None."""
        path = functools.partial(self._real_path, "features", data, num)
        return self._cached(path, lambda: {"features": self._real_rows(data, num)}).get("features")

    def remembers(self, data, num):
        """Whether the cache has what `features_of` gives."""
        return self._real_path("features", data, num).exists()

    def on_both_sets(self, metric, measure):
        """`measure(real features, generated features, metric.k)`, computed on the first process, on all of them."""
        real = self.real_features(metric)
        fake = self.generated("features", metric.num)
        device = "cuda" if self.device.type == "cuda" else "cpu"  # float64, which other devices lack
        return self.on_first(lambda: measure(real.to(device), fake.to(device), metric.k))

    def real_moments(self, metric):
        """(mean, covariance) of the features of the metric's real images; on the first process."""
        data, num = self.reals(metric)
        if num <= MAX_KEPT:  # these features serve the other metrics too
            features = self.real_features(metric)
            return Moments().append(features).result() if self.rank == 0 else None
        path = functools.partial(self._real_path, "moments", data, num)
        stored = self._cached(path, lambda: self._streamed_moments(data, num))
        return stored.get("mean"), stored.get("covariance")

    def _real_rows(self, data, num, start=0):
        one_reader = threading.Lock()

        def rows_of(indices):
            with one_reader:
                images = np.stack([data[min(i, len(data) - 1)][0] for i in indices])
            return self.detector.features(over_grey(torch.from_numpy(images), indices))

        return self.rows("real images", rows_of, num, start)

    def _streamed_moments(self, data, num):
        moments = Moments()
        for start in range(0, num, SLAB):
            rows = self._real_rows(data, min(SLAB, num - start), start)
            if self.rank == 0:
                moments.append(rows)
        return dict(zip(("mean", "covariance"), moments.result())) if self.rank == 0 else {}

    def _cached(self, path_of, compute, write=cache.keep_real):
        """Arrays from the file `path_of()`, else from `compute()`, which every process calls; only on the first."""
        path = path_of() if self.rank == 0 else None
        stored = cache.read_arrays(path) if self.rank == 0 else None
        if not self.on_first(lambda: stored is not None):
            stored = compute()
            self.on_first(lambda: write(path, stored))
        return stored or {}

    def _real_path(self, kind, data, num):
        key = [kind, num, cache.content_hash(data), *self._seen_by()]  # no seed: runs that differ in it share a file
        return cache.path_of(f"{data.name[:40]}-{self.detector.name[:40]}", key)

    def _generated_path(self, want, num):
        labels = cache.content_hash(self.dataset) if self.G.c_dim else len(self.dataset)  # a label is drawn for each
        key = [want, num, self.seed, cache.network_hash(self.G), labels]
        return cache.path_of(self.detector.name[:40], [*key, *self._seen_by()], cache.GENERATED)

    def _seen_by(self):
        return [self.detector.sha256, self.detector.resize_filter, str(self.device.type)]


def reals_of(metric, dataset):
    """(dataset, number of its images) that `metric` compares with. Raises UserError where there are too few."""
    data = dataset.unflipped() if metric.full else dataset
    if not metric.full and len(data) < metric.real_limit:
        raise UserError(
            f"{metric.name} takes {metric.real_limit} real images, {data.name} has {len(data)}: "
            f"use {metric.name}_full, which takes all there are"
        )
    if len(data) < metric.at_least:
        raise UserError(f"{metric.name} needs {metric.at_least} real images, {data.name} has {len(data)}: add more")
    return data, min(len(data), metric.real_limit or len(data))


def require_reals(metric, dataset):
    """Raises UserError where `dataset` has too few images for `metric`."""
    reals_of(metric, dataset)


def interleave(shares, num):
    """Rows [num, F] in sample order from the processes' shares, each [rounds, chunk, F]."""
    return torch.stack(shares, dim=1).flatten(0, 2)[:num]


def over_grey(images, indices):
    """RGB images as detectors see them: those with alpha, [N, 4, H, W], over a grey that the sample's index draws."""
    if images.shape[1] != 4:
        return images
    grey = [int(sample_rng(0, i, GREY).integers(256)) for i in indices]
    composed = alpha.over(images, torch.tensor(grey, device=images.device)[:, None, None, None])
    return composed if images.is_floating_point() else composed.round().to(torch.uint8)


def sample_rng(seed, *position):
    """The random generator of one sample: a function of the seed and the sample's position alone."""
    return np.random.default_rng([seed, *position])


def noise_source(seeds, device):
    """A `randn` for the noise inputs of a batch: row n comes from a generator of its own, seeded with seeds[n].

    The generators live on the device, so nothing waits for the host.
    """
    generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def randn(shape, device, dtype):
        return torch.stack([torch.randn(shape[1:], generator=g, device=device, dtype=dtype) for g in generators])

    return randn


def exact_convolutions():
    """On CUDA: full float32 and one algorithm, so that the same images give the same bits."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


@contextlib.contextmanager
def piecewise_map(device):
    """A `map` whose calls run side by side on a CPU, one thread each, as many as torch may use; elsewhere in turn."""
    threads = torch.get_num_threads()
    if device.type != "cpu":
        yield map
        return
    pool = concurrent.futures.ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)  # on an error or Ctrl-C do not work off the rest
        torch.set_num_threads(threads)  # MKL has one setting for all threads


def _require_finite(rows, what):
    if not all(part.isfinite().all() for part in rows.split(1024)):
        raise UserError(f"features of the {what} hold NaN or infinity: the network has diverged or a file is broken")


def _on_nccl():
    return torch.distributed.get_backend() == "nccl"
