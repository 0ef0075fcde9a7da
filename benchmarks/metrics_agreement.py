"""Agreement of metrics with independent computations, and their speed: python benchmarks/metrics_agreement.py"""

import pathlib
import sys
import time

import numpy as np
import scipy.linalg
import scipy.spatial
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from metrics import detectors  # noqa: E402
from metrics.evaluation import piecewise_map  # noqa: E402
from metrics.features_metrics import frechet_distance_from_moments, kernel_distance, precision_recall  # noqa: E402
from metrics.moments import Moments  # noqa: E402


def main():
    for width in (1280, 2048):
        real, fake = (features(4000, width, seed) for seed in (0, 1))
        (m_r, s_r), (m_f, s_f) = (Moments().append(x).result() for x in (real, fake))
        ours = timed(lambda: frechet_distance_from_moments(m_r, s_r, m_f, s_f))
        sqrtm = timed(lambda: (m_r - m_f).square().sum() + (s_r + s_f).trace() - 2 * root_trace(s_r, s_f))
        report(f"Fréchet distance, {width} features, against sqrtm", ours, sqrtm)
    report("KID, one subset of 1,000, against the MMD", timed(lambda: kernel_distance(real[:1000], fake[:1000], 1)),
           timed(lambda: mmd(real[:1000].astype(float), fake[:1000].astype(float))))  # fmt: skip
    ours = timed(lambda: precision_recall(real, fake)[0])
    report("precision, 4,000 images, against cdist", ours, timed(lambda: precision(real, fake)))
    print(f"EfficientNet-Lite0 at 224 pixels, {torch.get_num_threads()} threads: {detector_speed():.0f} images/s")


def features(num, width, seed):
    draws = np.random.RandomState(0)
    mixing = draws.randn(width, width) * np.exp(-np.arange(width) / 150)
    rows = np.random.RandomState(seed + 1).randn(num, width) @ mixing
    return np.maximum(rows + 0.1 * seed, 0).astype(np.float32)


def root_trace(s_r, s_f):
    return float(np.trace(scipy.linalg.sqrtm(s_r.numpy() @ s_f.numpy())).real)


def mmd(x, y):
    (xx, yy, xy), n = ([(a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]), len(x)
    return sum((k.sum() - np.trace(k)) / (n * (n - 1)) for k in (xx, yy)) - 2 * xy.mean()


def precision(real, fake):
    real, fake = real.astype(float), fake.astype(float)
    radius = np.partition(scipy.spatial.distance.cdist(real, real), 3, axis=1)[:, 3]
    return (scipy.spatial.distance.cdist(real, fake) <= radius[:, None]).any(axis=0).mean()


def detector_speed(num=400):
    detector = detectors.load_detector("effnet", "cpu")
    pieces = torch.randint(0, 256, (num, 3, 224, 224), dtype=torch.uint8).split(detectors.piece_size("cpu"))
    with piecewise_map(torch.device("cpu")) as apply:
        list(apply(detector.features, pieces[:10]))
        seconds = timed(lambda: list(apply(detector.features, pieces)))[1]
    return num / seconds


def timed(compute):
    start = time.perf_counter()
    return compute(), time.perf_counter() - start


def report(what, ours, other):
    print(f"{what}: relative difference {abs(ours[0] / other[0] - 1):.0e}, {ours[1]:.2f} s against {other[1]:.2f} s")


if __name__ == "__main__":
    main()
