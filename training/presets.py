"""The presets of `--cfg`: one row each, with networks, loss, augmentation, data, schedule and metrics.

A row holds all differences between presets; no other code compares their names.
"""

import dataclasses
from collections.abc import Callable

QUICK_METRICS = "fd_effnet1k_full,pr_effnet1k3_full"
DIFFAUGMENT = ("color", "translation", "cutout")


@dataclasses.dataclass(frozen=True)
class Preset:
    """One row. A column is named after its option; None: `fit` computes it from the size of the images."""

    # Schedule
    ref_gpus: int = 8
    """Number of processes that share the batch."""
    kimg: float | None = 25000
    """Length in thousands of images. None: as many as `minutes` allow."""
    minutes: float = 12
    """Duration of a run without --kimg, on a CPU."""
    kimg_per_tick: float = 4
    """Thousands of images between two lines of statistics."""
    snap: int | None = 50
    """Ticks between snapshots. None: a quarter of the run."""
    batch: int | None = None
    """Images in a batch."""
    D_steps: int = 1
    """Steps of D per step of G."""
    G_batches: int = 1
    """Batches of generated images per step of G."""
    one_pass: bool = False
    """Whether D and then G train on the same generated images; D_steps is 1."""
    ema_kimg: float | None = None
    """Half-life of G_ema,"""
    ema_rampup: float | None = None
    """and at most this share of the images shown so far. None: no such limit."""
    usual_kimg: float = 60
    """Length for which the preset's durations are given. Where no --kimg is given, all but `ema_kimg` scale with the
    length that is chosen; the decay of the rates always does."""

    # Optimisers
    learning_rate: float | None = None
    """Of G."""
    D_learning_rate: float | None = None
    """Of D. None: G's."""
    betas: tuple = (0.0, 0.99)
    """Of Adam."""
    clip_learning_rate: float | None = None
    """Learning rate of RMSprop, which replaces Adam if the objective clips weights. None: always Adam."""
    decay: tuple | None = None
    """(s, f): rates are constant for the share s of the length, then fall linearly to f times. None: constant."""
    reg_intervals: tuple = (4, 16)
    """Steps between two regularisation phases of G and of D. None: one combined phase."""

    # Networks
    G_arch: str = "stylegan2"
    """Name in training/architectures."""
    D_arch: str = "stylegan2"
    """The same."""
    channel_base: int | None = None
    """Channels of a block times its side,"""
    channel_max: int = 512
    """and the largest number of channels."""
    latent_dim: int = 512
    """Dimensions of z and of w."""
    mapping_layers: int = 8
    """Layers of the mapping network."""
    use_noise: bool = True
    """Whether G has noise inputs."""
    architecture: str = "resnet"
    """Of StyleGAN2's D: orig, skip or resnet."""
    mbstd_group_size: int | None = None
    """Group size of the minibatch standard deviation."""
    half_precision: bool = True
    """Whether blocks compute in half precision on CUDA."""

    # Loss
    objective: str = "logistic"
    """Name of the GAN's objective."""
    r1_gamma: float | None = None
    """Weight of R1."""
    pl_weight: float = 2
    """Weight of path length."""
    style_mixing_prob: float = 0.9
    """Probability of style mixing."""
    terms: dict = dataclasses.field(default_factory=dict)
    """{term: its options that differ from its own defaults}."""

    # Augmentation
    aug: str = "ada"
    """Default of `--aug`,"""
    diffaugment_policies: tuple = DIFFAUGMENT
    """and `--diffaugment-policy`."""
    ada_kimg: float = 500
    """Thousands of images in which ADA and APA can move p from 0 to 1."""

    # Data and metrics
    data: str = "twemoji"
    """Default of `--data`,"""
    resolution: int = 256
    """and the size of built-in images."""
    cond: bool = False
    """Default of `--cond`,"""
    holdout: float = 0.0
    """and `--holdout`,"""
    metrics: str = "fid50k_full"
    """and `--metrics`."""
    few_images: bool = False
    """Whether the preset is for few or small images."""

    fit: Callable | None = None
    """Function (row, mean side of the images, processes, device) that fills in the rest."""


def fit_auto(row, side, gpus, device):
    """Batch, width, rates and R1 from the resolution and the number of processes."""
    batch = max(min(gpus * min(4096 // side, 32), 64), gpus)
    return dataclasses.replace(
        row,
        ref_gpus=gpus,
        batch=batch,
        mbstd_group_size=min(batch // gpus, 4),
        channel_base=32768 if side >= 512 else 16384,
        learning_rate=0.002 if side >= 1024 else 0.0025,
        r1_gamma=0.0002 * side**2 / batch,
        ema_kimg=batch * 10 / 32,
    )


def fit_fewshot(row, side, gpus, device):
    """Width by the device, R1 by the resolution; docs/few-images.md has the reasons."""
    narrow = {"channel_base": 2048, "channel_max": 128} if device == "cpu" else {"channel_base": 16384}
    return dataclasses.replace(row, r1_gamma=max(10 * (side / 256) ** 2, 1), **narrow)


def fit_small(row, side, gpus, device):
    """8 channels in the last block at least, R1 in proportion to the pixels from 32x32 on."""
    return dataclasses.replace(row, channel_base=max(512, int(8 * side)), r1_gamma=0.1 * max(side / 32, 1) ** 2)


def fit_fast(row, side, gpus, device):
    """32 channels in the last block, whatever its side. Small images do not benefit from half precision."""
    return dataclasses.replace(row, channel_base=int(32 * side), half_precision=side >= 128)


# The common part of plain GANs at 32x32, compared in experiments/plain/rows.py. The terms' published settings
# for them: aw with normalised gradients, because no lazy regularisation shares D's optimiser.
PLAIN = Preset(
    ref_gpus=1,
    batch=64,
    learning_rate=0.0002,
    betas=(0.5, 0.999),
    clip_learning_rate=0.00005,  # WGAN (arXiv:1701.07875, Alg. 1)
    reg_intervals=(None, None),
    ema_kimg=0,  # the papers sample from G itself
    half_precision=False,
    r1_gamma=0,
    pl_weight=0,
    style_mixing_prob=0,
    terms={"aw": {"normalize": True}},
    aug="noaug",
    resolution=32,
    snap=250,
    few_images=True,
)

PRESETS = {
    "auto": Preset(ema_rampup=0.05, mapping_layers=2, fit=fit_auto),
    "stylegan2": Preset(
        batch=32, mbstd_group_size=4, channel_base=32768, learning_rate=0.002, r1_gamma=10, ema_kimg=10
    ),
    "paper256": Preset(batch=64, mbstd_group_size=8, channel_base=16384, learning_rate=0.0025, r1_gamma=1, ema_kimg=20),
    "paper512": Preset(
        batch=64,
        mbstd_group_size=8,
        channel_base=32768,
        learning_rate=0.0025,
        r1_gamma=0.5,
        ema_kimg=20,
        resolution=512,
    ),
    "paper1024": Preset(
        batch=32, mbstd_group_size=4, channel_base=32768, learning_rate=0.002, r1_gamma=2, ema_kimg=10, resolution=1024
    ),
    "cifar": Preset(
        ref_gpus=2,
        kimg=100000,
        batch=64,
        learning_rate=0.0025,
        ema_kimg=500,
        ema_rampup=0.05,
        channel_base=32768,
        mapping_layers=2,
        architecture="orig",
        mbstd_group_size=32,
        r1_gamma=0.01,
        pl_weight=0,
        style_mixing_prob=0,
        resolution=32,
    ),
    "fewshot": Preset(
        ref_gpus=1,
        kimg=300,
        kimg_per_tick=1,  # half a minute on a CPU
        snap=20,
        batch=16,
        learning_rate=0.0025,
        ema_kimg=5,
        ema_rampup=0.05,
        mbstd_group_size=4,
        aug="diffaugment",
        holdout=0.1,
        metrics=QUICK_METRICS,
        few_images=True,
        fit=fit_fewshot,
    ),
    "demo": Preset(
        ref_gpus=1,
        kimg=None,
        kimg_per_tick=1,
        snap=None,
        batch=16,
        learning_rate=0.004,
        ema_kimg=2,
        ema_rampup=0.1,
        channel_base=1024,
        channel_max=64,
        latent_dim=128,
        mapping_layers=2,
        use_noise=False,  # noise inputs speckle flat emoji, and a short run cannot unlearn that
        mbstd_group_size=4,
        half_precision=False,  # the network is too small to benefit, and studies give equal results on GPU and CPU
        r1_gamma=1,
        pl_weight=0,
        terms={"sdp": {"start_kimg": 3, "grow_kimg": 5}},  # the paper's schedule is for much longer runs
        aug="diffaugment",  # ADA's rotations and colours leak into samples of few flat icons
        diffaugment_policies=("translation", "cutout"),
        ada_kimg=20,
        data="twemoji:smileys",
        resolution=32,
        metrics=QUICK_METRICS,
        few_images=True,
    ),
    "small": Preset(  # for many runs on small images: ten minutes each on one thread at 16x16
        ref_gpus=1,
        kimg=160,
        kimg_per_tick=2,
        snap=40,
        batch=32,
        learning_rate=0.002,
        ema_kimg=10,  # with the demo's 2, metrics vary by a third between snapshots
        ema_rampup=0.05,
        channel_max=32,
        latent_dim=128,
        mapping_layers=2,
        use_noise=False,
        mbstd_group_size=4,
        half_precision=False,  # so that studies give equal results on GPU and CPU
        pl_weight=0,
        terms={"sdp": {"start_kimg": 16, "grow_kimg": 16}},
        aug="noaug",
        ada_kimg=50,
        resolution=32,
        metrics="fd_vgg1k_full",
        few_images=True,
        fit=fit_small,
    ),
    "fast": Preset(
        ref_gpus=1,
        kimg=None,
        minutes=7,
        kimg_per_tick=1,
        snap=None,
        batch=16,
        one_pass=True,
        ema_kimg=4,
        ema_rampup=0.15,
        learning_rate=0.001,
        D_learning_rate=0.002,
        decay=(0.6, 0.05),
        reg_intervals=(None, None),
        G_arch="fast",
        D_arch="projected",
        channel_max=128,
        latent_dim=64,
        objective="hinge",
        r1_gamma=0,
        pl_weight=0,
        style_mixing_prob=0,
        terms={"sdp": {"start_kimg": 3, "grow_kimg": 5}},
        aug="diffaugment",
        diffaugment_policies=("translation", "cutout"),
        ada_kimg=20,
        data="twemoji:faces",
        resolution=32,
        metrics="fd_vgg1k_full,pr_vgg1k3_full",
        few_images=True,
        fit=fit_fast,
    ),
    "dcgan": dataclasses.replace(PLAIN, kimg=6400, G_arch="dcgan", D_arch="dcgan"),
    "sngan-cnn": dataclasses.replace(
        PLAIN,
        kimg=16000,
        D_steps=5,
        decay=(0, 0),
        G_arch="sngan-cnn",
        D_arch="sngan-cnn",
        objective="hinge",
    ),
    "sngan": dataclasses.replace(
        PLAIN,
        kimg=16000,
        D_steps=5,
        betas=(0.0, 0.9),
        decay=(0, 0),
        G_arch="sngan-resnet",
        D_arch="sngan-resnet",
        objective="hinge",
    ),
    "autogan": dataclasses.replace(
        PLAIN,
        kimg=16000,
        D_steps=5,
        betas=(0.0, 0.9),
        decay=(0, 0),
        ema_kimg=222,  # decay 0.999 per step of G
        ema_rampup=0.05,
        G_batches=2,  # its authors give D 64 images and G 128
        G_arch="autogan",
        D_arch="autogan",
        objective="hinge",
    ),
    "biggan": dataclasses.replace(
        PLAIN,
        kimg=25000,
        batch=50,
        D_steps=4,
        betas=(0.0, 0.999),
        ema_kimg=1386,  # decay 0.9999 per step of G
        ema_rampup=0.05,
        G_arch="biggan",
        D_arch="biggan",
        objective="hinge",
        cond=True,
    ),
}


def preset(name, side, gpus, device):
    """The row of a preset with every value filled in, for a mean image side, number of processes and device."""
    row = PRESETS[name]
    return row if row.fit is None else row.fit(row, side, gpus, device)
