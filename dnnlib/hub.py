"""Model folders on Hugging Face's hub: fetched by `hf://user/repo`, and pushed. Nothing in them is executed.

huggingface_hub is an extra requirement. Its environment variables (HF_TOKEN, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE)
apply.
"""

import contextlib
import pathlib

from dnnlib.util import UserError, printable

SCHEME = "hf://"


def fetch(address):
    """The snapshot in the repository that `hf://user/repo` names: its only .safetensors file, from the cache if there.

    Raises `UserError` if there is none, or several.
    """
    repo = address.removeprefix(SCHEME)
    with _errors_in_one_line(address) as hub:
        folder = pathlib.Path(hub.snapshot_download(repo, allow_patterns="*.safetensors"))
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        raise UserError(f"{address} holds {len(found)} .safetensors files: give a repository with one network")
    return found[0]


def require_installed(repo):
    """Raise `UserError` if the package huggingface_hub is missing, before the work on what is pushed to `repo`."""
    with _errors_in_one_line(f"{SCHEME}{repo}"):
        pass


def push(folder, repo):
    """Upload the files of a folder to the repository `user/repo`, created if missing. Returns its address."""
    with _errors_in_one_line(f"{SCHEME}{repo}") as hub:
        api = hub.HfApi()
        made = api.create_repo(repo, exist_ok=True)
        api.upload_folder(folder_path=str(folder), repo_id=repo, commit_message="Model folder of stylegan2-adamix")
    return str(made)


@contextlib.contextmanager
def _errors_in_one_line(address):
    """The module huggingface_hub; what it raises becomes a UserError that names the address."""
    try:
        import huggingface_hub  # slow to import
    except ImportError:
        raise UserError(f"{address} needs the package huggingface_hub: pip install -r requirements-hub.txt") from None
    try:
        yield huggingface_hub
    except Exception as error:  # its errors, those of its HTTP client, and those of the disk have no common class
        raise UserError(f"{address}: {_problem(error)}") from None


def _problem(error):
    """What an exception of huggingface_hub says, in one line; of a lost connection, its cause alone."""
    cause = error
    while cause is not None and "Connect" not in type(cause).__name__:  # ConnectError, ConnectTimeout of its client
        cause = cause.__cause__
    said = printable(" ".join(str(cause or error).split()), 200)
    return f"no connection to the hub ({said}): check the network" if cause else said
