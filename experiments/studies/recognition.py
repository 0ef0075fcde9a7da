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
ATTACKS = {  # the paper's names and figures (Table 7): orthogonal + Mixup, AdaptiveMix
    "fgsm": ("FGSM 8/255", 44.80, 74.18),
    "pgd8": ("PGD-8 4/255", 3.99, 32.12),
    "pgd16": ("PGD-16 4/255", 2.66, 22.12),
    "cw0.01": ("CW-100, c 0.01", 71.12, 81.39),
    "cw0.05": ("CW-100, c 0.05", 49.47, 74.72),
    "attacked": ("mean of the five attacks", 34.41, 56.91),
}


NO_FLOOR = "cw0.05 x20"  # 0 in all seeds of the baseline, which says nothing of how far seeds of other rows spread


def robustness():
    """AdaptiveMix against Mixup with the same head, on the logits and on the logits times 20."""
    for figure, (name, theirs, ours) in ATTACKS.items():
        text = f"{name}: AdaptiveMix resists better than Mixup with the same head"
        yield Claim("AdaptiveMix, Table 7", text, f"{theirs:.2f} → {ours:.2f}%", "orth-adamix", "orth-mixup", 1, figure)
        if (scaled := f"{figure} x20") != NO_FLOOR:
            yield Claim("Our check of Table 7", f"{text}, logits x 20", "no figure", "orth-adamix", "orth-mixup", 1,
                        scaled)  # fmt: skip


STUDY = Study(
    title="Recognition",
    about=(
        "Classifiers as in AdaptiveMix's §3.4, on 5,000 training images of CIFAR-10 (chosen by the seed) and all "
        "10,000 test images: WRN-10-1 of 78,000 parameters where the paper has WRN-28-10 of 36 million, 80,000 images "
        "shown (16 epochs), batches of 128, SGD at 0.1 with weight decay 5e-4, trained in bfloat16, judged in float32. "
        "FGSM and PGD attack the first 500 test images, CW the first 100; ` x20` attacks the logits times 20, which "
        "changes no prediction. An empty cell there: gradients vanish, so the figure is not told. Outliers are "
        "Fashion-MNIST, MNIST, photographs of Open Images (cropped, resized) and noise, 2,000 of each (919 "
        "photographs) against as many test images; figures `outliers/` are means over these five. All figures are "
        "percentages but for `std` and `lipschitz`. [recognition.md](recognition.md) explains them and has all of them."
    ),
    trainer="experiments/recognition/train.py",
    base=BASE,
    rows={
        "plain": Row("plain"),
        "mixup": Row("Mixup", {"--method": "mixup"}),
        "manifold": Row("Manifold Mixup", {"--method": "manifold"}),
        "orth-mixup": Row("orthogonal + Mixup", {**ORTHOGONAL, "--method": "mixup"}),
        "orth-adamix": Row("orthogonal + AdaptiveMix", {**ORTHOGONAL, "--method": "adamix"}),
        "orth": Row("orthogonal", ORTHOGONAL),
    },
    baseline="plain",
    metrics=None,
    shown=(
        "accuracy", "ece", "ece x20", "std/class", "std/class unit", "std/ratio", "lipschitz", "lipschitz unit",
        "fgsm", "fgsm x20", "pgd8", "pgd8 x20", "pgd16", "pgd16 x20", "cw0.01", "cw0.01 x20", "cw0.05", "cw0.05 x20",
        "outliers/angle/auroc", "outliers/softmax/auroc", "outliers/angle/f1-macro", "outliers/angle/f1",
    ),
    claims=(
        Claim("AdaptiveMix, Table 11", "AdaptiveMix is more accurate than the baseline", "96.11 → 96.80% (CIFAR-10)",
              "orth-adamix", "plain", 1, "accuracy"),
        *robustness(),
        Claim("AdaptiveMix, Table 7", "mean of the five attacks: AdaptiveMix resists better than Manifold Mixup",
              "26.57 → 56.91%", "orth-adamix", "manifold", 1, "attacked"),
        Claim("Our check of Table 7", "the same with logits x 20", "no figure", "orth-adamix", "manifold", 1,
              "attacked x20"),
        Claim("AdaptiveMix, Table 7", "the orthogonal classifier makes Mixup withstand CW", "30.32 → 71.12% (c 0.01)",
              "orth-mixup", "mixup", 1, "cw0.01"),
        Claim("Our check of Table 7", "it does so with logits x 20 too", "no figure", "orth-mixup", "mixup", 1,
              "cw0.01 x20"),
        Claim("AdaptiveMix, Fig. 4", "AdaptiveMix makes classes more compact", "a figure", "orth-adamix", "plain", -1,
              "std/class"),
        Claim("AdaptiveMix, Fig. 4", "it makes all features together more compact", "a figure", "orth-adamix", "plain",
              -1, "std/total"),
        Claim("Our check of Fig. 4", "classes are more compact in directions alone (features of length 1)", "no figure",
              "orth-adamix", "plain", -1, "std/class unit"),
        Claim("AdaptiveMix, §3.2", "AdaptiveMix lowers F's Lipschitz ratio", "3.167 → 1.391 (Table 3: a GAN's D)",
              "orth-adamix", "plain", -1, "lipschitz"),
        Claim("AdaptiveMix, Table 12", "AdaptiveMix finds outliers better by Eq. 10 (F1, known classes + unknown)",
              "0.886 to 0.907 → 0.911 to 0.937", "orth-adamix", "orth", 1, "outliers/angle/f1-macro"),
        Claim("AdaptiveMix, Table 12", "the same by the F1 of two classes at the best threshold", "as above",
              "orth-adamix", "orth", 1, "outliers/angle/f1"),
        Claim("Our check of Table 12", "Eq. 10 finds outliers better with AdaptiveMix than in the baseline",
              "no figure", "orth-adamix", "plain", 1, "outliers/angle/auroc"),
        Claim("AdaptiveMix, Table 12", "with AdaptiveMix, Eq. 10 finds outliers better than the same network's softmax",
              "0.794 to 0.815 (softmax) → 0.911 to 0.937 F1", "orth-adamix", 0.0, 1,
              "outliers/angle/auroc - outliers/softmax/auroc"),
    ),
)  # fmt: skip
