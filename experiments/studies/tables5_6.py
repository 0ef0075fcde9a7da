"""AdaptiveMix's Tables 3, 5 and 6: each comparator with and without AdaptiveMix; and SDP, aw, and all together."""

from experiments.studies.overfit import CELL, DIFFAUGMENT, FD, PROTOCOL
from experiments.study import Claim, Row, Study

MIX = {"--adamix": True, "--adamix-dist": "cosine"}  # until the study of its strength says otherwise
COMPARATORS = {
    "none": Row("none"),
    "noise": Row("instance noise", {"--instance-noise": 0.1, "--instance-noise-kimg": 24}),
    "smooth": Row("one-sided label smoothing", {"--label-smoothing": 0.1}),
    "lecam": Row("LeCam", {"--lecam": 0.03}),  # 3e-7, as published, does nothing on this network
    "ada": Row("ADA", {"--aug": "ada"}),
    "apa": Row("APA", {"--aug": "apa"}),
    "diffaugment": Row("DiffAugment", DIFFAUGMENT),
}
SDP = {"--sdp": True, "--sdp-start": 3, "--sdp-grow": 5}
OURS = {
    **{
        f"sdp-{norm}-{weight:g}": Row(f"SDP, {norm}, λ {weight:g}", {**SDP, "--sdp-norm": norm, "--sdp-weight": weight})
        for norm in ("squared", "unit")
        for weight in (0.01, 0.03, 0.05, 0.1)
    },
    "aw": Row("aw", {"--aw": True}),
    "all": Row("AdaptiveMix, SDP and aw", {**MIX, **SDP, "--aw": True}),
}


def gain(row, source, reported):
    label = COMPARATORS[row].label
    text = "AdaptiveMix helps the baseline" if row == "none" else f"AdaptiveMix helps {label}"
    return Claim(source, text, reported, row=f"{row}-mix", against=row)


def helped(row, source, reported):
    return Claim(source, f"{COMPARATORS[row].label} helps with few images", reported, row=row, against="none")


def with_mix(row):
    return Row(f"{row.label} + AdaptiveMix" if row.options else "AdaptiveMix", {**row.options, **MIX})


STUDY = Study(
    title="Comparators, with and without AdaptiveMix",
    about=(
        "AdaptiveMix's Tables 5 and 6 on 100 cars of CIFAR-10, in the cell of *Where the baseline overfits*, with "
        f"equal kimg for all; the last snapshot is measured with KID, precision, recall and Table 3's Lipschitz ratios "
        f"as well. {PROTOCOL} LeCam has a weight at which its gradient counts."
    ),
    base={**CELL, "--subset": 200},
    rows={**COMPARATORS, **{f"{name}-mix": with_mix(row) for name, row in COMPARATORS.items()}, **OURS},
    baseline="none",
    metrics=(FD,),
    final=("kid_effnet1k_full", "pr_effnet1k3_full", "lipschitz1k"),
    claims=(
        helped("diffaugment", "DiffAugment, 100 images", "80.2 → 46.9, 48.9 → 27.1, 34.3 → 12.1 FID (256²)"),
        helped("ada", "AdaptiveMix, Table 5", "7.92 → 5.58 FID (AFHQ-Cat)"),
        helped("apa", "AdaptiveMix, Table 6", "36.1 → 14.4 FID (FFHQ-5k)"),
        helped("lecam", "AdaptiveMix, Table 6", "36.1 → 35.1 FID (FFHQ-5k)"),
        helped("smooth", "AdaptiveMix, Table 6", "36.1 → 34.0 FID (FFHQ-5k)"),
        gain("none", "AdaptiveMix, Table 6", "36.1 → 18.8 FID (FFHQ-5k); 7.92 → 4.48 (AFHQ-Cat, Table 5)"),
        gain("ada", "AdaptiveMix, Table 5", "5.58 → 4.68 FID (AFHQ-Cat); 3.71 → 3.68 (FFHQ)"),
        gain("apa", "AdaptiveMix, Table 6", "14.4 → 11.5 FID (FFHQ-5k); 4.65 → 4.15 (AFHQ-Cat, Table 5)"),
        gain("lecam", "ours", "not in the paper"),
        gain("diffaugment", "ours", "not in the paper"),
        gain("noise", "ours", "not in the paper"),
        gain("smooth", "ours", "not in the paper"),
        Claim("AdaptiveMix, Table 6", "it is better than LeCam", "18.8 against 35.1 FID (FFHQ-5k)", "none-mix",
              "lecam"),
        Claim("AdaptiveMix, Table 6", "it is better than instance noise", "18.8 against 41.0 FID (FFHQ-5k)", "none-mix",
              "noise"),
        Claim("AdaptiveMix, Table 6", "it is better than one-sided label smoothing", "18.8 against 34.0 FID (FFHQ-5k)",
              "none-mix", "smooth"),
        *(Claim("AdaptiveMix, Table 3", f"F stretches {pairs} less", reported, "none-mix", "none",
                figure=f"lipschitz1k_{group}")
          for group, pairs, reported in (("real", "pairs of reals", "3.17 → 1.39 (FFHQ-5k)"),
                                         ("fake", "pairs of generated images", "0.263 → 0.166 (FFHQ-5k)"),
                                         ("both", "pairs of one real and one generated", "0.735 → 0.291 (FFHQ-5k)"))),
        Claim("SDP, Table I", "SDP helps", "38.1 → 31.5 FID (CIFAR-10, WGAN-GP, a CNN)", "sdp-squared-0.01", "none"),
        Claim("SDP, Fig. 3", "λ 0.1 is worse than 0.01", "a curve (CIFAR-10, WGAN-GP)", "sdp-squared-0.01",
              "sdp-squared-0.1"),
        Claim("ours", "the plain unit norm is better than the squared one", "not in the paper", "sdp-unit-0.01",
              "sdp-squared-0.01"),
        Claim("aw, Tables 1-4", "aw helps", "22.4 → 19.1 FID (CIFAR-100, SN-GAN)", "aw", "none"),
        Claim("ours", "all three together help", "in no paper", "all", "none"),
    ),
)  # fmt: skip
