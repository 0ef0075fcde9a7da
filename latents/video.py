"""Videos of paths through latents: what to show at each frame, and how frames become an MP4 or a GIF."""

import contextlib
import dataclasses
import pathlib
import shutil
import tempfile

import numpy as np
import torch
from tqdm import tqdm

from dnnlib.util import UserError, atomic_write
from latents import paths
from latents.arguments import make_directory
from latents.projected import load_projected_w
from latents.sampling import BATCH, class_label, seed_z, synthesize, truncate
from training import sheets

SUFFIXES = (".mp4", ".gif")


@dataclasses.dataclass(frozen=True)
class Tour:
    """How a video moves. `seconds` is the time from one key frame to the next; `sweep` (first, last) truncations."""

    space: str = "z"
    interp: str = "slerp"
    easing: str = "linear"
    seconds: float = 2
    fps: float = 30
    sweep: tuple | None = None
    grid: tuple = (1, 1)

    @property
    def frames(self):
        """Frames from one key frame to the next."""
        return max(1, round(self.seconds * self.fps))


@torch.no_grad()
def tour_ws(G, keys, label, tour, psi=1):
    """ws [frames, num_ws, w_dim] of one closed path. `keys` are z [K, z_dim] or ws [K, num_ws, w_dim]."""
    label = label.to(keys.device)
    if keys.ndim == 2 and tour.space == "w":
        keys = G.mapping(keys, label.expand(len(keys), -1))
    t = paths.times(len(keys), tour.frames, tour.easing)
    points = paths.interpolate(keys, t, tour.interp, G.mapping.w_avg if keys.ndim == 3 else None)
    ws = G.mapping(points, label.expand(len(points), -1)) if points.ndim == 2 else points
    if tour.sweep:
        psi = paths.sweep(*tour.sweep, len(ws), tour.easing).to(ws.device)
    return truncate(G, ws, psi)


def key_frames(G, seeds, projected_path, tour):
    """The key frames of each cell of the grid, a list of z or ws. UserError where they do not fill the grid.

    Seeds are dealt out cell by cell: of 12 seeds in a 2x2 grid the first cell gets the first three.
    """
    columns, rows = tour.grid
    device = G.mapping.w_avg.device
    if projected_path:
        keys = load_projected_w(projected_path, G).ws
    else:
        keys = torch.cat([seed_z(seed, G.z_dim) for seed in seeds]).to(device)
    each, left = divmod(len(keys), columns * rows)
    if left or not each:
        raise UserError(f"{len(keys)} key frame(s) for a grid of {columns}x{rows}: give a multiple of {columns * rows}")
    least = 3 if tour.interp == "circular" else 2
    if each < least and not (tour.sweep and each == 1):
        raise UserError(
            f"{each} key frame(s) on a path: --interp {tour.interp} needs {least} or more, --trunc-sweep 1 or more"
        )
    return list(keys.split(each))


def make_video(path, G, seeds, classes, tour, psi, noise_mode, projected_path=None):
    """Write the video; returns the number of frames. Key frames are the seeds, or the w of a projected_w.npz, whose
    noise maps are left out: they would jump from one image to the next."""
    check_video_path(path)
    label = torch.zeros(1, G.c_dim) if projected_path else class_label(G, classes)  # a projected w needs none
    cells = [tour_ws(G, keys, label, tour, psi) for keys in key_frames(G, seeds, projected_path, tour)]
    torch.manual_seed(seeds[0] if seeds else 0)
    frames = draw_frames(G, torch.stack(cells, dim=1), tour.grid[0], noise_mode)
    write_video(path, frames, len(cells[0]), tour.fps)
    return len(cells[0])


def draw_frames(G, ws, columns, noise_mode):
    """Frames [C, H, W] of ws [frames, cells, num_ws, w_dim], cells side by side in so many columns."""
    for part in ws.split(max(1, BATCH // ws.shape[1])):
        images = synthesize(G, part.flatten(0, 1), noise_mode)
        for cells in images.reshape(*part.shape[:2], *images.shape[1:]):
            yield sheets.tile(cells, columns)


# ---- Files


def check_video_path(path):
    """UserError unless `path` is the name of an MP4 or a GIF in a directory that can be made and written."""
    path = pathlib.Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: a video's name ends in {' or '.join(SUFFIXES)}")
    make_directory(path.parent)


def write_video(path, frames, total, fps):
    """Write `total` uint8 frames [C, H, W] as MP4 or endless GIF, whole or not at all, with a progress bar."""
    path = pathlib.Path(path)
    try:
        with tempfile.TemporaryDirectory() as directory:
            temporary = pathlib.Path(directory, f"video{path.suffix.lower()}")
            with _encoder(temporary, fps) as encode:
                for frame in tqdm(frames, total=total, unit="frame", leave=False):
                    encode(_rgb(frame))
            with temporary.open("rb") as source, atomic_write(path) as file:
                shutil.copyfileobj(source, file)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}): give another file") from None


@contextlib.contextmanager
def _encoder(path, fps):
    """A function that takes the frames [H, W, 3] one after another; imageio-ffmpeg's own ffmpeg encodes them."""
    import imageio_ffmpeg

    options = {"fps": fps, "macro_block_size": 2, "ffmpeg_log_level": "error"}
    if path.suffix == ".gif":  # one palette for all frames; a GIF of ffmpeg's repeats without end
        palette = "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=sierra2_4a"
        options |= {"codec": "gif", "pix_fmt_out": "pal8", "output_params": ["-filter_complex", palette]}
    else:
        options |= {"codec": "libx264", "quality": None, "output_params": ["-crf", "14"]}
    writer = None

    def encode(frame):
        nonlocal writer
        if writer is None:
            writer = imageio_ffmpeg.write_frames(str(path), frame.shape[1::-1], **options)
            writer.send(None)
        writer.send(frame)

    try:
        yield encode
    finally:
        if writer is not None:
            writer.close()


def _rgb(frame):
    """[C, H, W] as [H, W, 3]."""
    return np.ascontiguousarray(np.broadcast_to(frame, (3, *frame.shape[1:])).transpose(1, 2, 0))
