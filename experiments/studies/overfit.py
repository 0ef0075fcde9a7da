"""Where StyleGAN2 overfits on few images, without any remedy: the cell in which the other studies look."""

from experiments.study import Claim, Row, Study

FD = "fd_effnet1k_full"
CELL = {
    "--cfg": "demo",
    "--data": "{data}/cifar10.zip",
    "--metricdata": "{data}/cifar10.zip",
    "--aug": "noaug",
    "--gamma": 0.01,
    "--holdout": 0.5,
    "--kimg": 16,
    "--snap": 4,
    "--workers": 0,
    "--device": "cpu",
    "--state-minutes": 2,
}
COUNTS = (100, 250, 1000, 5000)
PROTOCOL = (
    "The network is narrow (`--cfg demo`: up to 64 channels, 16 images a step), so figures compare with each other and "
    "with nothing published. R1's weight is that of the `cifar` preset, 0.01; the demo's is 1. A seed "
    "also chooses which images are taken, so the floor holds that choice too."
)

STUDY = Study(
    title="Where the baseline overfits",
    about=(
        "StyleGAN2 at 32² on few images of CIFAR-10, without augmentation, measured against all 50,000 training "
        f"images. {PROTOCOL} Overfitting shows as a metric that turns up, and as scores of the training images that "
        "leave those of held-out images behind: of twice as many images, half are kept out (`--holdout 0.5`). Seen so "
        "far: with 100 images the gap opens (0.44 to 0.71 at 16 kimg, 5 seeds), with 250 less (0.27, 1 seed), with "
        "1,000 and 5,000 hardly (-0.08 and 0.16); yet the metric does not turn up beyond the floor. The samples of a "
        "network have nearly one shape (two runs looked at), so the distance tells which shape it is: this cell has to "
        "be chosen again, with a larger `--gamma`, before a term is judged in it."
    ),
    base=CELL,
    rows={f"n{count}": Row(f"{count:,} images", {"--subset": 2 * count}) for count in COUNTS},
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
