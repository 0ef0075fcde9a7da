"""The pictures of a run on its report's page, each reduced to its share of the page's bytes."""

import base64
import functools
import io

import PIL.Image

from dnnlib.util import parse_json
from training.reporting.run_record import kimg_of, usable

GRIDS_PER_RUN = 16
IMAGE_BYTES = 9_000_000  # for all grids together; as base64 they are a third larger
GRID_SIDES = (1024, 768, 512, 384, 256, 128)  # a grid takes the largest that fits its share


def read_grids(run, num_runs):
    """[(kimg, picture)] of a run's grids of generated images, at most `GRIDS_PER_RUN`, evenly spaced."""
    found = {}
    for path in run.directory.glob("fakes*.png"):
        try:
            found[kimg_of(path)] = path
        except ValueError:
            continue  # not one of the run's pictures
    chosen = evenly(sorted(found.items()), grids_per_run(num_runs))
    pictures = [(kimg, encode(path, budget(num_runs), run.notes)) for kimg, path in chosen]
    return [(kimg, picture) for kimg, picture in pictures if picture]


def grids_per_run(num_runs):
    """Fewer grids per run with many runs, so that grids do not become too small."""
    return max(2, min(GRIDS_PER_RUN, 160 // num_runs))


def budget(num_runs):
    """Bytes per grid: an equal share for all runs' grids and one grid of reals per run."""
    return IMAGE_BYTES // (num_runs * (grids_per_run(num_runs) + 1))


def evenly(items, count):
    """At most `count` evenly spaced items, including the first and the last."""
    if len(items) <= count:
        return items
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def group_reals(runs):
    """[(picture, indices of runs)]: runs on the same data share a picture."""
    groups = {}
    for index, run in enumerate(runs):
        path = run.directory / "reals.png"
        picture = encode(path, budget(len(runs)), run.notes) if path.exists() else None
        if picture:
            groups.setdefault(picture, []).append(index)
    return list(groups.items())


def read_nearest(run, index, num_runs):
    """The picture of samples above their nearest training images, with its figures; None if a run has none."""
    path = run.directory / "nearest.png"
    if not path.exists():
        return None
    try:
        about = parse_json((run.directory / "nearest.json").read_text(encoding="utf-8"))
        numbers = usable({name: float(about[name]) for name in ("kimg", "samples", "reference", "count")})
        shown = [float(distance) for distance in about["shown"]]
        if len(numbers) < 4 or len(usable(dict(enumerate(shown)))) < len(shown):
            raise ValueError("a distance that is not finite")
        names = {"of": str(about["of"]), "features": str(about.get("features", "efficientnet-lite0"))}
        found = {**numbers, **names, "shown": shown}
    except (OSError, ValueError, KeyError, TypeError) as error:
        run.notes.append(f"nearest.json cannot be read ({type(error).__name__})")
        return None
    picture = encode(path, budget(num_runs), run.notes)
    return picture and {"run": index, "picture": picture, **found}


def encode(path, max_bytes, notes):
    """(data URI, width, height) of a picture, reduced to `max_bytes`; None if it cannot be read."""
    try:
        about = path.stat()
        return _encoded(path, about.st_mtime_ns, about.st_size, max_bytes)
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        notes.append(f"{path.name} cannot be read ({type(error).__name__})")
        return None


@functools.lru_cache(maxsize=GRIDS_PER_RUN + 4)
def _encoded(path, modified, size, max_bytes):
    """Like `encode`, cached per version of a file, because a page that follows a run shows most pictures again."""
    with PIL.Image.open(path, formats=["PNG"]) as image:  # other readers may start programs
        image = image.convert("RGB")
    for side in GRID_SIDES:
        image.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, format="webp", quality=82)
        if buffer.tell() <= max_bytes:
            break
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode(), *image.size
