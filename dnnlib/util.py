"""What every command shares: one-line errors, the cache directory, files that are whole or absent."""

import contextlib
import errno
import json
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import traceback

from dnnlib import unfinished
from dnnlib.screen import never_failing, open_closed_streams


class UserError(Exception):
    """Something the user can put right. The message is one line: what is wrong, where, and what to do."""

    exit_code = 2


class RunFailed(UserError):
    """Work that had begun could not be finished."""

    exit_code = 1


def printable(text, limit=160) -> str:
    """Text from a file, or an exception that quotes one, as so many printable ASCII characters: fit for a message."""
    return str(text)[:limit].encode("unicode_escape").decode()


# Control characters, marks that change the direction of writing, separators of lines, halves of characters.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text) -> str:
    """A message as one line that is safe on a terminal, whatever names it quotes.

    Letters of all languages stay; what would move the cursor, change the terminal or hide text is shown as an escape
    such as \\x1b.
    """
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def say(*lines, err=False):
    """Print messages, each as one visible line, to standard output or, with `err`, to standard error.

    Everything that a command tells its user passes here. A progress bar on the screen stays below the lines.
    """
    from tqdm import tqdm

    stream = sys.stderr if err else sys.stdout
    if stream is None:  # closed before the command began
        return
    for line in lines:
        tqdm.write(visible(line), file=stream)  # noqa: TID251
    stream.flush()


MAX_NESTING = 64  # of JSON; no file of ours comes near it


def parse_json(text):
    """The value of JSON that anyone may have written. ValueError where it is not valid, or is nested too deeply.

    What is nested deeply could be read here, but would end the functions that walk through it.
    """
    with contextlib.suppress(RecursionError):
        value = json.loads(text)
        level = [value]
        for _ in range(MAX_NESTING):
            level = [inner for outer in level for inner in _inside(outer)]
            if not level:
                return value
    raise ValueError("its JSON is nested too deeply")


def _inside(value):
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def run_command(command):
    """Run a click command as a program: errors are one line on stderr.

    Exit codes: 0 finished, 2 refused, 1 failed (RunFailed, out of memory, or a fault of ours, which comes with its
    traceback), 130 stopped by Ctrl-C, 143 by SIGTERM and 129 by SIGHUP, which let go of half-written files.
    Messages that nobody can read, as on a closed terminal, change none of them.
    """
    open_closed_streams()
    for number in stop_signals() - {signal.SIGINT}:
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    for stream in (sys.stdout, sys.stderr):  # a path may hold what the terminal's encoding does not
        stream.reconfigure(errors="backslashreplace")
    with never_failing("stderr"):
        _run_and_exit(command)


def stop_signals():
    """Signals that ask a program to stop: Ctrl-C, `kill`, and on POSIX systems a terminal that closes.

    A hangup that is ignored already, as under nohup, is not among them.
    """
    hangup = getattr(signal, "SIGHUP", None)
    ignored = hangup is None or signal.getsignal(hangup) == signal.SIG_IGN
    return {signal.SIGINT, signal.SIGTERM} | (set() if ignored else {hangup})


def _run_and_exit(command):
    import click

    name = pathlib.Path(sys.argv[0]).name
    try:
        refuse_empty(sys.argv[1:])
        sys.exit(command.main(expand_home(sys.argv[1:]), prog_name=name, standalone_mode=False) or 0)
    except click.ClickException as error:
        message, code = error.format_message(), UserError.exit_code
    except UserError as error:
        message, code = str(error), error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say(f"{name}: stopped", err=True)
        sys.exit(130)
    except Exception as error:
        message, code = _failure(error)
    # Out here the exception is gone, and with it what its frames held: loader processes, for one.
    say(f"{name}: error: {' '.join(message.split())}", err=True)
    sys.exit(code)


def _failure(error):
    """(message, exit code) of an exception that nobody raised for the user."""
    if out_of_memory(error):
        return "out of memory: ask for less at once, or let other programs end", RunFailed.exit_code
    if isinstance(error, OSError):
        advice = ": make room, or choose another place" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return f"{error.filename or 'writing'}: {error.strerror or error}{advice}", UserError.exit_code
    say(*traceback.format_exc().splitlines(), err=True)
    name = type(error).__name__
    return f"{name}: this is a fault of the program; please report it with the lines above", RunFailed.exit_code


def refuse_empty(arguments):
    """UserError for an empty argument, as a rule a variable that a script did not set: it would count as not given."""
    for before, value in zip(["", *arguments], arguments):
        joint = re.fullmatch("(--[^=]+)=", value)
        if value == "" or joint:
            what = joint[1] if joint else before if before.startswith("-") else "an argument"
            raise UserError(f"{what} is given as an empty text: give a value, or leave it out")


def expand_home(arguments):
    """Arguments with `~` and `~user` at the start of a value as the directories that they mean.

    A shell does so for `--outdir ~/runs`, not for `--outdir=~/runs`, nor where the value is quoted.
    """
    split = [re.fullmatch("(--[a-z0-9-]+=)?(.*)", argument, re.DOTALL).groups("") for argument in arguments]
    return [option + os.path.expanduser(value) for option, value in split]


def out_of_memory(error):
    """Whether an exception says that no memory was left, on the CPU or on a GPU."""
    words = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def cache_dir(*parts: str) -> pathlib.Path:
    """A directory below the user's cache (`DNNLIB_CACHE_DIR`, else `~/.cache/stylegan2-adamix`), created on demand."""
    root = os.environ.get("DNNLIB_CACHE_DIR")
    if not root:
        root = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "stylegan2-adamix"
    path = pathlib.Path(root, *parts)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create the cache directory {path} ({error.strerror}): "
            "set DNNLIB_CACHE_DIR to a directory that can be written"
        ) from None
    return path


def make_directory(path) -> pathlib.Path:
    """The directory `path`, created where it is missing. UserError where files cannot be written into it.

    Call it before long work, not after it.
    """
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be made ({error.strerror}): give an --outdir that can be written") from None
    try:
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): give another directory") from None
    return path


def require_own_file(path):
    """OSError where `path` is a link, which could lead to any file, or something else than a regular file.

    Run directories come from other people too. A link that the user names is for the command to resolve.
    """
    if os.path.islink(path):
        raise OSError(errno.ELOOP, "it is a link, and links are not followed here: delete it", str(path))
    if os.path.exists(path) and not os.path.isfile(path):
        raise IsADirectoryError(errno.EISDIR, "it is not a regular file: remove it", str(path))


@contextlib.contextmanager
def atomic_write(path, mode="wb"):
    """Open a file that appears under `path` whole or not at all.

    The text or bytes go to a temporary file beside `path`, are flushed to the disk, and only then take its name; on
    any exception the temporary file is removed and what stood under `path` before is untouched. An OSError of the
    temporary file names `path`. A link is refused, as by `require_own_file`.
    """
    path = pathlib.Path(path)
    require_own_file(path)
    try:
        with unfinished.beside(path) as (handle, temporary):
            with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
    except OSError as error:
        if unfinished.is_temporary(error.filename):
            error.filename, error.filename2 = str(path), None
        raise


def append_line(path, text):
    """Add a line to a file, whole or not at all. Raises OSError where the disk refuses, and for a link.

    A file that has hard links is copied first, so that its other names keep what they have.
    """
    data = (text + "\n").encode()
    require_own_file(path)
    if os.path.exists(path) and os.stat(path).st_nlink > 1:
        with open(path, "rb") as shared, atomic_write(path) as file:
            shutil.copyfileobj(shared, file)
    with open(path, "ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if file.write(data) != len(data):
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def format_time(seconds):
    """0.4s, 12s, 3m 05s, 2h 07m or 3d 04h."""
    if 0 < seconds < 10:
        return f"{seconds:.1f}s"
    s = max(int(seconds), 0)
    if s < 60:
        return f"{s}s"
    if s < 3600:
        return f"{s // 60}m {s % 60:02d}s"
    if s < 86400:
        return f"{s // 3600}h {s // 60 % 60:02d}m"
    return f"{s // 86400}d {s // 3600 % 24:02d}h"
