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


def images(count):
    return Row(f"{count:,} images", {"--subset": count})


STUDY = Study(
    title="Where the baseline overfits",
    about=(
        "StyleGAN2 at 32² on few images of CIFAR-10, without augmentation, measured against all 50,000 training "
        "images. The network is narrow (`--cfg demo`: up to 64 channels, 16 images a step), so figures compare with each other "
        "and with nothing published. A seed also chooses which images are taken, so that the floor holds that choice "
        "too. Overfitting shows as a metric that turns up, and as scores of real training images that leave those of "
        "held-out images behind; held-out scores are drawn where a run reports them (`Loss/scores/holdout`)."
    ),
    base=CELL,
    rows={f"n{count}": images(count) for count in (100, 250, 1000, 5000)},
    baseline="n100",
    metrics=(FD,),
    claims=tuple(
        Claim(
            "ADA, Fig. 1",
            f"with {count:,} images the metric turns up before the end",
            "FID turns up, the sooner the fewer images (FFHQ, 256²)",
            row=f"n{count}",
            sign=1,
            figure=f"rise:{FD}",
        )
        for count in (100, 250, 1000, 5000)
    ),
)
