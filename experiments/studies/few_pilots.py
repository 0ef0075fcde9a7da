"""The pilots of `few_images`: the spread of its runs, whether D overfits, and whether DiffAugment helps as
published."""

from experiments.studies.few_images import CELL, DIFFAUGMENT, FD, PROTOCOL
from experiments.study import Row, Study

STUDY = Study(
    title="Few images: pilots",
    question="How far do runs of `few_images` spread?",
    about=(
        f"{PROTOCOL} The spread of these runs determines how many runs *Few images* needs; their seeds are used "
        "nowhere else. *Half held out* trains on 100 of the first 200 cars, chosen by the seed, and scores the "
        "others with D: the gap is 0 if D generalises and 1 if it has memorised the training images. Another pair of "
        "runs (seed 902) decided the length and the moving average: at 26, 51, 77, 102, 128 and 150 kimg the metric "
        "was 53.1, 30.5, 31.8, 31.2, 31.7 and 29.8 without augmentation, and 55.6, 45.1, 33.6, 30.3, 28.7 and 27.3 "
        "with DiffAugment. With a half-life of 2 kimg and twice the learning rate, the metric of one run changed by "
        "a third between snapshots. For the 100 training images themselves it is 22.2."
    ),
    base=CELL,
    rows={
        "none": Row("none"),
        "diffaugment": Row("DiffAugment", DIFFAUGMENT),
        "held-out": Row("none, half held out", {"--data": "{data}/cars200-16.zip", "--holdout": 0.5}),
    },
    baseline="none",
    metrics=(FD,),
    final=("kid_vgg1k_full", "pr_vgg1k3_full"),
    shown=("Loss/holdout/gap", "Loss/scores/real", "Loss/scores/fake"),
    seeds=8,
    first_seed=100,
)
