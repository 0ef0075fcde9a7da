"""Quality after the same CPU time with `fast`, `fewshot`, and a relativistic GAN."""

import math

from experiments.studies.fast_terms import RPGAN
from experiments.study import Claim, Row, Study
from training.presets import PRESETS

FD = "fd_vgg1k_full"
SNAPSHOTS = 4  # of each run, a figure each
EMOJI = {"--diffaugment-policy": "translation,cutout"}  # colours leak into samples of flat pictures
PHOTOS = {"--diffaugment-policy": "color,translation,cutout"}
CARS = {"--data": "{data}/cars100.zip", "--metricdata": "{data}/cars1000.zip", **PHOTOS}
CIFAR = {"--data": "{data}/cifar1000.zip", "--metricdata": "{data}/cifar5000.zip", **PHOTOS}
SETS = {  # key: (name, options, side of an image)
    "smileys": ("168 smileys, 32²", {"--data": "twemoji:smileys", "--resolution": 32, **EMOJI}, 32),
    "cars": ("100 cars, 32²", CARS, 32),
    "cifar": ("1,000 of CIFAR-10, 32²", CIFAR, 32),
    "animals": ("153 animals, 64²", {"--data": "twemoji:animals", "--resolution": 64, **EMOJI}, 64),
}
WAYS = {  # key: (name, options, {side: kimg of six minutes of one thread})
    "fewshot": ("fewshot", {"--cfg": "fewshot", "--holdout": 0}, {32: 14, 64: 8}),
    "rpgan": ("small, rpgan + R1 + R2", RPGAN, {32: 88, 64: 40}),
    "fast": ("fast", {"--cfg": "fast"}, {32: 34, 64: 10}),
}


def row(data, way):
    (set_name, images, side), (name, options, kimg) = SETS[data], WAYS[way]
    ticks = kimg[side] / PRESETS[options["--cfg"]].kimg_per_tick
    length = {"--kimg": kimg[side], "--snap": math.ceil(ticks / SNAPSHOTS)}
    return Row(f"{set_name}: {name}", {**options, **images, **length}, beside=f"{data}-fewshot")


STUDY = Study(
    title="Equal time",
    question="Which preset is best after six minutes of a CPU?",
    about=(
        "This study compares what a user gets after about six minutes of one CPU thread. *fewshot* is `--cfg "
        "fewshot` without held-out images: StyleGAN2 of up to 128 channels. *small, rpgan + R1 + R2* is relativistic "
        "pairing with both penalties on the narrow StyleGAN2 of `--cfg small`. *fast* is `--cfg fast`. All have "
        "DiffAugment: translation and cutout, and for photographs colour. The kimg of a row follow from the CPU time "
        "of one short run on an AMD EPYC (AVX-512), `Timing/cpu_sec_per_kimg` with `OMP_NUM_THREADS=1`. At 32x32 a "
        "kimg took 25.6 s with fewshot, 4.1 with rpgan and 10.9 with fast; at 64x64 45.1, 8.7 and 35.0. The time of "
        "metrics is not counted. The recorded runs were on several machines, partly beside other work, and took "
        "longer: `cpu_minutes` in the table. So the figure's axis has planned minutes: the share of the run's "
        "images, times six. Metrics use VGG16's features, and compare with all images of the group for emoji, with "
        "1,000 cars, or with 5,000 images of CIFAR-10. FID at the end uses Inception if its package is installed."
    ),
    base={"--workers": 0, "--state-minutes": 2},
    rows={f"{data}-{way}": row(data, way) for data in SETS for way in WAYS},
    baseline="smileys-fewshot",
    minutes=6,
    effect="10%",
    seeds=8,
    looks=(3, 8),
    metrics=(FD,),
    final=("kid_vgg1k_full", "pr_vgg1k3_full", "fid1k_full"),
    claims=tuple(
        Claim("users", f"{name} beats fewshot on {SETS[data][0]}", "not published",
              f"{data}-{way}", f"{data}-fewshot")
        for data in SETS for way, (name, *_) in WAYS.items() if way != "fewshot"
    ),
)  # fmt: skip
