"""Results of the toy study: its JSON, its figures, and the tables in docs/toys.md. Runs without torch."""

import json
import pathlib
import statistics
from typing import NamedTuple

from dnnlib.util import UserError, printable
from experiments import page, verdicts

SETS = {"nine": "nine Gaussians", "circles": "three circles", "eight": "eight Gaussians"}
METHODS = {
    "gan": "GAN",
    "gan-adamix": "GAN + AdaptiveMix",
    "gan-aw": "GAN + aw",
    "gan-sdp": "GAN + SDP",
    "wgan": "WGAN",
    "wgan-adamix": "WGAN + AdaptiveMix",
    "wgan-adamix-unclipped": "AdaptiveMix in place of WGAN's clipping",
    "wgan-sdp": "WGAN + SDP",
    "wgan-sdp-unit": "WGAN + SDP, unit norm",
}
STRONGER = {  # with larger weights; only on request
    f"{base}-adamix-x{weight}": f"{METHODS[base]} + AdaptiveMix, weight {weight}"
    for base in ("gan", "wgan")
    for weight in (10, 100)
}
LABELS = METHODS | STRONGER
MEASURES = {
    "modes": "modes at the end",
    "share": "share within 3σ",
    "distance": "distance to the data",
    "unrest": "unrest",
    "slope": "slope of the map",
    "stretch": "stretch of F",
    "real_score": "real score",
    "uneven": "unevenness of real scores",
}
EFFECT = 0.1  # smallest relevant difference, as a share of the baseline; chosen after these runs
PAGE = "toys.md"
PART = "toy study"  # of that page; a study with a name has a part of its own
SHOWN = (1, 3, 6, 9)  # checkpoints in the figures


class Claim(NamedTuple):
    """That `method` has more (sign 1) or less (-1) of a measure than `baseline`: a method, or a number."""

    source: str
    text: str
    measure: str
    sign: int
    method: str
    baseline: str | float
    sets: tuple = tuple(SETS)


def _claims():
    figure = ("nine", "circles")  # AdaptiveMix, Fig. 3
    own = [(method, method.split("-")[0]) for method in LABELS if "-adamix" in method and "unclipped" not in method]
    for method, baseline in (*own, ("wgan-adamix", "gan")):
        yield Claim("AdaptiveMix, §4.1", "points are closer to the data", "distance", -1, method, baseline, figure)
        yield Claim("AdaptiveMix, §4.1", "fewer modes are lost", "modes", 1, method, baseline, figure)
    for method, baseline in own:
        yield Claim("AdaptiveMix, §4.1", "the confidence map is flatter", "slope", -1, method, baseline, figure)
        yield Claim("AdaptiveMix, Table 3", "F stretches the data less", "stretch", -1, method, baseline, figure)
    ring = ("eight",)  # aw, Fig. 6
    yield Claim("aw, §5.3", "the plain GAN ends on three modes at most", "modes", -1, "gan", 3.5, ring)
    yield Claim("aw, §5.3", "aw covers all eight", "modes", 1, "gan-aw", 7.5, ring)
    yield Claim("aw, §5.3", "it covers more modes", "modes", 1, "gan-aw", "gan")
    yield Claim("aw, §5.3", "scores of real points are higher", "real_score", 1, "gan-aw", "gan")
    yield Claim("aw, §5.3", "they are more even over the modes", "uneven", -1, "gan-aw", "gan")
    for method, baseline in (("gan-sdp", "gan"), ("wgan-sdp", "wgan")):
        yield Claim("SDP, §III-B", "fewer modes are lost", "modes", 1, method, baseline)
        yield Claim("SDP, §IV", "training is steadier", "unrest", -1, method, baseline)
        yield Claim("SDP, §IV", "points are closer to the data", "distance", -1, method, baseline)


def summary(history):
    """Summarise one run's checkpoints by one number for each of `MEASURES`."""

    def over_training(key):
        return statistics.fmean(point[key] for point in history)

    numbers = {key: history[-1][key] for key in ("modes", "share", "distance")}
    numbers |= {key: over_training(key) for key in ("slope", "stretch", "real_score", "uneven")}
    second_half = [point["distance"] for point in history[len(history) // 2 :]]
    return numbers | {"unrest": statistics.pstdev(second_half)}


def over_seeds(histories, measure):
    """A measure of every seed."""
    return [summary(history)[measure] for history in histories]


def spread(histories, measure):
    """Mean and standard deviation of a measure over the seeds."""
    values = over_seeds(histories, measure)
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def compare(claim, runs):
    """The `Comparison` for a claim in the runs of one set; None if the methods were not run, or too few of them."""
    if claim.method not in runs or (isinstance(claim.baseline, str) and claim.baseline not in runs):
        return None
    ours, theirs = over_seeds(runs[claim.method], claim.measure), claim.baseline
    if isinstance(theirs, str):
        theirs = dict(enumerate(over_seeds(runs[theirs], claim.measure)))
    return verdicts.compare(dict(enumerate(ours)), theirs)


def judged(study):
    """[(claim, set, its `Comparison`, word)]: all claims and sets of a study are one family."""
    asked = [(claim, name, compare(claim, study["runs"].get(name, {}))) for claim in _claims() for name in claim.sets]
    asked = [entry for entry in asked if entry[2]]
    words = verdicts.decide([(found, claim.sign, EFFECT * abs(found.theirs)) for claim, _, found in asked])
    return [(*entry, word) for entry, word in zip(asked, words)]


def claims_lines(study):
    """The claims with the verdict held or against, one per line, and the number of the others."""
    found, lines = judged(study), []
    for claim, name, compared, word in found:
        if word in (verdicts.HELD, verdicts.AGAINST):
            lines.append(
                f"- {word}: {claim.source}, {SETS[name]}: {claim.text} ({LABELS[claim.method]} against "
                f"{against(claim)}): {MEASURES[claim.measure]} {compared.theirs:.3g} → {compared.ours:.3g}"
            )
    equal = sum(word == verdicts.NO_EFFECT for *_, word in found)
    return [*lines, f"- The other claims: {equal} {verdicts.NO_EFFECT}, {len(found) - len(lines) - equal} open."]


def line(docs):
    """A sentence about all toy studies."""
    words = [word for study in read(docs) for *_, word in judged(study)]
    counts = ", ".join(f"{words.count(word)} {word}" for word in verdicts.WORDS if word in words)
    return f"On toys of 2-D points, {len(words)} claims: {counts} ([toys](toys.md))"


def against(claim):
    return LABELS.get(claim.baseline, f"{claim.baseline} modes")


def command(study):
    """The command that makes the study, as readers type it."""
    words = [f"--name {study['name']}"] if study.get("name") else []
    sets, methods = list(study["runs"]), list(next(iter(study["runs"].values())))
    words += [f"--set {name}" for name in sets if sets != list(SETS)]
    words += [f"--method {method}" for method in methods if methods != list(METHODS)]
    words += [f"--seeds {study['seeds']}", f"--steps {study['steps']}"]
    words += ["--lr {:g} {:g}".format(*study["lr"])] if study.get("lr") else []
    return " ".join(["python experiments/toy.py", *words])


def stem(study):
    """The stem of the study's file names."""
    return f"toy-{study['name']}" if study.get("name") else "toy"


def numbers_table(runs):
    rows = [
        [LABELS[method], *("{:.3g} ± {:.2g}".format(*spread(histories, measure)) for measure in MEASURES)]
        for method, histories in runs.items()
    ]
    return page.table(["", *MEASURES.values()], rows)


def report(study):
    """The study's part of the page."""
    runs = study["runs"]
    count = sum(len(histories) for methods in runs.values() for histories in methods.values())
    minutes = f"{study['seconds'] / 60:.0f} minutes"
    lines = [f"Measured with `{command(study)}`: {count} runs in {minutes} on one thread.", "", *claims_lines(study)]
    for name, methods in runs.items():
        picture = f"![{SETS[name]}](images/{stem(study)}_{name}.png)"
        lines += ["", f"### {SETS[name][0].upper()}{SETS[name][1:]}", "", picture, ""]
        lines += numbers_table(methods)
    return "\n".join(lines)


def read(docs):
    """The studies in `docs`/toy.json and `docs`/toy-NAME.json. Raises UserError for a damaged file."""
    found = []
    for file in sorted(pathlib.Path(docs).glob("toy*.json"), key=lambda file: file.stem):
        try:
            found.append(json.loads(file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise UserError(
                f"{file} cannot be read ({printable(error)}): run experiments/toy.py, or restore it"
            ) from None
    return found


def figure(path, point_set, methods, runs):
    """A row for each method, a column for each moment: D's map (bright: real) and points of G; last the data."""
    from matplotlib.figure import Figure

    data = point_set.sample(300).numpy()
    picture = Figure(figsize=(7.5, 1.5 * len(methods)), layout="constrained")
    grid = picture.subplots(len(methods), len(SHOWN) + 1, squeeze=False)
    for axes, (method, drawn) in zip(grid, methods.items()):
        for ax, i in zip(axes, SHOWN):
            points, confidence = drawn[i]
            limits = {} if method.startswith("wgan") else {"vmin": 0, "vmax": 1}
            ax.imshow(confidence, extent=(-2, 2, -2, 2), origin="lower", cmap="gray", **limits)
            ax.plot(*points.T, ".", color="tab:orange", markersize=2)
            ax.set_title(f"step {runs[method][0][i]['step']}", fontsize=6)
        axes[-1].plot(*data.T, ".", color="tab:blue", markersize=2)
        axes[-1].set_title("data", fontsize=6)
        axes[0].set_ylabel(
            LABELS[method].replace(" in ", "\nin ").replace(" + ", "\n+ ").replace(", ", ",\n"), fontsize=6
        )
        for ax in axes:
            ax.set(xlim=(-2, 2), ylim=(-2, 2), xticks=[], yticks=[], aspect="equal")
    page.save_figure(path, picture)


def write(outdir, study, pictures):
    """Write the JSON, figures and part of the page; `pictures` maps a set to its points and methods' drawings."""
    outdir = pathlib.Path(outdir)
    (outdir / "images").mkdir(parents=True, exist_ok=True)
    for name, (point_set, methods) in pictures.items():
        figure(outdir / "images" / f"{stem(study)}_{name}.png", point_set, methods, study["runs"][name])
    study = json.loads(json.dumps(study), parse_float=lambda number: float(f"{float(number):.4g}"))
    (outdir / f"{stem(study)}.json").write_text(json.dumps(study, separators=(",", ":")) + "\n", encoding="utf-8")
    put(outdir)


def put(docs):
    """All studies' parts of `docs`/toys.md."""
    for study in read(docs):
        _put(pathlib.Path(docs) / PAGE, study)


def _put(file, study):
    named = study.get("name")
    heading = f"## Toys again: {named}" if named else "## Toy distributions"
    page.put(file, f"{PART} {named}" if named else PART, report(study), heading)
