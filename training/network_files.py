"""Find the file for a network's name: a file, a run, `latest`, a URL, a model on a hub, or a published name."""

import pathlib
from collections.abc import Callable

from dnnlib import hub
from dnnlib.download import fetch
from dnnlib.util import UserError, printable, say
from training.arguments import OUTDIR
from training.run_dir import OPTIONS, read_json, run_dirs, snapshots

Name = str | pathlib.Path
# Networks that come with the project; a card lies beside each.
SHIPPED = {"smileys": pathlib.Path(__file__).parent.parent / "pretrained" / "smileys.safetensors"}
_PUBLISHED = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/transfer-learning-source-nets/"
PRETRAINED = {
    "ffhq256": _PUBLISHED + "ffhq-res256-mirror-paper256-noaug.pkl",
    "ffhq512": _PUBLISHED + "ffhq-res512-mirror-stylegan2-noaug.pkl",
    "ffhq1024": _PUBLISHED + "ffhq-res1024-mirror-stylegan2-noaug.pkl",
    "celebahq256": _PUBLISHED + "celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl",
    "lsundog256": _PUBLISHED + "lsundog-res256-paper256-kimg100000-noaug.pkl",
}


def network_file(name: Name, note: Callable[[str], object] = lambda line: say(line, err=True)) -> pathlib.Path:
    """The file for `name`. An existing path takes precedence over other meanings.

    A run directory means its best snapshot by the run's first metric, or else its newest one. `latest` means the newest
    run in `runs`, `DIR/latest` the newest one in DIR; `note` gets a line that names the file. URLs, `hf://user/repo`
    and names of published weights are downloaded. Raises `UserError` if there is no such file.
    """
    text, path = str(name), pathlib.Path(name)
    if text.startswith(("https://", "http://")):
        return fetch(text)
    if text.startswith(hub.SCHEME):
        return hub.fetch(text)
    if not text:
        raise UserError("the name of the snapshot is empty: give a file, or wait until the run has written one")
    if path.is_file():
        return path
    if not path.exists() and text in SHIPPED:
        return SHIPPED[text]
    if not path.exists() and text in PRETRAINED:
        return fetch(PRETRAINED[text])
    path = resolve_latest(path)
    if not path.is_dir():
        raise UserError(
            f"there is no snapshot {text}: give a file, the directory of a run, latest, hf://user/repo, an https URL, "
            f"or one of {', '.join([*SHIPPED, *PRETRAINED])}"
        )
    found, why = best_snapshot(path)
    note(f"{text}: {found} ({why})")
    return found


def resolve_latest(name: Name, wanted: Callable = snapshots, what: str = "a snapshot") -> pathlib.Path:
    """The path `name`; for `latest` and `DIR/latest`, the newest run there for which `wanted(run_dir)` is true.

    what: the content that such a run has, for the error message.
    """
    path = pathlib.Path(name)
    if path.exists() or path.name != "latest":
        return path
    outdir = pathlib.Path(OUTDIR) if str(path) == "latest" else path.parent
    if not outdir.is_dir():
        raise UserError(
            f"latest is the newest run in {outdir}, but there is no such directory: train first, or give DIR/latest"
        )
    run_dir = next(run_dirs(outdir, wanted), None)
    if run_dir is None:
        raise UserError(f"{outdir} holds no run with {what}: wait until a run has written one, or name another place")
    return run_dir


def best_snapshot(run_dir: pathlib.Path) -> tuple[pathlib.Path, str]:
    """(path of a run directory's snapshot, the reason for the choice)."""
    found = {path.name: path for _, path in snapshots(run_dir)}
    if found:
        best = read_json(run_dir / "best.json")
        if (path := found.get(str(best.get("snapshot")))) is not None:
            return path, f"the best by {printable(best.get('metric'), 40)}"
        return list(found.values())[-1], "the newest"
    if (run_dir / OPTIONS).is_file():
        raise UserError(f"{run_dir} holds no snapshot yet: wait for its first one, or resume the run if it was stopped")
    if next(run_dirs(run_dir, snapshots), None):
        raise UserError(f"{run_dir} is not a run, it holds runs: give one of them, or {run_dir / 'latest'}")
    raise UserError(f"{run_dir} is not a run, it holds no snapshot: give the directory of a run, or a snapshot")
