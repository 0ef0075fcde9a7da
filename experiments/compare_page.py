"""The page about a comparison: verdicts, figures, and samples of every row side by side, in one file."""

import base64
import io
import pathlib

import jinja2
import PIL.Image
from matplotlib.figure import Figure

from dnnlib.util import atomic_write
from experiments import compare, drawing, engine, page, report, verdicts
from experiments.values import values

TEMPLATE = pathlib.Path(__file__).with_name("compare.html.j2")
FIGURES = (  # of the last snapshots, beside the first metric: title, name
    ("KID", "kid_vgg1k_full"),
    ("precision", "pr_vgg1k3_full_precision"),
    ("recall", "pr_vgg1k3_full_recall"),
    ("CPU minutes", "cpu_minutes"),
)
SHOWN_SEEDS = 3  # seeds whose samples are on the page
COLUMNS, LINES, WIDTH = 8, 4, 256  # of a row's samples; WIDTH: least number of pixels


def write(plan):
    """Write `index.html` of a `compare.Plan`. Returns its path."""
    study, found = plan.study, plan.found
    content = {
        "title": study.title,
        "pictures": compare.pictures(plan),
        "kimg": plan.asked.kimg,
        "minutes": plan.asked.minutes,
        "metric": compare.FD,
        "baseline": study.rows[study.baseline].label,
        "effect": compare.EFFECT,
        "sees": compare.what_n_can_see(plan),
        "done": sum(map(len, found.values())),
        "wanted": len(study.rows) * study.seeds,
        "figures": [title for title, _ in FIGURES],
        "rows": _rows(plan, study, found),
        "figure": _figure(plan, study, found),
        "samples": _samples(plan),
        "machines": report.machines([record for of_row in found.values() for record in of_row]) if found else "",
        "command": plan.command,
    }
    source = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    path = plan.outdir / "index.html"
    with atomic_write(path, "w") as file:
        file.write(source.from_string(TEMPLATE.read_text(encoding="utf-8")).render(content))
    return path


def _rows(plan, study, found):
    """Of each row: label, runs, first metric, verdict and its kind, difference, and the other figures, as texts."""
    given = {claim.row: (verdict, claim) for claim, verdict in zip(study.claims, report.judge(study, found))}

    def figure(of_row, name):
        return report.spread(values(of_row, name))

    for key, row in study.rows.items():
        of_row, verdict = found.get(key, []), given.get(key)
        word, kind = words(plan, *verdict) if verdict else ("", "")
        yield {
            "label": row.label,
            "n": report.count(of_row),
            "first": figure(of_row, compare.FD),
            "verdict": word,
            "kind": kind,
            "difference": verdict[0].difference if verdict else "",
            "others": [figure(of_row, name) for _, name in FIGURES],
        }


def words(plan, verdict, claim):
    """The answer to "better than the baseline?", and its kind: yes, no or open. The rule's words are for studies."""
    found = verdict.comparison
    if verdict.word == verdicts.HELD:
        return "yes", "yes"
    if verdict.word == verdicts.AGAINST:
        return "no, worse", "no"
    if verdict.word == verdicts.NO_EFFECT:
        return f"no, the difference is below {compare.EFFECT}", "open"
    if verdict.word == verdicts.NOT_RUN:
        return "not run yet", "open"
    if not found:
        return f"not decided yet: needs {min(plan.looks, default=verdicts.FEWEST)} seeds", "open"
    effect, later = claim.effect_on(plan.study, found.theirs), [look for look in plan.looks if look > found.n[0]]
    more = verdicts.needed(found, effect, len(plan.looks) + (not later), len(plan.study.claims))
    if more is None:
        return f"not decided yet: needs more than {verdicts.MOST:,} seeds", "open"
    return f"not decided yet: needs about {max(more, min(later, default=found.n[0] + 1))} seeds", "open"


def _figure(plan, study, found):
    """The first metric of every run, as the source of an image; None where there is none yet."""
    if not found:
        return None
    rows = [row for row in study.rows if row in found]
    picture = Figure(figsize=(9, 1.1 + 0.3 * len(rows)), layout="constrained")
    drawing.draw_ends(picture.subplots(), study, found, rows)
    path = plan.outdir / "figure.png"
    page.save_figure(path, picture)
    return _source(path.read_bytes())


def _samples(plan):
    """{"reals": source, "seeds": {seed: [(label, source or None), ...]}} of the first seeds' last grids."""
    jobs = [job for job in plan.jobs("cpu") if job.seed < SHOWN_SEEDS and engine.run_dir(job)]
    found = {"reals": None, "seeds": {}}
    for job in jobs:
        directory, (width, height) = engine.run_dir(job), map(int, plan.rows[job.row]["side"].split("x"))
        grids = sorted(directory.glob("fakes[0-9]*.png"))
        if found["reals"] is None and (directory / "reals.png").exists():
            found["reals"] = _corner(directory / "reals.png", width, height)
        if grids:
            of_seed = found["seeds"].setdefault(job.seed, [])
            caption = f"{plan.study.rows[job.row].label}, {int(grids[-1].stem.removeprefix('fakes'))} kimg"
            of_seed.append((caption, _corner(grids[-1], width, height)))
    return found


def _corner(path, width, height):
    """The first images of a grid, each pixel as a square, as the source of an image."""
    with PIL.Image.open(path) as grid:
        corner = grid.convert("RGB").crop((0, 0, min(grid.width, COLUMNS * width), min(grid.height, LINES * height)))
    scale = -(-WIDTH // corner.width)
    rendered = io.BytesIO()
    corner.resize((corner.width * scale, corner.height * scale), PIL.Image.Resampling.NEAREST).save(rendered, "PNG")
    return _source(rendered.getvalue())


def _source(png):
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
