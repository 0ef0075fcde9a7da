"""The preview of a run: the newest samples of a few fixed latents, and at the end their timelapse.

Until then the frames lie in the run's directory, named after the images seen, so that a resumed run continues them
without duplicates.
"""

import contextlib
import pathlib
import re
import time

import numpy as np
import PIL.Image

from dnnlib.util import atomic_write, require_own_file
from dnnlib.video_files import write_video
from training import grids

LATEST = "fakes_latest.png"
FRAMES_DIR = "timelapse"
COLUMNS, IMAGES = 4, 16
SHARE = 0.01  # largest share of the time for samples between two snapshots
LATEST_SIDE, FRAME_SIDE = 1024, 512  # pixels of the longer side, at most
LOSSLESS_SIDE = 256  # lossy WebP blurs the colours of small pictures
FRAMES = 240  # of a run; their spacing follows from the run's current length
FEWEST = 8  # with fewer frames there is no video
SECONDS, LAST_SECONDS = 12, 1.5  # of a video with enough frames, and of its last frame
VIDEOS = {"timelapse.gif": (384, 80), "timelapse.mp4": (512, FRAMES)}  # (pixels of the longer side, frames) at most


class Preview:
    """The newest samples of a run, and its timelapse.

    grid: the `SampleGrid`; the preview shows a few of its latents. kimg: length of the run.
    """

    def __init__(self, run_dir, grid, kimg):
        self.run_dir, self.grid, self.spacing = pathlib.Path(run_dir), grid, kimg * 1000 / FRAMES
        self.drawn_at, self.cost = -np.inf, 0.0

    def resume(self, cur_nimg):
        """Delete the frames after `cur_nimg`: the run will draw them again."""
        for nimg, path in frames_in(self.run_dir / FRAMES_DIR):
            if nimg > cur_nimg:
                path.unlink()

    def tick(self, cur_nimg):
        """Draw new samples if that takes at most `SHARE` of the time since the last ones."""
        start = time.monotonic()
        if start - self.drawn_at < self.cost / SHARE:
            return
        self.show(self.grid.samples(chosen(len(self.grid.z))), cur_nimg)
        self.drawn_at = time.monotonic()
        self.cost = self.drawn_at - start

    def snapshot(self, samples, cur_nimg):
        """Show a few of the samples [N, C, H, W] that a snapshot has drawn for its grid."""
        self.show(samples[chosen(len(samples))], cur_nimg)

    def show(self, samples, cur_nimg):
        """Write samples [N, C, H, W] as the newest, and keep a frame if the last one is far enough behind."""
        picture = grids.to_pil(grids.tile(samples, COLUMNS))
        picture.thumbnail((LATEST_SIDE, LATEST_SIDE), PIL.Image.Resampling.LANCZOS)
        with atomic_write(self.run_dir / LATEST) as file:
            picture.save(file, format="png")
        frames = frames_in(self.run_dir / FRAMES_DIR)
        if not frames or cur_nimg // self.spacing > frames[-1][0] // self.spacing:
            self._keep(picture, cur_nimg)

    def _keep(self, picture, cur_nimg):
        directory = self.run_dir / FRAMES_DIR
        require_own(directory)
        directory.mkdir(exist_ok=True)
        picture.thumbnail((FRAME_SIDE, FRAME_SIDE), PIL.Image.Resampling.LANCZOS)
        with atomic_write(directory / f"{cur_nimg:010d}.webp") as file:
            picture.save(file, format="webp", lossless=max(picture.size) <= LOSSLESS_SIDE, quality=90)

    def write_timelapse(self):
        """Write the files of `VIDEOS` that are missing or older than the last frame, if there are enough frames."""
        paths = [path for _, path in frames_in(self.run_dir / FRAMES_DIR)]
        if len(paths) < FEWEST:
            return
        for name, (side, most) in VIDEOS.items():
            require_own_file(self.run_dir / name)
            if is_newer(self.run_dir / name, paths[-1]):  # the run was resumed, but had finished
                continue
            shown = paths[:: -max(1, -(-len(paths) // most))][::-1]  # includes the last one
            fps = max(len(shown) / SECONDS, 5)
            shown += shown[-1:] * round(LAST_SECONDS * fps)
            write_video(self.run_dir / name, read_frames(shown, side), len(shown), round(fps, 3), bar=False)


def is_newer(path, other):
    return path.exists() and path.stat().st_mtime >= other.stat().st_mtime


def chosen(count):
    """A slice of at most `IMAGES` of `count` samples, spread over the whole grid."""
    step = max(1, count // IMAGES)
    return slice(0, step * IMAGES, step)


def frames_in(directory):
    """[(images seen, path)] of the frames in a directory, the oldest first."""
    named = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        require_own(directory)
        named = [(re.fullmatch(r"(\d{10})\.webp", path.name), path) for path in directory.iterdir()]
    return sorted((int(match[1]), path) for match, path in named if match)


def require_own(directory):
    """Raise OSError if `directory` is a link, which could lead anywhere."""
    if directory.is_symlink():
        require_own_file(directory)


def read_frames(paths, side):
    """The frames as uint8 [3, H, W] of one size: reduced, or enlarged by an integer, to at most `side` pixels."""
    with open_frame(paths[-1]) as last:
        last.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
        size = last.size
    for path in paths:
        with open_frame(path) as image:
            image = image.convert("RGB").resize(size, PIL.Image.Resampling.LANCZOS)
        yield grids.enlarge(np.asarray(image).transpose(2, 0, 1), max(1, side // max(size)))


def open_frame(path):
    """The Pillow image of a frame. Readers of other formats may start programs."""
    return PIL.Image.open(path, formats=["WEBP"])
