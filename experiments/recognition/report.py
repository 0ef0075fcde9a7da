"""The measured tables and the figure of docs/recognition.md, built only from the records of the recognition studies."""

import pathlib
import statistics

from experiments import page, records
from experiments.report import count, spread, values
from experiments.study import load_study

STUDIES = ("recognition", "recognition_more")
ATTACKS = {"fgsm": "FGSM", "pgd8": "PGD-8", "pgd16": "PGD-16", "cw0.01": "CW, c 0.01", "cw0.05": "CW, c 0.05",
           "attacked": "mean"}  # fmt: skip
TABLE_7 = {  # CIFAR-10, WRN-28-10: accuracy in percent
    "plain": (38.03, 0.92, 0.28, 11.1, 0.39),
    "mixup": (60.17, 3.97, 1.16, 30.32, 2.36),
    "orth-mixup": (44.80, 3.99, 2.66, 71.12, 49.47),
    "manifold": (59.32, 7.97, 2.97, 51.47, 11.12),
    "orth-manifold": (38.76, 5.77, 4.38, 69.08, 53.98),
    "orth-adamix": (74.18, 32.12, 22.12, 81.39, 74.72),
}
TABLE_11 = {"plain": "96.11", "orth-adamix": "96.80"}
SCORES = ("angle", "softmax", "energy", "odin", "mahalanobis")
FIGURE = "recognition.png"


def write(docs, results):
    """Rebuild the measured parts of `docs`/recognition.md."""
    docs, found, rows = pathlib.Path(docs), {}, {}
    for name in STUDIES:  # the first study's rows come first, and its records count
        study = load_study(name)
        rows |= {key: row for key, row in study.rows.items() if key not in rows}
        found |= {key: of_row for key, of_row in records.read_study(results, name, study).items() if key not in found}
    parts = {
        "accuracy": accuracy(rows, found),
        "attacks": attacks(rows, found),
        "outliers": outliers(rows, found),
        "outlier sets": outlier_sets(rows, found),
        "features": features(rows, found),
        "figure": [f"![compactness and accuracy under attack](images/{FIGURE})"] if found else [],
    }
    for name, lines in parts.items():
        page.put(docs / "recognition.md", name, "\n".join(lines))
    if found:
        draw(docs / "images" / FIGURE, rows, found)


def cell(of_row, figure):
    return spread(values(of_row, figure)) or "—"


def measured(rows, found):
    """(key, label, records) of the rows that have records, in the order of the studies' tables."""
    return [(key, rows[key].label, found[key]) for key in rows if key in found]


def accuracy(rows, found):
    """Accuracy and calibration, with the values of Table 11."""
    lines = [
        [label, TABLE_11.get(key, ""), count(of_row),
         *(cell(of_row, figure) for figure in ("accuracy", "ece", "ece x20"))]
        for key, label, of_row in measured(rows, found)
    ]  # fmt: skip
    return page.table(["row", "paper", "n", "ours", "ECE", "ECE, logits x 20"], lines)


def attacks(rows, found):
    """Accuracy under attack on the logits and on the logits times 20, with the values of Table 7."""
    lines = []
    for key, label, of_row in measured(rows, found):
        if key in TABLE_7:
            numbers = (*TABLE_7[key], sum(TABLE_7[key]) / 5)
            lines.append([label, "paper", *(f"{number:.2f}" for number in numbers)])
        for suffix, whose in (("", "ours"), (" x20", "ours, logits x 20")):
            lines.append([label, whose, *(cell(of_row, name + suffix) for name in ATTACKS)])
    return page.table(["row", "", *ATTACKS.values()], lines)


def outliers(rows, found):
    """AUROC of every score, and both readings of F1 by Eq. 10, each the mean over the sets."""
    figures = [
        *(f"outliers/{score}/auroc" for score in SCORES),
        *(f"outliers/angle/{figure}" for figure in ("fpr95", "aupr-in", "aupr-out", "error", "f1-macro", "f1")),
    ]
    lines = [[label, *(cell(of_row, figure) for figure in figures)] for _, label, of_row in measured(rows, found)]
    return page.table(
        ["row", *(f"AUROC, {'Eq. 10' if score == 'angle' else score}" for score in SCORES),
         *(f"{name}, Eq. 10" for name in ("FPR95", "AUPR in", "AUPR out", "error", "F1 with classes", "F1 of two"))],
        lines,
    )  # fmt: skip


def outlier_sets(rows, found):
    """AUROC of Eq. 10 and of softmax for every set."""
    last = [snapshot for of_row in found.values() for record in of_row for snapshot in record["snapshots"][-1:]]
    known = [figure for snapshot in last for figure in snapshot]
    sets = [name.split("/")[0] for name in dict.fromkeys(known) if name.endswith("/angle/auroc")]
    sets = [name for name in sets if name != "outliers"]
    lines = [
        [label, *(f"{cell(of_row, f'{name}/angle/auroc')}; {cell(of_row, f'{name}/softmax/auroc')}" for name in sets)]
        for _, label, of_row in measured(rows, found)
    ]
    return page.table(["row", *sets], lines)


def features(rows, found):
    """Fig. 4's spread, and Table 3's ratio, of features as they are and of length 1."""
    names = ("std/class", "std/total", "std/ratio", "lipschitz")
    figures = [name + suffix for suffix in ("", " unit") for name in names]
    lines = [[label, *(cell(of_row, figure) for figure in figures)] for _, label, of_row in measured(rows, found)]
    return page.table(["row", *figures], lines)


def draw(path, rows, found):
    """Left: the spread of each class's features (Fig. 4), of length 1; right: accuracy under attack, both columns."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = picture.subplots(1, 2)
    shown = [entry for entry in measured(rows, found) if entry[0] in TABLE_7]
    for i, (_, label, of_row) in enumerate(shown):
        names = [f"std/class {k} unit" for k in range(10)] + ["std/total unit"]
        places = [place + i * 0.8 / len(shown) for place in range(len(names))]
        left.bar(places, [mean(of_row, name) for name in names], 0.8 / len(shown), label=label)
        for j, suffix in enumerate(("", " x20")):
            value = mean(of_row, f"attacked{suffix}")
            right.bar(i + 0.4 * j, value, 0.4, color=f"C{i}", alpha=1 - 0.5 * j)
    left.set_xticks([place + 0.4 for place in range(11)], [*map(str, range(10)), "total"])
    left.set(xlabel="class", ylabel="spread of features of length 1")
    labels = ["\n".join(label.split()) for _, label, _ in shown]
    right.set_xticks([i + 0.2 for i in range(len(shown))], labels, fontsize=6)
    right.set(ylabel="accuracy under attack, mean of five (%)\nsolid: logits, pale: logits x 20")
    picture.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(shown), fontsize=6)
    page.save_figure(path, picture)


def mean(of_row, figure):
    return statistics.fmean(values(of_row, figure) or [0])
