"""What the toy study found: its JSON, its figures, and the tables in docs/results.md. Runs without torch."""

import io
import json
import math
import pathlib
import re
import statistics
from typing import NamedTuple

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
MEASURES = {
    "modes": "modes at the end",
    "share": "share within 3σ",
    "distance": "distance to the data",
    "early": "modes, mean over training",
    "unrest": "unrest",
    "slope": "slope of the map",
    "stretch": "stretch of F",
    "real_score": "real score",
    "uneven": "unevenness of real scores",
}
BEGIN, END = "<!-- toy study: begin -->", "<!-- toy study: end -->"
SHOWN = (1, 3, 6, 9)  # checkpoints in the figures


class Claim(NamedTuple):
    """That `method` has more (sign 1) or less (-1) of a measure than `baseline`: a method, or a number to reach."""

    source: str
    text: str
    measure: str
    sign: int
    method: str
    baseline: str | float
    sets: tuple = tuple(SETS)


def _claims():
    figure = ("nine", "circles")  # AdaptiveMix, Fig. 3
    for method, baseline in (("gan-adamix", "gan"), ("wgan-adamix", "wgan"), ("wgan-adamix", "gan")):
        yield Claim("AdaptiveMix, §4.1", "points are closer to the data", "distance", -1, method, baseline, figure)
        yield Claim("AdaptiveMix, §4.1", "fewer modes are lost", "modes", 1, method, baseline, figure)
    for method, baseline in (("gan-adamix", "gan"), ("wgan-adamix", "wgan")):
        yield Claim("AdaptiveMix, §4.1", "the confidence map is flatter", "slope", -1, method, baseline, figure)
        yield Claim("AdaptiveMix, Table 3", "F stretches the data less", "stretch", -1, method, baseline, figure)
    unclipped = "wgan-adamix-unclipped"
    yield Claim(
        "AdaptiveMix, §3.2", "it can do clipping's work (our reading)", "distance", -1, unclipped, "wgan", figure
    )
    ring = ("eight",)  # aw, Fig. 6
    yield Claim("aw, §5.3", "the plain GAN ends on three modes at most", "modes", -1, "gan", 3, ring)
    yield Claim("aw, §5.3", "aw covers all eight", "modes", 1, "gan-aw", 8, ring)
    yield Claim("aw, §5.3", "it covers more modes", "modes", 1, "gan-aw", "gan")
    yield Claim("aw, §5.3", "it covers them sooner", "early", 1, "gan-aw", "gan")
    yield Claim("aw, §5.3", "scores of real points are higher", "real_score", 1, "gan-aw", "gan")
    yield Claim("aw, §5.3", "they are more even over the modes", "uneven", -1, "gan-aw", "gan")
    for method, baseline in (("gan-sdp", "gan"), ("wgan-sdp", "wgan"), ("wgan-sdp-unit", "wgan")):
        yield Claim("SDP, §III-B", "fewer modes are lost", "modes", 1, method, baseline)
        yield Claim("SDP, §IV", "training is steadier", "unrest", -1, method, baseline)
        yield Claim("SDP, §IV", "points are closer to the data", "distance", -1, method, baseline)


def summary(history):
    """One run's checkpoints as one number for each of `MEASURES`."""

    def over_training(key):
        return statistics.fmean(point[key] for point in history)

    numbers = {key: history[-1][key] for key in ("modes", "share", "distance")}
    numbers |= {key: over_training(key) for key in ("slope", "stretch", "real_score", "uneven")}
    second_half = [point["distance"] for point in history[len(history) // 2 :]]
    return numbers | {"early": over_training("modes"), "unrest": statistics.pstdev(second_half)}


def spread(histories, measure):
    """Mean and standard deviation of a measure over the seeds."""
    values = [summary(history)[measure] for history in histories]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def verdict(claim, runs):
    """What was measured, and whether the claim held; None where the methods were not run.

    Against a method, a claim holds when the means differ in its direction by over two standard errors of the
    difference. Against a number, it holds when the mean reaches that number.
    """
    if claim.method not in runs or (isinstance(claim.baseline, str) and claim.baseline not in runs):
        return None
    mean, deviation = spread(runs[claim.method], claim.measure)
    if not isinstance(claim.baseline, str):
        held = claim.sign * (mean - claim.baseline) >= 0
        return f"{mean:.3g} ± {deviation:.2g}: {'**held**' if held else 'did not hold'}"
    base_mean, base_deviation = spread(runs[claim.baseline], claim.measure)
    error = math.hypot(deviation, base_deviation) / math.sqrt(len(runs[claim.method]))
    gain = claim.sign * (mean - base_mean)
    words = "**held**" if gain > 2 * error else "did not hold (the opposite)" if gain < -2 * error else "did not hold"
    return f"{base_mean:.3g} → {mean:.3g}, ± {error:.2g}: {words}"


def claims_table(runs):
    lines = ["| claim | with | against | measure | " + " | ".join(SETS[name] for name in runs) + " |"]
    lines.append("|---" * (4 + len(runs)) + "|")
    for claim in _claims():
        cells = [verdict(claim, runs[name]) if name in claim.sets else None for name in runs]
        if any(cells):
            against = METHODS.get(claim.baseline, claim.baseline)
            words = [f"{claim.source}: {claim.text}", METHODS[claim.method], str(against), MEASURES[claim.measure]]
            lines.append("| " + " | ".join([*words, *(cell or "" for cell in cells)]) + " |")
    return lines


def numbers_table(runs):
    lines = ["| | " + " | ".join(MEASURES.values()) + " |", "|---" * (1 + len(MEASURES)) + "|"]
    for method, histories in runs.items():
        cells = ["{:.3g} ± {:.2g}".format(*spread(histories, measure)) for measure in MEASURES]
        lines.append(f"| {METHODS[method]} | " + " | ".join(cells) + " |")
    return [*lines, "| WGAN + aw |" + " n/a |" * len(MEASURES)]


def report(study):
    """The study's part of results.md."""
    runs = study["runs"]
    rates = " --lr {:g} {:g}".format(*study["lr"]) if study.get("lr") else ""
    lines = [
        f"Measured with `python experiments/toy.py --seeds {study['seeds']} --steps {study['steps']}{rates}`: "
        f"{sum(len(h) for methods in runs.values() for h in methods.values())} runs in "
        f"{study['seconds'] / 60:.0f} minutes on one thread.",
        "",
        "Cells are *baseline → with the term, ± the standard error of the difference*. A claim against a method is "
        "said to hold when the difference has its sign and exceeds two standard errors; *the opposite*: it exceeds "
        "them the other way round.",
        "",
        *claims_table(runs),
    ]
    for name, methods in runs.items():
        lines += ["", f"### {SETS[name][0].upper()}{SETS[name][1:]}", "", f"![{SETS[name]}](images/toy_{name}.png)", ""]
        lines += numbers_table(methods)
    return "\n".join(lines)


def put(path, text):
    """Write `text` between the marker comments of a file; they are appended where there are none."""
    page = path.read_text(encoding="utf-8") if path.exists() else "# Results\n"
    part = f"{BEGIN}\n{text}\n{END}"
    if BEGIN in page and END in page:
        page = re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: part, page, flags=re.DOTALL)
    else:
        page = f"{page.rstrip()}\n\n## Toy distributions\n\n{part}\n"
    path.write_text(page, encoding="utf-8")


def figure(path, point_set, methods, runs):
    """A row for each method, a column for each moment: D's map (bright: real) and points of G; last the data."""
    import PIL.Image
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
            METHODS[method].replace(" in ", "\nin ").replace(" + ", "\n+ ").replace(", ", ",\n"), fontsize=6
        )
        for ax in axes:
            ax.set(xlim=(-2, 2), ylim=(-2, 2), xticks=[], yticks=[], aspect="equal")
    rendered = io.BytesIO()
    picture.savefig(rendered, dpi=80)
    PIL.Image.open(rendered).convert("RGB").quantize(64).save(path, optimize=True)


def write(outdir, study, pictures):
    """Write toy.json, the figures and results.md; `pictures` maps a set to its points and each method's drawings."""
    outdir = pathlib.Path(outdir)
    (outdir / "images").mkdir(parents=True, exist_ok=True)
    for name, (point_set, methods) in pictures.items():
        figure(outdir / "images" / f"toy_{name}.png", point_set, methods, study["runs"][name])
    study = json.loads(json.dumps(study), parse_float=lambda number: float(f"{float(number):.4g}"))
    (outdir / "toy.json").write_text(json.dumps(study, separators=(",", ":")) + "\n", encoding="utf-8")
    put(outdir / "results.md", report(study))
