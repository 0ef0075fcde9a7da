"""Write frames as an MP4 or a looping GIF with the ffmpeg of the package imageio-ffmpeg.

ffmpeg works in a hidden folder beside the destination. The file gets its name only if ffmpeg's exit code is 0 and the
number of frames that it reads back is right.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading

import numpy as np
from tqdm import tqdm

from dnnlib.util import RunFailed, UserError, make_directory, printable

MAX_SIDE = {".mp4": 16_384, ".gif": 65_535}  # pixels: limits of libx264 and of the GIF format
GIF_FPS = 50  # browsers stretch frames shorter than 20 ms to 100 ms


def check_video(path, height, width):
    """Raise UserError unless a video of this size can be written to `path` (name, directory, size, ffmpeg)."""
    path = pathlib.Path(path)
    limit = MAX_SIDE.get(path.suffix.lower())
    if limit is None:
        raise UserError(f"{path}: a video's name must end in {' or '.join(MAX_SIDE)}")
    if max(height, width) > limit:
        advice = "give a smaller --grid-size or --scale" + (
            ", or a .gif" if limit < min(MAX_SIDE[".gif"], width) else ""
        )
        raise UserError(f"{path} would have {width}x{height} pixels; {path.suffix} allows {limit} a side: {advice}")
    find_ffmpeg()
    make_directory(path.parent)


def find_ffmpeg():
    """The path of ffmpeg. Raises UserError if none runs."""
    advice = "pip install -r requirements.txt, or set IMAGEIO_FFMPEG_EXE to an ffmpeg"
    try:
        import imageio_ffmpeg

        program = imageio_ffmpeg.get_ffmpeg_exe()
        program = shutil.which(program) or program  # IMAGEIO_FFMPEG_EXE may be a name, or relative to this directory
        program = os.path.abspath(program)
        subprocess.run([program, "-version"], check=True, capture_output=True, stdin=subprocess.DEVNULL)
    except (ImportError, RuntimeError):
        raise UserError(f"videos need ffmpeg, which is not installed: {advice}") from None
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "strerror", None) or printable(error)
        raise UserError(f"videos need ffmpeg, and {program} does not run ({reason}): {advice}") from None
    return program


def write_video(path, frames, total, fps, bar=True):
    """Write `total` uint8 frames [C, H, W] as MP4 or GIF, completely or not at all; `bar`: show a progress bar.

    Raises UserError if the destination cannot be written, RunFailed if ffmpeg fails.
    """
    path = pathlib.Path(path)
    target = pathlib.Path(os.path.realpath(path))
    program = find_ffmpeg()
    try:
        if target.exists() and not target.is_file():
            raise UserError(f"{path} is not a regular file: give another file")
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            made = pathlib.Path(folder, f"video{target.suffix.lower()}")
            encode = _encode_gif if made.suffix == ".gif" else _encode_mp4
            encode(program, made, tqdm(frames, total=total, unit="frame", leave=False, disable=not bar), fps)
            _check_frames(program, made, total)
            with made.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(made, target)
    except _FfmpegError as error:
        raise RunFailed(f"{path} was not written, {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}): give another file") from None


class _FfmpegError(Exception):
    """ffmpeg's message, and what to do."""

    def __init__(self, code, output):
        lines = [line for line in output.splitlines() if line.strip()]
        full = next((line for line in lines if "No space left" in line), None)
        what = f"ffmpeg was killed by signal {-code}" if code < 0 else f"ffmpeg failed with code {code}"
        advice = "make room, or choose another place" if full else "try again, another format, or a smaller --scale"
        super().__init__(f"{what} ({printable(full or (lines or ['no message'])[0])}): {advice}")


def _encode_mp4(program, made, frames, fps):
    even = "pad=ceil(iw/2)*2:ceil(ih/2)*2"  # chroma has half the resolution, so sides must be even
    _feed(program, made, frames, fps, ["-vf", even, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "14", made.name])


def _encode_gif(program, made, frames, fps):
    """Two passes: the first stores the frames losslessly on disk, so that memory does not grow with their number."""
    first = ["-filter_complex", "[0]split[a][b];[b]palettegen[p]", "-map", "[a]", "-c:v", "ffv1", "frames.mkv"]
    _feed(program, made, frames, fps, [*first, "-map", "[p]", "-frames:v", "1", "-update", "1", "palette.png"])
    both = ["-i", "frames.mkv", "-i", "palette.png"]
    _run(program, made, [*both, "-filter_complex", "[0][1]paletteuse=dither=sierra2_4a", made.name])


def _feed(program, made, frames, fps, output):
    """Run ffmpeg on frames that come through its standard input."""
    with contextlib.ExitStack() as stack:
        ffmpeg = None
        for frame in frames:
            if ffmpeg is None:
                size = "x".join(map(str, frame.shape[:0:-1]))
                source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(fps), "-i", "pipe:0"]
                ffmpeg = stack.enter_context(_Ffmpeg(program, made, [*source, *output]))
            if not ffmpeg.send(_rgb(frame)):
                break
        ffmpeg.finish()


class _Ffmpeg:
    """ffmpeg while it reads its standard input; leaving the block ends it.

    It runs in the folder of the output file and gets only the file's name, because it reads `%d` in a path as a number.
    It has a session of its own: a terminal sends Ctrl-C to the whole foreground group of its session.
    """

    def __init__(self, program, made, arguments):
        command = [program, "-v", "error", "-y", *arguments]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=made.parent, start_new_session=True, **streams)
        self.messages = []  # a thread reads the messages: otherwise many of them would block ffmpeg
        self.reader = threading.Thread(target=lambda: self.messages.append(self.process.stderr.read()), daemon=True)
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()  # has no effect if it has ended
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def send(self, data):
        """Send data to ffmpeg. Returns False if it has ended."""
        try:
            self.process.stdin.write(data)
        except BrokenPipeError:
            return False
        return True

    def finish(self):
        """Wait until the file is complete. Raises _FfmpegError if ffmpeg failed."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        code = self.process.wait()
        self.reader.join()
        if code:
            raise _FfmpegError(code, b"".join(self.messages).decode(errors="replace"))


def _run(program, made, arguments):
    """Run ffmpeg to its end in the folder of the output file; returns its standard output."""
    command = [program, "-v", "error", "-xerror", "-y", *arguments]
    streams = {"capture_output": True, "stdin": subprocess.DEVNULL, "text": True, "errors": "replace"}
    result = subprocess.run(command, cwd=made.parent, start_new_session=True, **streams)
    if result.returncode:
        raise _FfmpegError(result.returncode, result.stderr)
    return result.stdout


def _check_frames(program, made, total):
    """Read the file back. Raises _FfmpegError if it is damaged or frames are missing."""
    said = _run(program, made, ["-i", made.name, "-f", "null", "-progress", "pipe:1", "-"])
    found = [int(line.removeprefix("frame=")) for line in said.splitlines() if line.startswith("frame=")]
    if not found or found[-1] != total:
        raise _FfmpegError(0, f"{found[-1] if found else 0} of {total} frames are in the file")


def _rgb(frame):
    """[C, H, W] as the bytes of [H, W, 3]."""
    return np.ascontiguousarray(np.broadcast_to(frame, (3, *frame.shape[1:])).transpose(1, 2, 0)).data
