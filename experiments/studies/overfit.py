"""Where StyleGAN2 overfits on few images, without any remedy: the cell in which the other studies look."""

from experiments.study import Claim, Row, Study

FD = "fd_effnet1k_full"
CELL = {
    "--cfg": "demo",
    "--data": "{data}/cars.zip",
    "--metricdata": "{data}/cars.zip",
    "--aug": "noaug",
    "--gamma": 0.1,
    "--holdout": 0.5,
    "--kimg": 96,
    "--snap": 12,
    "--workers": 0,
    "--state-minutes": 2,
}
COUNTS = (100, 250, 1000, 2500)
DIFFAUGMENT = {"--aug": "diffaugment", "--diffaugment-policy": "color,translation,cutout"}
PROTOCOL = (
    "The network is narrow (`--cfg demo`: up to 64 channels, 16 images a step), so figures compare with each other and "
    "with nothing published. R1's weight is 0.1: with the demo's 1, and 0.01 of the `cifar` preset, samples of few "
    "images had one shape only. A seed also chooses which images are taken, so the floor holds that choice too."
)

STUDY = Study(
    title="Where the baseline overfits",
    about=(
        "StyleGAN2 at 32² on few of the 5,000 cars among CIFAR-10's training images, without augmentation, measured "
        f"against all 5,000. {PROTOCOL}"
        " Overfitting shows as a metric that turns up, and as scores of the training images that leave those of "
        "held-out images behind: of twice as many images, half are kept out (`--holdout 0.5`). With 100 images the "
        "gap passes 0.5 at 16 to 21 kimg (5 seeds), with 250 at 25 to 29 (3), with 1,000 at 69, 86 and in the third "
        "seed not at all, with 2,500 in one seed of three, at 43; the last ten ticks have a gap of 1.2, 1.1, 0.5 and "
        "0.2. The metric is slow to follow: with 250 images it has turned up a little by 96 kimg in all three seeds "
        "(6, 4 and 2 above its best at 72 or 84), with 100 and 1,000 images not yet, with 2,500 in two by 3, as it "
        "swings from one snapshot to the next. A remedy cannot be judged by short runs: DiffAugment is behind at 24 "
        "and 48 kimg and ahead at 60."
    ),
    base=CELL,
    rows={f"n{count}": Row(f"{count:,} images", {"--subset": 2 * count}) for count in COUNTS},
    baseline="n100",
    metrics=(FD,),
    shown=("Loss/holdout/gap", "Loss/scores/train", "Loss/scores/holdout", "Loss/scores/sample"),
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
