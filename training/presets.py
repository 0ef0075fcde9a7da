"""What `--cfg` stands for: one row a preset, of networks, loss, augmentation, data, schedule and metrics.

A row holds everything in which presets differ; nothing else compares their names.
"""

import dataclasses
from collections.abc import Callable

QUICK_METRICS = "fd_effnet1k_full,pr_effnet1k3_full"
DIFFAUGMENT = ("color", "translation", "cutout")


@dataclasses.dataclass(frozen=True)
class Preset:
    """One row. A column is named after the option that it fills in; None: from the size of the images, by `fit`."""

    # Schedule
    ref_gpus: int = 8
    """How many processes share out the batch."""
    kimg: float | None = 25000
    """Length in thousands of images. None: as many as `minutes` allow."""
    minutes: float = 12
    """Of a run whose length is not given, on a CPU."""
    kimg_per_tick: float = 4
    """Thousands of images between two lines of statistics."""
    snap: int | None = 50
    """Ticks between snapshots. None: a quarter of the run."""
    batch: int | None = None
    """Images in a batch."""
    D_steps: int = 1
    """Steps of D a step of G."""
    one_pass: bool = False
    """Whether D and then G learn from the same generated images, made once; D_steps is 1."""
    ema_kimg: float | None = None
    """Half-life of G_ema,"""
    ema_rampup: float | None = None
    """and at most this share of the images shown so far. None: no such limit."""
    usual_kimg: float = 60
    """What the durations of a run without a length are for; they grow with the length that is chosen."""

    # Optimisers
    learning_rate: float | None = None
    """Of G."""
    D_learning_rate: float | None = None
    """Of D. None: that of G."""
    betas: tuple = (0.0, 0.99)
    """Of Adam."""
    clip_learning_rate: float | None = None
    """Of RMSprop, in place of Adam, for an objective that clips weights. None: Adam for all."""
    decay: tuple | None = None
    """(s, f): rates stay for the share s of the length and fall linearly to f times themselves. None: they stay."""
    reg_intervals: tuple = (4, 16)
    """Steps between two regularisation phases of G and of D. None: the GAN loss's phase does it all."""

    # Networks
    G_arch: str = "stylegan2"
    """Name in training/architectures."""
    D_arch: str = "stylegan2"
    """The same."""
    channel_base: int | None = None
    """Channels of a block, times its side,"""
    channel_max: int = 512
    """and at most so many."""
    latent_dim: int = 512
    """Dimensions of z and of w."""
    mapping_layers: int = 8
    """Layers of the mapping network."""
    use_noise: bool = True
    """Whether G has noise inputs."""
    architecture: str = "resnet"
    """Of StyleGAN2's D: orig, skip or resnet."""
    mbstd_group_size: int | None = None
    """Images over which the minibatch standard deviation goes."""
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
    """What `--aug` is where it is not given,"""
    diffaugment_policies: tuple = DIFFAUGMENT
    """and `--diffaugment-policy`."""
    ada_kimg: float = 500
    """Thousands of images in which ADA and APA can move p from 0 to 1."""

    # Data and metrics
    data: str = "twemoji"
    """What `--data` is where it is not given,"""
    resolution: int = 256
    """and how large built-in images are drawn then."""
    cond: bool = False
    """What `--cond` is where it is not given,"""
    holdout: float = 0.0
    """and `--holdout`,"""
    metrics: str = "fid50k_full"
    """and `--metrics`."""
    few_images: bool = False
    """Whether the preset is made for few or small images."""

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


def fit_fast(row, side, gpus, device):
    """32 channels in the last block, whatever its side. Small images leave a GPU waiting in any precision."""
    return dataclasses.replace(row, channel_base=int(32 * side), half_precision=side >= 128)


# What the papers' plain GANs at 32x32 share; experiments/plain/rows.py compares them. The terms' published settings
# for them: aw with normalised gradients, since no lazy regularisation shares D's optimiser.
PLAIN = Preset(
    ref_gpus=1,
    batch=64,
    learning_rate=0.0002,
    betas=(0.5, 0.999),
    clip_learning_rate=0.00005,  # WGAN (arXiv:1701.07875, Alg. 1)
    reg_intervals=(None, None),
    ema_kimg=0,  # the papers draw with G itself
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
        kimg_per_tick=1,  # on a CPU half a minute
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
        use_noise=False,  # noise inputs only speckle flat emoji, which a short run spends itself on unlearning
        mbstd_group_size=4,
        half_precision=False,  # the network is too small to gain from it, and a study is the same on a GPU and on a CPU
        r1_gamma=1,
        pl_weight=0,
        terms={"sdp": {"start_kimg": 3, "grow_kimg": 5}},  # the paper counts in tens of thousands of images
        aug="diffaugment",
        diffaugment_policies=("translation", "cutout"),  # ADA's turns and colours leak into samples of few flat icons
        ada_kimg=20,
        data="twemoji:smileys",
        resolution=32,
        metrics=QUICK_METRICS,
        few_images=True,
    ),
    "small": Preset(  # many runs on small images: ten minutes of one thread each at 16x16
        ref_gpus=1,
        kimg=160,
        kimg_per_tick=2,
        snap=40,
        batch=32,
        learning_rate=0.002,
        ema_kimg=10,  # with the demo's 2 the figures of one run swing by a third from snapshot to snapshot
        ema_rampup=0.05,
        channel_base=512,
        channel_max=32,
        latent_dim=128,
        mapping_layers=2,
        use_noise=False,
        mbstd_group_size=4,
        half_precision=False,  # so that a study is the same on a GPU and on a CPU
        r1_gamma=0.1,
        pl_weight=0,
        terms={"sdp": {"start_kimg": 16, "grow_kimg": 16}},
        aug="noaug",
        ada_kimg=50,
        resolution=32,
        metrics="fd_vgg1k_full",
        few_images=True,
    ),
    "fast": Preset(
        ref_gpus=1,
        kimg=None,
        minutes=8,
        kimg_per_tick=1,
        snap=None,
        batch=16,
        one_pass=True,
        ema_kimg=2,
        ema_rampup=0.1,
        learning_rate=0.001,
        D_learning_rate=0.0002,
        decay=(0.6, 0.05),
        reg_intervals=(None, None),
        G_arch="fast",
        D_arch="projected",
        channel_max=128,
        latent_dim=128,
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
        ema_kimg=222,  # 0.999 a step of G
        ema_rampup=0.05,
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
        ema_kimg=1386,  # 0.9999 a step of G
        ema_rampup=0.05,
        G_arch="biggan",
        D_arch="biggan",
        objective="hinge",
        cond=True,
    ),
}


def preset(name, side, gpus, device):
    """The row of a preset with every value filled in, for a mean side of the images, processes and a device."""
    row = PRESETS[name]
    return row if row.fit is None else row.fit(row, side, gpus, device)
