"""Shared by all commands: one-line errors, the cache directory, atomic files."""

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
    """An error that the user can fix. The message is one line: what is wrong, where, and what to do.

    problem: the message without `advice`, which is given apart if a caller may have other advice.
    """

    exit_code = 2

    def __init__(self, problem, advice=None):
        super().__init__(f"{problem}: {advice}" if advice else problem)
        self.problem = problem


class RunFailed(UserError):
    """Work that had begun failed."""

    exit_code = 1


def printable(text, limit=160) -> str:
    """Text from a file, or of an exception, as at most `limit` printable ASCII characters, for a message."""
    return str(text)[:limit].encode("unicode_escape").decode()


# Control characters, direction marks, line separators, surrogates.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text) -> str:
    """A message as one line that is safe on a terminal.

    Letters of all languages are kept; characters that would move the cursor, change the terminal or hide text become
    escapes such as \\x1b.
    """
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def say(*lines, err=False):
    """Print messages, each as one visible line, to standard output or, with `err`, to standard error.

    All output of commands passes here. A progress bar stays below the lines.
    """
    from tqdm import tqdm

    stream = sys.stderr if err else sys.stdout
    if stream is None:  # closed before the command began
        return
    for line in lines:
        tqdm.write(visible(line), file=stream)  # noqa: TID251
    stream.flush()


MAX_NESTING = 64  # depth of JSON, far above that of our files


def parse_json(text):
    """Parse JSON from an untrusted source. Raises ValueError if it is invalid or nested too deeply.

    Deep nesting would exceed the recursion limit in functions that walk through the value.
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

    Exit codes: 0 finished, 2 refused, 1 failed (RunFailed, out of memory, or a bug, which prints its traceback),
    130 stopped by Ctrl-C, 143 by SIGTERM and 129 by SIGHUP; half-written files are removed. A message that cannot be
    written, as on a closed terminal, does not change the exit code.
    """
    open_closed_streams()
    for number in stop_signals() - {signal.SIGINT}:
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    for stream in (sys.stdout, sys.stderr):  # a path may contain characters that the encoding lacks
        stream.reconfigure(errors="backslashreplace")
    with never_failing("stderr"):
        _run_and_exit(command)


def stop_signals():
    """Signals that request a stop: Ctrl-C, `kill`, and on POSIX systems a closed terminal.

    A hangup that is already ignored, as under nohup, is not among them.
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
    # Here the exception has been freed, and with it the objects in its frames, such as loader processes.
    say(f"{name}: error: {' '.join(message.split())}", err=True)
    sys.exit(code)


def _failure(error):
    """(message, exit code) for an unexpected exception."""
    if out_of_memory(error):
        return "out of memory: use a smaller batch, or end other programs", RunFailed.exit_code
    if isinstance(error, OSError):
        advice = ": make room, or choose another place" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return f"{error.filename or 'writing'}: {error.strerror or error}{advice}", UserError.exit_code
    say(*traceback.format_exc().splitlines(), err=True)
    name = type(error).__name__
    return f"{name}: this is a bug; please report it with the lines above", RunFailed.exit_code


def refuse_empty(arguments):
    """Raise UserError for an empty argument, usually an unset variable in a script: it would count as not given."""
    for before, value in zip(["", *arguments], arguments):
        joint = re.fullmatch("(--[^=]+)=", value)
        if value == "" or joint:
            what = joint[1] if joint else before if before.startswith("-") else "an argument"
            raise UserError(f"{what} is empty: give a value, or leave it out")


def expand_home(arguments):
    """Arguments with `~` and `~user` at the start of a value expanded.

    A shell expands `--outdir ~/runs`, but not `--outdir=~/runs` or quoted values.
    """
    split = [re.fullmatch("(--[a-z0-9-]+=)?(.*)", argument, re.DOTALL).groups("") for argument in arguments]
    return [option + os.path.expanduser(value) for option, value in split]


def out_of_memory(error):
    """Whether an exception means that memory ran out, on the CPU or a GPU."""
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
            f"cannot create the cache directory {path} ({error.strerror}): set DNNLIB_CACHE_DIR to a writable directory"
        ) from None
    return path


def make_directory(path) -> pathlib.Path:
    """The directory `path`, created if missing. Raises UserError if it is not writable.

    Call it before long work, so that it fails early.
    """
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be created ({error.strerror}): give a writable --outdir") from None
    try:
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise UserError(f"{path} is not writable ({error.strerror}): give another directory") from None
    return path


def require_own_file(path):
    """Raise OSError if `path` is a link, which could lead to any file, or not a regular file.

    Run directories may come from other people. If the user names a link, the command resolves it first.
    """
    if os.path.islink(path):
        raise OSError(errno.ELOOP, "it is a link, and links are not followed here: delete it", str(path))
    if os.path.exists(path) and not os.path.isfile(path):
        raise IsADirectoryError(errno.EISDIR, "it is not a regular file: remove it", str(path))


@contextlib.contextmanager
def atomic_write(path, mode="wb"):
    """Open a file that appears at `path` completely or not at all.

    The text or bytes go to a temporary file beside `path`, are flushed to the disk, and only then renamed to `path`. An
    exception removes the temporary file and leaves an existing `path` unchanged. An OSError of the temporary file names
    `path`. A link is refused, as by `require_own_file`.
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
    """Append a line to a file, completely or not at all. Raises OSError if the disk refuses, and for a link.

    A file with hard links is copied first, so that its other names keep the old content.
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
