"""What `--cfg` stands for: one row a preset, of networks, loss, augmentation, data, schedule and metrics.

A row holds everything in which presets differ; nothing else compares their names.
"""

import dataclasses
from collections.abc import Callable

QUICK_METRICS = "fd_effnet1k_full,pr_effnet1k3_full"
DIFFAUGMENT = ("color", "translation", "cutout")


@dataclasses.dataclass(frozen=True)
class Preset:
    """One row. None means "from the size" (`fit`) or "not used".

    Schedule
    ref_gpus:       how many processes share out the batch.
    kimg:           length in thousands of images. None: as many as `minutes` allow.
    minutes:        of a run whose length is not given, on a CPU.
    tick:           kimg of a tick.
    snap:           ticks between snapshots. None: a quarter of the run.
    batch:          images in a batch.
    D_steps:        steps of D a step of G.
    one_pass:       whether D and then G learn from the same generated images, made once; D_steps is 1.
    ema:            half-life of G_ema in kimg,
    ramp:           and at most this share of the images shown so far.
    usual_kimg:     what the durations of a run without a length are for; they grow with the length that is chosen.

    Optimisers
    lrate, D_lrate: learning rates. D's is G's where it is None.
    betas:          of Adam.
    clip_lrate:     the rate of RMSprop, in place of Adam, for an objective that clips weights. None: Adam for all.
    decay:          (s, f): the rates stay for the share s of the run's length and fall linearly to f times themselves
                    at its end. None: they stay.
    reg_intervals:  steps between two regularisation phases of G and of D. None: the GAN loss's phase does it all.

    Networks
    G_arch, D_arch: names of training/architectures.
    fmaps, fmax:    channel_base / 32768, channel_max.
    latent:         dimensions of z and w.
    map:            layers of the mapping network.
    noise:          whether G has noise inputs.
    architecture:   of D.
    mbstd:          group size of the minibatch standard deviation.
    half_precision: whether blocks compute in half precision on CUDA.

    Loss
    objective:      name of the GAN's objective.
    gamma:          weight of R1.
    pl_weight:      weight of path length.
    style_mixing:   probability of style mixing.
    terms:          {term: its options that differ from its own defaults}.

    Augmentation
    aug, policies:  what `--aug` and `--diffaugment-policy` are where they are not given.
    ada_kimg:       images in which ADA and APA move p from 0 to 1, in thousands.

    Data and metrics
    data:           what `--data` is where it is not given,
    resolution:     and how large built-in images are drawn then.
    cond:           what `--cond` is where it is not given,
    holdout:        and `--holdout`,
    metrics:        and `--metrics`.
    few_images:     whether the preset is made for few or small images.

    fit:            function (row, mean side of the images, processes, device) that fills in the rest.
    """

    ref_gpus: int = 8
    kimg: float | None = 25000
    minutes: float = 12
    tick: float = 4
    snap: int | None = 50
    batch: int | None = None
    D_steps: int = 1
    one_pass: bool = False
    ema: float | None = None
    ramp: float | None = None
    usual_kimg: float = 60

    lrate: float | None = None
    D_lrate: float | None = None
    betas: tuple = (0.0, 0.99)
    clip_lrate: float | None = None
    decay: tuple | None = None
    reg_intervals: tuple = (4, 16)

    G_arch: str = "stylegan2"
    D_arch: str = "stylegan2"
    fmaps: float | None = None
    fmax: int = 512
    latent: int = 512
    map: int = 8
    noise: bool = True
    architecture: str = "resnet"
    mbstd: int | None = None
    half_precision: bool = True

    objective: str = "logistic"
    gamma: float | None = None
    pl_weight: float = 2
    style_mixing: float = 0.9
    terms: dict = dataclasses.field(default_factory=dict)

    aug: str = "ada"
    policies: tuple = DIFFAUGMENT
    ada_kimg: float = 500

    data: str = "twemoji"
    resolution: int = 256
    cond: bool = False
    holdout: float = 0.0
    metrics: str = "fid50k_full"
    few_images: bool = False

    fit: Callable | None = None


def fit_auto(row, side, gpus, device):
    """Batch, width, rates and R1 from the resolution and the number of processes."""
    batch = max(min(gpus * min(4096 // side, 32), 64), gpus)
    return dataclasses.replace(
        row,
        ref_gpus=gpus,
        batch=batch,
        mbstd=min(batch // gpus, 4),
        fmaps=1 if side >= 512 else 0.5,
        lrate=0.002 if side >= 1024 else 0.0025,
        gamma=0.0002 * side**2 / batch,
        ema=batch * 10 / 32,
    )


def fit_fewshot(row, side, gpus, device):
    """Width by the device, R1 by the resolution; docs/few-images.md has the reasons."""
    narrow = {"fmaps": 1 / 16, "fmax": 128} if device == "cpu" else {"fmaps": 0.5}
    return dataclasses.replace(row, gamma=max(10 * (side / 256) ** 2, 1), **narrow)


def fit_fast(row, side, gpus, device):
    """32 channels in the last block, whatever its side."""
    return dataclasses.replace(row, fmaps=side / 1024)


# What the papers' plain GANs at 32x32 share; experiments/studies/plain.py compares them. The terms' published settings
# for them: aw with normalised gradients, since no lazy regularisation shares D's optimiser.
PLAIN = Preset(
    ref_gpus=1,
    batch=64,
    lrate=0.0002,
    betas=(0.5, 0.999),
    clip_lrate=0.00005,  # WGAN (arXiv:1701.07875, Alg. 1)
    reg_intervals=(None, None),
    ema=0,  # the papers draw with G itself
    half_precision=False,
    gamma=0,
    pl_weight=0,
    style_mixing=0,
    terms={"aw": {"normalize": True}},
    aug="noaug",
    resolution=32,
    snap=250,
)

PRESETS = {
    "auto": Preset(ramp=0.05, map=2, fit=fit_auto),
    "stylegan2": Preset(batch=32, mbstd=4, fmaps=1, lrate=0.002, gamma=10, ema=10),
    "paper256": Preset(batch=64, mbstd=8, fmaps=0.5, lrate=0.0025, gamma=1, ema=20),
    "paper512": Preset(batch=64, mbstd=8, fmaps=1, lrate=0.0025, gamma=0.5, ema=20, resolution=512),
    "paper1024": Preset(batch=32, mbstd=4, fmaps=1, lrate=0.002, gamma=2, ema=10, resolution=1024),
    "cifar": Preset(
        ref_gpus=2,
        kimg=100000,
        batch=64,
        lrate=0.0025,
        ema=500,
        ramp=0.05,
        fmaps=1,
        map=2,
        architecture="orig",
        mbstd=32,
        gamma=0.01,
        pl_weight=0,
        style_mixing=0,
        resolution=32,
    ),
    "fewshot": Preset(
        ref_gpus=1,
        kimg=300,
        snap=5,
        batch=16,
        lrate=0.0025,
        ema=5,
        ramp=0.05,
        mbstd=4,
        aug="diffaugment",
        holdout=0.1,
        metrics=QUICK_METRICS,
        few_images=True,
        fit=fit_fewshot,
    ),
    "demo": Preset(
        ref_gpus=1,
        kimg=None,
        tick=1,
        snap=None,
        batch=16,
        lrate=0.004,
        ema=2,
        ramp=0.1,
        fmaps=1 / 32,
        fmax=64,
        latent=128,
        map=2,
        noise=False,  # emoji are flat: noise inputs only speckle them, and a short run spends itself on unlearning that
        mbstd=4,
        half_precision=False,  # the network is too small to gain from it, and a study is the same on a GPU and on a CPU
        gamma=1,
        pl_weight=0,
        terms={"sdp": {"start_kimg": 3, "grow_kimg": 5}},  # the paper counts in tens of thousands of images
        aug="diffaugment",
        policies=("translation", "cutout"),  # ADA's turns and changed colours leak into samples of few flat icons
        ada_kimg=20,
        data="twemoji:smileys",
        resolution=32,
        metrics=QUICK_METRICS,
        few_images=True,
    ),
    "small": Preset(  # many runs on small images: ten minutes of one thread each at 16x16
        ref_gpus=1,
        kimg=160,
        tick=2,
        snap=40,
        batch=32,
        lrate=0.002,
        ema=10,  # with the demo's 2 the figures of one run swing by a third from snapshot to snapshot
        ramp=0.05,
        fmaps=1 / 64,
        fmax=32,
        latent=128,
        map=2,
        noise=False,
        mbstd=4,
        half_precision=False,  # so that a study is the same on a GPU and on a CPU
        gamma=0.1,
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
        tick=1,
        snap=None,
        batch=16,
        one_pass=True,
        ema=2,
        ramp=0.1,
        lrate=0.001,
        D_lrate=0.0002,
        decay=(0.6, 0.05),
        reg_intervals=(None, None),
        G_arch="fast",
        D_arch="projected",
        fmax=128,
        latent=128,
        half_precision=False,
        objective="hinge",
        gamma=0,
        pl_weight=0,
        style_mixing=0,
        terms={"sdp": {"start_kimg": 3, "grow_kimg": 5}},
        aug="diffaugment",
        policies=("translation", "cutout"),
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
        ema=222,  # 0.999 a step of G
        ramp=0.05,
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
        ema=1386,  # 0.9999 a step of G
        ramp=0.05,
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
