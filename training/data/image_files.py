"""Images in a folder or a zip: list the files, select the images, read their bytes.

Files come from anywhere, so nothing here trusts them: no file may be larger than `MAX_FILE_BYTES`, zip entries are read
in place and never extracted, and any problem with a file becomes a one-line `UserError` that names it.
"""

import collections
import os
import pathlib
import stat
import zipfile

from dnnlib.util import UserError, printable
from training.data import image_formats
from training.data.fingerprint import file_crc

# Which files are read, and how: raise it when that changes; older runs keep the rules that they started with.
# 2: more formats, files without an ending by content, linked folders, colour profiles, UTF-8 names in zips.
READING_RULES = 2
FIRST_ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}  # of rules 1
FIRST_SKIPPED = {"__macosx"}
MAX_FILE_BYTES = 1 << 28
MAX_LINKED_FOLDERS = 10_000
MOST_ENDINGS = 10  # name at most this many in a message
LABELS_FILE = "dataset.json"
# Folders of thumbnails and deleted files that operating systems and network storage create; also skipped: hidden ones.
SKIPPED = {"__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin"}
SYSTEM_FILES = {"thumbs.db", "desktop.ini"}


def require_exists(path):
    """Raise UserError unless there is something at `path`."""
    if not pathlib.Path(path).exists():
        raise UserError(f"{path} does not exist: give a folder or a zip of images")


def open_files(path, rules=READING_RULES):
    """The images of a folder or a zip, as `FolderFiles` or `ZipFiles`. Raises UserError if `path` is neither."""
    path = pathlib.Path(path)
    require_exists(path)
    if path.is_dir():
        return FolderFiles(path, rules)
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise UserError(f"{path} is neither a folder nor a readable zip: give a folder or a zip of images")
    return ZipFiles(path, rules)


class _Files:
    """The common part of folders and zips.

    `names` are the sorted POSIX paths of the images; `ignored` counts the other files by their ending, or under
    "hidden" and "" (no ending); `refused` maps a name to the reason.
    """

    rules = READING_RULES

    def _sort_out(self, names):
        self.names, self.ignored = [], collections.Counter()
        for name in names:
            *folders, last = name.split("/")
            ending = image_formats.ending(last)
            if name == LABELS_FILE or last.lower() in SYSTEM_FILES or last.startswith("._"):
                continue
            if any(map(self._is_skipped, folders)):
                continue
            if last.startswith("."):
                self.ignored["hidden"] += image_formats.is_image_ending(ending)
            elif self._is_image(name, ending):
                self.names.append(name)
            else:
                self.ignored[ending] += 1
        self.names.sort()

    def _is_skipped(self, folder):
        """Whether to skip a folder of this name: it is hidden, or holds thumbnails or deleted files."""
        return folder.startswith(".") or folder.lower() in (FIRST_SKIPPED if self.rules == 1 else SKIPPED)

    def _is_image(self, name, ending):
        if self.rules == 1:
            return ending in FIRST_ENDINGS
        return image_formats.is_image_ending(ending) or (not ending and self._has_image_signature(name))

    def _has_image_signature(self, name):
        try:
            with self.open(name) as file:
                return image_formats.has_image_signature(file.read(image_formats.SIGNATURE_BYTES))
        except Exception:  # a pipe, a dangling link, a damaged entry: no image
            return False

    def no_images_message(self):
        """The error message if there are no images."""
        remarks = "".join(f" ({line})" for line in self.remarks())
        return f"{self.path} holds no images{remarks}: give a folder or a zip of PNG, JPEG, WebP, AVIF or other images"

    def remarks(self):
        """Lines for the log about files that were not read."""
        ignored = sorted((-count, ending or "without an ending") for ending, count in self.ignored.items() if count)
        counts = [f"{-count:,} {ending}" for count, ending in ignored[:MOST_ENDINGS]]
        if rest := -sum(count for count, _ in ignored[MOST_ENDINGS:]):
            counts.append(f"{rest:,} others")
        heif = any(ending in image_formats.HEIF for ending in self.ignored)
        advice = f" (to read HEIC: pip install {image_formats.HEIF_PACKAGE})" if heif else ""
        return [f"ignored: {', '.join(counts)}{advice}"] if counts else []


class FolderFiles(_Files):
    """Images below a folder and the folders that it links to. Names are relative to it."""

    knows_crcs = False  # a CRC needs the whole file

    def __init__(self, path, rules=READING_RULES):
        self.path, self.rules = path, rules
        self.stem = path.resolve().name
        self.refused = {}
        self._sort_out(self._walk())

    def _walk(self):
        """Names of all files except those in skipped folders. A folder inside itself (by a link) is entered once."""
        linked = 0
        folders = [(self.path, "", False, ())]
        while folders:
            folder, inside, by_link, above = folders.pop()
            try:
                status = folder.stat()
                place = status.st_dev, status.st_ino
                entries = [] if place in above else [(entry, _is_folder(entry)) for entry in os.scandir(folder)]
            except OSError as error:
                raise UserError(f"cannot list {folder} ({error.strerror}): make it readable") from None
            linked += by_link
            if linked > MAX_LINKED_FOLDERS:
                raise UserError(f"{self.path} has more than {MAX_LINKED_FOLDERS:,} linked folders: remove links")
            for entry, is_folder in entries:
                if not is_folder:
                    yield inside + entry.name
                elif not self._is_skipped(entry.name) and not (self.rules == 1 and entry.is_symlink()):
                    below = by_link or entry.is_symlink()
                    folders.append((folder / entry.name, f"{inside}{entry.name}/", below, (*above, place)))

    def __contains__(self, name):
        return (self.path / name).is_file()

    def size(self, name):
        """Bytes of a file. Raises UserError if it is not a regular file: reading a pipe might never end."""
        try:
            status = (self.path / name).stat()
        except OSError as error:
            raise UserError(f"{self.path / name} cannot be read ({error.strerror})", "repair or remove it") from None
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{self.path / name} is not a regular file", "remove it")
        return status.st_size

    def open(self, name):
        """A binary file object of one file."""
        self.size(name)
        try:
            return open(self.path / name, "rb")
        except OSError as error:
            raise UserError(f"{self.path / name} cannot be read ({error.strerror})", "repair or remove it") from None

    def crc(self, name):
        """The CRC-32 of a file's bytes."""
        self.size(name)
        path = self.path / name
        status = path.stat()
        return file_crc(path, status.st_size, status.st_mtime_ns)

    def fingerprint(self, name):
        """A bytes value that changes when the file changes: its CRC-32 or, under rules 1, its content."""
        return read(self, name) if self.rules == 1 else self.crc(name).to_bytes(4, "little")


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a dangling link
        return False


class ZipFiles(_Files):
    """Images in a zip. Safe to pickle and to use in forked workers."""

    knows_crcs = True

    def __init__(self, path, rules=READING_RULES):
        self.path, self.rules = path, rules
        self.stem = path.stem
        self.refused = {}
        self._zip = self._pid = None
        self._infos = {}
        for info in self._archive().infolist():
            self._admit(info)
        self._sort_out(self._infos)

    def _admit(self, info):
        name = info.filename if self.rules == 1 else _entry_name(info)
        name = name.replace("\\", "/")  # labels use forward slashes
        if name.endswith("/"):
            return
        path = pathlib.PurePosixPath(name)
        if not name:
            self.refused[name] = "it has no name"
        elif ".." in path.parts or path.is_absolute() or name[1:2] == ":":
            self.refused[name] = "its path leads outside the zip"
        elif stat.S_ISLNK(info.external_attr >> 16):
            self.refused[name] = "it is a link"
        elif info.flag_bits & 1:
            self.refused[name] = "it is encrypted"
        elif name in self._infos or name in self.refused:
            self.refused[name] = "the zip has it more than once"
        else:
            self._infos[name] = info
            return
        # If two entries share a name, there is no way to tell which is right: refuse both.
        self._infos.pop(name, None)

    def _archive(self):
        # A forked process shares its parent's file position, so every process opens the zip again.
        if self._pid != os.getpid():
            try:
                self._zip, self._pid = zipfile.ZipFile(self.path), os.getpid()
            except Exception as error:  # zipfile raises many kinds on damaged directories
                raise UserError(f"{self.path} cannot be read as a zip ({printable(error)}): make it again") from None
        return self._zip

    def __getstate__(self):
        return self.__dict__ | {"_zip": None, "_pid": None}

    def __contains__(self, name):
        return name in self._infos

    def size(self, name):
        """Size of an entry in bytes, uncompressed; zipfile never reads more than this from it."""
        return self._infos[name].file_size

    def open(self, name):
        """A binary file object of one entry."""
        try:
            return self._archive().open(self._infos[name])
        except UserError:
            raise
        except Exception as error:  # wrong local headers, unknown compression
            raise UserError(f"{self.path}: {name} cannot be read ({printable(error)})", "make the zip again") from None

    def crc(self, name):
        """The CRC-32 of an entry's bytes, as stored in the zip; zipfile checks it when it reads the entry."""
        return self._infos[name].CRC

    def fingerprint(self, name):
        """A bytes value that changes when the entry changes."""
        return self.crc(name).to_bytes(4, "little")


def _entry_name(info):
    """The name of a zip's entry. Some programs write UTF-8 without its flag; Python then decodes code page 437."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def read(files, name):
    """All bytes of one file of `files`. Raises UserError if it is too large or cannot be read."""
    if files.size(name) > MAX_FILE_BYTES:
        raise UserError(f"{files.path}: {name} has more than {MAX_FILE_BYTES >> 20} MiB", "remove it")
    with files.open(name) as file:
        try:
            return file.read()
        except Exception as error:  # zlib, zipfile and the disk raise many kinds
            raise UserError(
                f"{files.path}: {name} cannot be read ({printable(error)})", "repair or remove it"
            ) from None
