"""The papers' classifiers at full size: the command for each, and the figure that it should reach."""

from experiments.study import Row, Study

WRN = {"--arch": "wrn-28-10", "--kimg": 10000}  # 200 epochs of 50,000 images
CIFAR10 = {"--data": "cifar10.zip", "--testdata": "cifar10-test.zip", **WRN}
CIFAR100 = {"--data": "cifar100.zip", "--testdata": "cifar100-test.zip", **WRN}
TINY = {"--data": "tiny64.zip", "--testdata": "tiny64-test.zip", "--arch": "preactresnet-18", "--kimg": 20000}
IMAGENET = {"--data": "imagenet128.zip", "--testdata": "imagenet128-test.zip", "--arch": "resnet-50", "--batch": 256,
            "--weight-decay": 1e-4, "--kimg": 115300, "--workers": 16}  # fmt: skip
JUDGED = {"--attack-images": 10000, "--cw-images": 1000, "--outlier-images": 10000}
OUTLIERS = {"--outliers": "tiny-imagenet.zip,lsun.zip"}
ORTHOGONAL = {"--head": "orthogonal"}


def row(label, options, reach):
    return Row(label, {"--outdir": "runs", **options, **JUDGED}, reach=reach)


def rows(name, label, options, plain, ours):
    return {
        f"{name}-plain": row(label, options, f"accuracy {plain}%"),
        f"{name}-mix": row(f"{label}: AdaptiveMix", {**options, **ORTHOGONAL, "--method": "adamix"},
                           f"accuracy {ours}"),
    }  # fmt: skip


STUDY = Study(
    title="Recognition at full size",
    about=(
        "These are the commands of the paper's tables, each with the figure that the paper reports. They need a GPU "
        "and your own files. The paper states neither lengths nor batch sizes. We take 200 epochs in batches of 128 "
        "from Manifold Mixup, with which the paper compares, and on ImageNet the usual 90 epochs in batches of 256. "
        "The test of outliers needs images of at least 32x32; each set is used twice, cropped and resized. To run "
        "AutoAttack on a finished run: `python experiments/recognition/judge.py RUN_DIR --autoattack 1000`."
    ),
    trainer="experiments/recognition/train.py",
    base={},
    by_hand=True,
    rows={
        **rows("cifar10", "CIFAR-10", {**CIFAR10, **OUTLIERS}, 96.11, "96.80%; F1 0.922, 0.911, 0.934, 0.937"),
        "cifar10-mixup": row("CIFAR-10: Mixup", {**CIFAR10, "--method": "mixup"}, "FGSM 60.17%, PGD-8 3.97%"),
        "cifar10-manifold": row("CIFAR-10: Manifold Mixup", {**CIFAR10, "--method": "manifold"},
                                "FGSM 59.32%, PGD-8 7.97%"),
        "cifar10-orth": row("CIFAR-10: orthogonal", {**CIFAR10, **OUTLIERS, **ORTHOGONAL},
                            "F1 0.890, 0.886, 0.897, 0.907"),
        "cifar10-orth-mixup": row("CIFAR-10: orthogonal + Mixup", {**CIFAR10, **ORTHOGONAL, "--method": "mixup"},
                                  "FGSM 44.80%, PGD-8 3.99%"),
        **rows("cifar100", "CIFAR-100", CIFAR100, 80.82, "82.02%; FGSM 24.28%, PGD-8 8.22%"),
        **rows("tiny", "Tiny ImageNet, 64x64", TINY, 57.23, "60.59%; FGSM 7.10%, PGD-8 4.66%"),
        **rows("imagenet", "ImageNet, 128x128", IMAGENET, 67.38, "68.69%"),
    },
)  # fmt: skip
