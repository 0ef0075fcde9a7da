"""Where StyleGAN2 overfits on few images, without any remedy: the cell in which the other studies look."""

from experiments.study import Claim, Row, Study

FD = "fd_effnet1k_full"
CELL = {
    "--cfg": "demo",
    "--data": "{data}/cifar10.zip",
    "--metricdata": "{data}/cifar10.zip",
    "--aug": "noaug",
    "--kimg": 24,
    "--snap": 4,
    "--workers": 0,
    "--device": "cpu",
    "--state-minutes": 2,
}
COUNTS = (100, 250, 1000, 5000)
PROTOCOL = (
    "The network is narrow (`--cfg demo`: up to 64 channels, 16 images a step), so figures compare with each other and "
    "with nothing published. A seed also chooses which images are taken, so the floor holds that choice too."
)

STUDY = Study(
    title="Where the baseline overfits",
    about=(
        "StyleGAN2 at 32² on few images of CIFAR-10, without augmentation, measured against all 50,000 training "
        f"images. {PROTOCOL} Overfitting shows as a metric that turns up, and as scores of the training images that "
        "leave those of held-out images behind; held-out scores are drawn where a run reports them "
        "(`Loss/scores/holdout`)."
    ),
    base=CELL,
    rows={f"n{count}": Row(f"{count:,} images", {"--subset": count}) for count in COUNTS},
    baseline="n100",
    metrics=(FD,),
    claims=tuple(
        Claim(
            "ADA, Fig. 1",
            f"with {count:,} images the metric turns up before the end (last minus best)",
            "FID turns up, the sooner the fewer images (FFHQ, 256²)",
            row=f"n{count}",
            sign=1,
            figure=f"rise:{FD}",
        )
        for count in COUNTS
    ),
)
