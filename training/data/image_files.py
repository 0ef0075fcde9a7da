"""Images in a folder or a zip: which files there are, which of them are images, and their bytes.

Files come from anywhere, so nothing here trusts them: no file may be larger than `MAX_FILE_BYTES`, zip entries are read
in place and never extracted, and whatever is wrong with a file becomes a one-line `UserError` that names it.
"""

import collections
import os
import pathlib
import stat
import zipfile

from dnnlib.util import UserError, printable
from training.data import image_formats
from training.data.fingerprint import file_crc

# Which files are read, and into which pixels: raise it when that changes, and keep what runs of earlier rules read.
# 2: more formats, images by content where a name has no ending, linked folders, colour profiles, UTF-8 names in zips.
READING_RULES = 2
FIRST_ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}  # of the rules 1
FIRST_SKIPPED = {"__macosx"}
MAX_FILE_BYTES = 1 << 28
MAX_LINKED_FOLDERS = 10_000
MOST_ENDINGS = 10  # that are named
LABELS_FILE = "dataset.json"
# Folders of thumbnails and of deleted files that systems and network storage make, beside hidden ones (`.thumbnails`).
SKIPPED = {"__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin"}
SYSTEM_FILES = {"thumbs.db", "desktop.ini"}


def open_files(path, rules=READING_RULES):
    """The images of a folder or a zip, as `FolderFiles` or `ZipFiles`. Raises UserError where `path` is neither."""
    path = pathlib.Path(path)
    if path.is_dir():
        return FolderFiles(path, rules)
    if not path.exists():
        raise UserError(f"{path} does not exist: give a folder or a zip of images")
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise UserError(f"{path} is neither a folder nor a readable zip: give a folder or a zip of images")
    return ZipFiles(path, rules)


class _Files:
    """What folders and zips have in common.

    `names` are the sorted POSIX paths of the images; `ignored` counts the other files by what they end in, or under
    "hidden" and "" (no ending); `refused` maps a name to what is wrong with it.
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
        """Whether a folder of this name holds no images of its own: a hidden one, thumbnails, deleted files."""
        return folder.startswith(".") or folder.lower() in (FIRST_SKIPPED if self.rules == 1 else SKIPPED)

    def _is_image(self, name, ending):
        if self.rules == 1:
            return ending in FIRST_ENDINGS
        return image_formats.is_image_ending(ending) or (not ending and self._has_image_signature(name))

    def _has_image_signature(self, name):
        try:
            with self.open(name) as file:
                return image_formats.has_image_signature(file.read(image_formats.SIGNATURE_BYTES))
        except Exception:  # a pipe, a dangling link, a damaged entry: whatever it is, nobody called it an image
            return False

    def holds_nothing(self):
        """What to say where there are no images."""
        remarks = "".join(f" ({line})" for line in self.remarks())
        return f"{self.path} holds no images{remarks}: give a folder or a zip of PNG, JPEG, WebP, AVIF or other images"

    def remarks(self):
        """Lines to say of what was not read."""
        ignored = sorted((-count, ending or "without an ending") for ending, count in self.ignored.items() if count)
        counts = [f"{-count:,} {ending}" for count, ending in ignored[:MOST_ENDINGS]]
        if rest := -sum(count for count, _ in ignored[MOST_ENDINGS:]):
            counts.append(f"{rest:,} others")
        heif = any(ending in image_formats.HEIF for ending in self.ignored)
        advice = f" (to read HEIC: pip install {image_formats.HEIF_PACKAGE})" if heif else ""
        return [f"ignored: {', '.join(counts)}{advice}"] if counts else []


class FolderFiles(_Files):
    """Images below a folder and the folders that it links to. Names are relative to it."""

    knows_crcs = False  # they take reading

    def __init__(self, path, rules=READING_RULES):
        self.path, self.rules = path, rules
        self.stem = path.resolve().name
        self.refused = {}
        self._sort_out(self._walk())

    def _walk(self):
        """Names of all files but those in hidden folders. A folder that links lead back to is not entered again."""
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
                raise UserError(f"{self.path} has more than {MAX_LINKED_FOLDERS:,} folders behind links: remove links")
            for entry, is_folder in entries:
                if not is_folder:
                    yield inside + entry.name
                elif not self._is_skipped(entry.name) and not (self.rules == 1 and entry.is_symlink()):
                    below = by_link or entry.is_symlink()
                    folders.append((folder / entry.name, f"{inside}{entry.name}/", below, (*above, place)))

    def __contains__(self, name):
        return (self.path / name).is_file()

    def size(self, name):
        """Bytes of a file; a UserError where it is not a regular file (a pipe would be waited for without end)."""
        try:
            status = (self.path / name).stat()
        except OSError as error:
            raise UserError(f"{self.path / name} cannot be read ({error.strerror}): repair or remove it") from None
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{self.path / name} is not a regular file: remove it")
        return status.st_size

    def open(self, name):
        """A binary file object of one file."""
        self.size(name)
        try:
            return open(self.path / name, "rb")
        except OSError as error:
            raise UserError(f"{self.path / name} cannot be read ({error.strerror}): repair or remove it") from None

    def crc(self, name):
        """The CRC-32 of a file's bytes."""
        self.size(name)
        path = self.path / name
        status = path.stat()
        return file_crc(path, status.st_size, status.st_mtime_ns)

    def fingerprint(self, name):
        """Bytes that change when the file's bytes change. Under the first rules these are the bytes themselves."""
        return read(self, name) if self.rules == 1 else self.crc(name).to_bytes(4, "little")


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere
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
        name = name.replace("\\", "/")  # as labels name it
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
        elif name in self._infos:
            self.refused[name] = "it is there more than once"
        else:
            self._infos[name] = info
            return
        # Of two entries under one name neither can be known to be the right one.
        self._infos.pop(name, None)

    def _archive(self):
        # A forked process shares its parent's file position, so every process opens the zip again.
        if self._pid != os.getpid():
            try:
                self._zip, self._pid = zipfile.ZipFile(self.path), os.getpid()
            except Exception as error:  # zipfile raises nearly anything on damaged directories
                raise UserError(f"{self.path} cannot be read as a zip ({printable(error)}): make it again") from None
        return self._zip

    def __getstate__(self):
        return self.__dict__ | {"_zip": None, "_pid": None}

    def __contains__(self, name):
        return name in self._infos

    def size(self, name):
        """Bytes of an entry, unpacked; zipfile never reads more than this from it."""
        return self._infos[name].file_size

    def open(self, name):
        """A binary file object of one entry."""
        try:
            return self._archive().open(self._infos[name])
        except UserError:
            raise
        except Exception as error:  # wrong local headers, unknown compression
            raise UserError(f"{self.path}: {name} cannot be read ({printable(error)}): make the zip again") from None

    def crc(self, name):
        """The CRC-32 of an entry's bytes, as the zip has it; zipfile checks it on reading."""
        return self._infos[name].CRC

    def fingerprint(self, name):
        """Bytes that change when the entry's bytes change."""
        return self.crc(name).to_bytes(4, "little")


def _entry_name(info):
    """The name of a zip's entry. Programs write UTF-8 without its flag, and Python then reads code page 437."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def read(files, name):
    """All bytes of one file of `files`. Raises UserError where it is too large or cannot be read."""
    if files.size(name) > MAX_FILE_BYTES:
        raise UserError(f"{files.path}: {name} has more than {MAX_FILE_BYTES >> 20} MiB: remove it")
    with files.open(name) as file:
        try:
            return file.read()
        except Exception as error:  # of zlib, zipfile and the disk
            raise UserError(f"{files.path}: {name} cannot be read ({printable(error)}): repair or remove it") from None
