"""Few images: the effect of each method on StyleGAN2 with the same 100 images, measured on VGG16's features."""

from experiments.studies.overfit import DIFFAUGMENT
from experiments.study import Claim, Row, Study

FD = "fd_vgg1k_full"
KIMG = 160
CELL = {
    "--cfg": "small",
    "--data": "{data}/cars100-16.zip",
    "--metricdata": "{data}/cars1000-16.zip",
    "--kimg": KIMG,
    "--snap": KIMG // 4,
    "--workers": 0,
    "--state-minutes": 2,
}
PROTOCOL = (
    "Runs train on the first 100 cars among CIFAR-10's training images, at 16x16. The seed changes everything "
    "else: weights, latents, order and augmentation. A run uses `--cfg small` (up to 32 channels, 32 images a step) "
    f"and has {KIMG} kimg. It is measured at half and at the end against the first 1,000 cars, on VGG16's features, "
    "which no network here uses."
)
OFFICIAL = {"--adamix": True, "--adamix-variant": "official"}
PAPER = {"--adamix": True}
SDP = {"--sdp": True}
COST = {"paper": 1.45, "official": 1.65}  # of a step of D (benchmarks/README.md)


def at_equal_time(variant, options):
    """As many images as fit into the time of the row without the term."""
    kimg = round(KIMG / COST[variant])
    return Row(f"AdaptiveMix, {variant}, {kimg} kimg", {**options, "--kimg": kimg, "--snap": kimg // 4})


def claim(source, text, reported, row, against="none"):
    return Claim(source, text, reported, row, against)


MIX, CAT = "36.1 → 18.8 FID (FFHQ-5k, 256²)", "7.92 → 5.58 FID (AFHQ-Cat)"

STUDY = Study(
    title="Few images",
    question="Which methods help with 100 images?",
    about=(
        f"{PROTOCOL} The effect worth having is a tenth of the figure without the method. LeCam has a weight at which "
        "its gradient is not negligible (the published 3e-7 does nothing on this network); SDP starts inside the "
        "run. Rows with fewer kimg take as long as the baseline, by the terms' measured cost. The spread of *Few "
        "images: pilots* determined n; its seeds are not used here."
    ),
    base=CELL,
    rows={
        "none": Row("none"),
        "diffaugment": Row("DiffAugment", DIFFAUGMENT),
        "official": Row("AdaptiveMix, official", OFFICIAL),
        "paper": Row("AdaptiveMix, paper", PAPER),
        "diffaugment-official": Row("DiffAugment + AdaptiveMix, official", {**DIFFAUGMENT, **OFFICIAL}),
        "diffaugment-paper": Row("DiffAugment + AdaptiveMix, paper", {**DIFFAUGMENT, **PAPER}),
        "ada": Row("ADA", {"--aug": "ada"}),
        "apa": Row("APA", {"--aug": "apa"}),
        "lecam": Row("LeCam", {"--lecam": 0.03}),
        "sdp": Row("SDP", SDP),
        "aw": Row("aw", {"--aw": True}),
        "all": Row("AdaptiveMix, SDP and aw", {**PAPER, **SDP, "--aw": True}),
        "official-time": at_equal_time("official", OFFICIAL),
        "paper-time": at_equal_time("paper", PAPER),
    },
    baseline="none",
    effect="10%",
    seeds=8,
    looks=(4, 8),
    pilots="few_pilots",
    metrics=(FD,),
    final=("kid_vgg1k_full", "pr_vgg1k3_full"),
    claims=(
        claim("DiffAugment, 100 images", "DiffAugment helps with few images", "80.2 → 46.9 FID (Obama, 256²)",
              "diffaugment"),
        claim("AdaptiveMix, Table 6", "the form of the published code helps with few images", MIX, "official"),
        claim("AdaptiveMix, Table 6", "the form of the paper helps with few images", MIX, "paper"),
        claim("users", "the form of the published code helps DiffAugment", "not in the paper", "diffaugment-official",
              "diffaugment"),
        claim("users", "the form of the paper helps DiffAugment", "not in the paper", "diffaugment-paper",
              "diffaugment"),
        claim("AdaptiveMix, Table 5", "ADA helps with few images", CAT, "ada"),
        claim("AdaptiveMix, Table 6", "APA helps with few images", "36.1 → 14.4 FID (FFHQ-5k)", "apa"),
        claim("AdaptiveMix, Table 6", "LeCam helps with few images", "36.1 → 35.1 FID (FFHQ-5k)", "lecam"),
        claim("SDP, Table I", "SDP helps", "38.1 → 31.5 FID (CIFAR-10, WGAN-GP, a CNN)", "sdp"),
        claim("aw, Tables 1-4", "aw helps", "22.4 → 19.1 FID (CIFAR-100, SN-GAN)", "aw"),
        claim("users", "all three together help", "in no paper", "all"),
        claim("users", "the form of the published code helps at equal time", "not in the paper", "official-time"),
        claim("users", "the form of the paper helps at equal time", "not in the paper", "paper-time"),
    ),
)  # fmt: skip
