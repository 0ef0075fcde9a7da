"""More settings of the classifiers: CutMix, both heads, weight decay 1e-4, |cos|, a scale of 20, Tables 9 and 10."""

from experiments.studies import recognition
from experiments.study import Claim, Row

ORTHOGONAL, ADAMIX = recognition.ORTHOGONAL, {"--method": "adamix"}
LESS_DECAY = {"--weight-decay": 1e-4}
DECAYED = {  # what each row of the recognition study is with a weight decay that does not hold Mixup back
    f"{row}-1e-4": Row(f"{setting.label}, weight decay 1e-4", {**setting.options, **LESS_DECAY})
    for row, setting in recognition.STUDY.rows.items()
}

STUDY = recognition.STUDY._replace(
    title="Recognition: more settings",
    about=(
        "As the study above, which has the baseline's other seeds: CutMix, each method with the other head, the weight "
        "decay of 1e-4 that Mixup was published with (5e-4 holds it back), |cosines|, logits scaled by 20 in training "
        "too, and AdaptiveMix's other noise and alpha."
    ),
    rows={
        "plain": Row("plain"),
        "cutmix": Row("CutMix", {"--method": "cutmix"}),
        "orth-cutmix": Row("orthogonal + CutMix", {**ORTHOGONAL, "--method": "cutmix"}),
        "orth-manifold": Row("orthogonal + Manifold Mixup", {**ORTHOGONAL, "--method": "manifold"}),
        "adamix": Row("AdaptiveMix", ADAMIX),
        "orth-abs": Row("orthogonal, |cos|", {**ORTHOGONAL, "--absolute": True}),
        "orth-x20": Row("orthogonal, scale 20", {**ORTHOGONAL, "--scale": 20}),
        "orth-mixup-x20": Row("orthogonal + Mixup, scale 20", {**ORTHOGONAL, "--method": "mixup", "--scale": 20}),
        "orth-adamix-x20": Row("orthogonal + AdaptiveMix, scale 20", {**ORTHOGONAL, **ADAMIX, "--scale": 20}),
        **DECAYED,
        **{
            f"noise{noise}": Row(f"orthogonal + AdaptiveMix, noise {noise}",
                                 {**ORTHOGONAL, **ADAMIX, "--adamix-noise": noise})
            for noise in (0.1, 0.01, 0.005, 0.001)
        },
        "orth-adamix": recognition.STUDY.rows["orth-adamix"],
        "alpha2": Row("orthogonal + AdaptiveMix, alpha 2", {**ORTHOGONAL, **ADAMIX, "--adamix-alpha": 2}),
    },
    claims=(
        Claim("AdaptiveMix, Table 7", "AdaptiveMix resists better than orthogonal + Manifold Mixup", "34.39 → 56.91%",
              "orth-adamix", "orth-manifold", 1, "attacked"),
        Claim("AdaptiveMix, §3.4", "AdaptiveMix needs the orthogonal head to be accurate", "no figure of its own",
              "orth-adamix", "adamix", 1, "accuracy"),
        Claim("Our question", "with logits x 20 in training the orthogonal head is more accurate than the linear one",
              "no figure", "orth-x20", "plain", 1, "accuracy"),
        Claim("Our question", "AdaptiveMix with logits x 20 is more accurate than the baseline", "no figure",
              "orth-adamix-x20", "plain", 1, "accuracy"),
        Claim("Our question", "AdaptiveMix with a linear head is more accurate than the baseline", "no figure",
              "adamix", "plain", 1, "accuracy"),
        Claim("Seen, then asked", "with logits x 20 in training AdaptiveMix resists better than the same head alone",
              "no figure", "orth-adamix-x20", "orth-x20", 1, "attacked"),
        Claim("Seen, then asked", "it does so on logits times another 20 too", "no figure", "orth-adamix-x20",
              "orth-x20", 1, "attacked x20"),
        Claim("Seen, then asked", "its classes are more compact in directions alone", "no figure", "orth-adamix-x20",
              "orth-x20", -1, "std/class unit"),
        Claim("Our question", "Mixup is more accurate than the baseline with weight decay 1e-4", "no figure",
              "mixup-1e-4", "plain-1e-4", 1, "accuracy"),
        Claim("AdaptiveMix, Table 9", "noise 0.05 is better than 0.1", "55.9 → 56.9% (mean of the five attacks)",
              "orth-adamix", "noise0.1", 1, "attacked"),
        Claim("AdaptiveMix, Table 9", "noise 0.05 is better than 0.001", "52.5 → 56.9%", "orth-adamix", "noise0.001", 1,
              "attacked"),
        Claim("AdaptiveMix, Table 10", "alpha 1 is better than 2", "55.0 → 56.9%", "orth-adamix", "alpha2", 1,
              "attacked"),
    ),
)  # fmt: skip
