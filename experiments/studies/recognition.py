"""AdaptiveMix's classifiers (§3.4, §3.5, §4.2) on a small scale: accuracy, attacks, compactness, outliers."""

from experiments.study import Claim, Row, Study

ORTHOGONAL = {"--head": "orthogonal"}
BASE = {
    "--data": "{data}/cifar10.zip",
    "--testdata": "{data}/cifar10-test.zip",
    "--subset": 5000,
    "--arch": "wrn-10-1",
    "--kimg": 80,
    "--bf16": True,
    "--outliers": "{data}/fashion-mnist.zip,{data}/mnist.zip,{data}/photos.zip,noise",
}
HARD = {**ORTHOGONAL, "--method": "adamix"}
OFFICIAL = {**HARD, "--adamix-variant": "official", "--absolute": True}


def claim(source, text, reported, row, against, sign, figure, effect=None):
    return Claim(f"AdaptiveMix, {source}", text, reported, row, against, sign, figure, effect)


STUDY = Study(
    title="Recognition",
    question="Does AdaptiveMix help classifiers?",
    about=(
        "The classifiers follow AdaptiveMix's §3.4; no row has an activation before the classifier. They train on "
        "5,000 images of CIFAR-10 (chosen by the seed) and are tested on all 10,000 test images. The network is "
        "WRN-10-1 with 78,000 parameters; the paper's WRN-28-10 has 36 million. It sees 80,000 images (16 epochs) in "
        "batches of 128, with SGD at 0.1 and weight decay 5e-4, in bfloat16, and is evaluated in float32. *official* "
        "follows the authors' public code where it differs from the paper: features have length 1 before mixing, "
        "noise and loss; one cross entropy takes the sum of both kinds of logits; logits are |cosines|. FGSM and PGD "
        "attack the first 500 test images, CW the first 100; ` x20` attacks the logits times 20, which changes no "
        "prediction. A cell there is empty if gradients vanish. Outliers are Fashion-MNIST, MNIST, photographs of "
        "Open Images (cropped, resized) and noise: 2,000 of each (919 photographs) and as many test images. Figures "
        "`outliers/` are means over these five sets. All figures except `std` and `lipschitz` are percentages; the "
        "effect is 3 points. [recognition.md](recognition.md) explains and lists all figures."
    ),
    trainer="experiments/recognition/train.py",
    base=BASE,
    rows={
        "plain": Row("plain"),
        "orth": Row("orthogonal", ORTHOGONAL),
        "orth-adamix": Row("orthogonal + AdaptiveMix", HARD),
        "orth-official": Row("orthogonal + AdaptiveMix, official", OFFICIAL),
        "orth-mixup": Row("orthogonal + Mixup", {**ORTHOGONAL, "--method": "mixup"}),
        "manifold": Row("Manifold Mixup", {"--method": "manifold"}),
        "mixup": Row("Mixup", {"--method": "mixup"}),
    },
    baseline="plain",
    effect=3.0,
    seeds=4,
    looks=(4,),
    metrics=None,
    shown=(
        "accuracy", "ece", "std/class", "std/class unit", "lipschitz", "attacked", "attacked x20",
        "outliers/angle/auroc", "outliers/softmax/auroc", "outliers/angle/f1-macro",
    ),
    claims=(
        claim("Table 11", "AdaptiveMix is more accurate than the baseline", "96.11 → 96.80% (CIFAR-10)",
              "orth-adamix", "plain", 1, "accuracy"),
        claim("Table 11", "its official variant is more accurate than the baseline", "96.11 → 96.80% (CIFAR-10)",
              "orth-official", "plain", 1, "accuracy"),
        claim("Table 7", "mean of the five attacks: AdaptiveMix resists better than Mixup with the same head",
              "34.41 → 56.91%", "orth-adamix", "orth-mixup", 1, "attacked"),
        claim("Table 7", "the same attacks on logits x 20 (our check)", "no figure", "orth-adamix", "orth-mixup", 1,
              "attacked x20"),
        claim("Table 7", "AdaptiveMix resists better than Manifold Mixup", "26.57 → 56.91%", "orth-adamix", "manifold",
              1, "attacked"),
        claim("Fig. 4", "AdaptiveMix makes classes more compact, in directions (features of length 1)", "a figure",
              "orth-adamix", "plain", -1, "std/class unit", "10%"),
        claim("§3.2", "AdaptiveMix lowers F's Lipschitz ratio", "3.167 → 1.391 (Table 3: a GAN's D)", "orth-adamix",
              "plain", -1, "lipschitz", "10%"),
        claim("Table 12", "AdaptiveMix finds outliers better by Eq. 10 (F1, known classes + unknown)",
              "0.886 to 0.907 → 0.911 to 0.937", "orth-adamix", "orth", 1, "outliers/angle/f1-macro"),
    ),
)  # fmt: skip
