"""aw on the papers' plain GANs: SN-GAN, AutoGAN and BigGAN with classes."""

from experiments.plain.rows import BASE, FD, FINAL, protocol, rows
from experiments.study import Claim, Study

KIMG = {"sngan": 80, "autogan": 80, "biggan": 48}  # six to seven minutes of a thread
NAMES = {"sngan": "SN-GAN", "autogan": "AutoGAN", "biggan": "BigGAN"}
REPORTED = {  # CIFAR-10 with aw; the paper's own baselines are not in our copy of its Tables 1 and 4
    "sngan": "12.32 FID, IS 8.53 with aw (CIFAR-10); 22.40 → 19.08 FID (CIFAR-100, Table 3)",
    "autogan": "11.82 FID, IS 9.01 with aw (CIFAR-10); 19.98 → 19.00 FID (CIFAR-100, Table 3)",
    "biggan": "with classes 6.89 FID, IS 9.52 with aw (CIFAR-10); 10.23 FID, IS 11.22 with aw (CIFAR-100)",
}

STUDY = Study(
    title="Plain GANs: aw",
    question="Does aw help plain GANs?",
    about=(
        f"{protocol('The ResNet of SN-GAN, AutoGAN and BigGAN')} "
        + ", ".join(f"{NAMES[key]} {kimg} kimg" for key, kimg in KIMG.items())
        + ". aw's gradients are normalised, as in the paper; aw is not defined for Wasserstein objectives."
    ),
    base=BASE,
    rows={key: row for network, kimg in KIMG.items() for key, row in rows(network, kimg, "aw").items()},
    baseline="sngan",
    effect="10%",
    seeds=6,
    looks=(3, 6),
    metrics=(FD,),
    final=FINAL,
    claims=tuple(
        Claim("aw, Table 4" if key == "biggan" else "aw, Table 1", f"aw improves {NAMES[key]}", REPORTED[key],
              f"{key}-aw", key)
        for key in KIMG
    ),
)  # fmt: skip
