"""The place of an exported file or folder."""

import contextlib
import pathlib

from dnnlib.util import UserError


@contextlib.contextmanager
def writing(out):
    """Surrounds what writes `out`, after everything has been read: an OSError becomes a UserError that names `out`.

    Creates the directory around `out` if it is missing, and removes it again if nothing is written.
    """
    directory = pathlib.Path(out).absolute().parent
    new = not directory.exists()
    try:
        directory.mkdir(exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror or error}): give an --out that can be written") from None
    finally:
        if new:
            with contextlib.suppress(OSError):  # it holds the export
                directory.rmdir()
