"""Agreement of metrics with independent computations, and their speed: python benchmarks/metrics_agreement.py"""

import pathlib
import sys
import time

import numpy as np
import scipy.linalg
import scipy.spatial
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from dnnlib.options import command  # noqa: E402
from dnnlib.util import run_command  # noqa: E402
from metrics import detectors  # noqa: E402
from metrics.features_metrics import frechet_distance_from_moments, kernel_distance, precision_recall  # noqa: E402
from metrics.moments import Moments  # noqa: E402
from metrics.processes import piecewise_map  # noqa: E402


@command()
def main():
    """Compare metrics with independent computations, and their speed."""
    print(f"EfficientNet-Lite0 at 224 pixels, {torch.get_num_threads()} threads: {detector_speed():.0f} images/s")
    x, y = (features(1000, 1280, seed) for seed in (0, 1))
    report("KID, one subset of 1,000, against the MMD written out", kernel_distance, (x, y, 1), mmd, (x, y))
    report(
        "precision of 1,000 images against cdist", lambda *sets: precision_recall(*sets)[0], (x, y), precision, (x, y)
    )
    for width in (1280, 2048):
        moments = [m for seed in (0, 1) for m in Moments().append(features(4000, width, seed)).result()]
        report(f"Fréchet distance of {width} features against sqrtm", frechet_distance_from_moments, moments,
               with_sqrtm, [m.numpy() for m in moments])  # fmt: skip


def features(num, width, seed):
    draws = np.random.RandomState(0)
    mixing = draws.randn(width, width) * np.exp(-np.arange(width) / 150)
    rows = np.random.RandomState(seed + 1).randn(num, width) @ mixing
    return np.maximum(rows + 0.1 * seed, 0).astype(np.float32)


def with_sqrtm(m_r, s_r, m_f, s_f):
    return np.square(m_r - m_f).sum() + np.trace(s_r + s_f) - 2 * np.trace(scipy.linalg.sqrtm(s_r @ s_f)).real


def mmd(x, y):
    x, y = x.astype(float), y.astype(float)
    (xx, yy, xy), n = ([(a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]), len(x)
    return sum((k.sum() - np.trace(k)) / (n * (n - 1)) for k in (xx, yy)) - 2 * xy.mean()


def precision(real, fake):
    real, fake = real.astype(float), fake.astype(float)
    radius = np.partition(scipy.spatial.distance.cdist(real, real), 3, axis=1)[:, 3]
    return (scipy.spatial.distance.cdist(real, fake) <= radius[:, None]).any(axis=0).mean()


def detector_speed(num=400):
    detector = detectors.load_detector("effnet", "cpu")
    chunks = torch.randint(0, 256, (num, 3, 224, 224), dtype=torch.uint8).split(detectors.chunk_size("cpu"))
    with piecewise_map(torch.device("cpu")) as apply:
        list(apply(detector.features, chunks[:10]))
        seconds = timed(lambda: list(apply(detector.features, chunks)))[1]
    return num / seconds


def timed(compute):
    start = time.perf_counter()
    return compute(), time.perf_counter() - start


def report(what, ours, our_arguments, other, other_arguments):
    (a, our_seconds), (b, other_seconds) = timed(lambda: ours(*our_arguments)), timed(lambda: other(*other_arguments))
    print(f"{what}: relative difference {abs(a / b - 1):.0e}, {our_seconds:.2f} s against {other_seconds:.2f} s")


if __name__ == "__main__":
    run_command(main)
