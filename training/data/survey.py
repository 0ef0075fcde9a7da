"""dataset_tool.py --report: image sizes, alpha, unreadable files, near duplicates, blur.

Two images are near duplicates if two tests agree: a perceptual hash (which of the lowest frequencies of a discrete
cosine transform lie above their median) and the correlation of small thumbnails. Sharpness is the variance of the
Laplacian divided by the image's own variance, so that contrast has no influence. It is compared with the median of the
set.
"""

import collections
import dataclasses

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.sparse.csgraph
from PIL import Image
from tqdm import tqdm

from dnnlib import image_size
from dnnlib.util import UserError
from training.data.convert import changes_of, indices_of, merged, nothing_left, open_source
from training.data.decode import on_white
from training.data.labels import Labels, numbered

HASH_BITS = 10  # near duplicates differ in at most this many of 63 bits
CORRELATION = 0.9  # and the correlation of their thumbnails is at least this
SHARPNESS_SIDE = 256  # shrink larger images to this shorter side before measuring
BLURRED = 0.1  # an image is blurred below this share of the median sharpness
BLOCK = 256  # rows of the table of all pairs in memory at once


@dataclasses.dataclass
class Survey:
    """Results. Sizes are (width, height); `left_out`: {name: reason}; `misfits`: {name: reason} of images whose size
    would be refused; `changes`: {change: names} (see `changes_of`); `duplicates`: groups of names; `blurred`:
    (sharpness, name), the worst first; `sharpness`: the median; `remarks`: lines about other files."""

    count: int
    labels: Labels | None
    remarks: list
    sizes: collections.Counter
    left_out: dict
    misfits: dict
    changes: dict
    duplicates: list
    blurred: list
    sharpness: float


def survey(path, shape, reading):
    """`Survey` of the images of `path`, in the form that `convert` would write. Writes nothing.

    Raises UserError for a source that cannot be opened, and for a `Reading` that does not fit it.
    """
    source = open_source(path, reading)
    looks = _Looks(source, shape)
    for i in tqdm(indices_of(source, reading.only_class), desc="looking", delay=1, leave=False, disable=None):
        if len(looks.names) == reading.max_images:
            break
        looks.add(i)
    if not looks.names:
        raise UserError(nothing_left(source, looks.left_out))
    return Survey(
        count=len(looks.names),
        labels=source.labels,
        remarks=source.remarks(),
        sizes=looks.sizes,
        left_out=looks.left_out,
        misfits=looks.misfits,
        changes=merged(looks.changes),
        **looks.compared(),
    )


class _Looks:
    """Collects the measurements of each image of a source, in the `Shape` in which it would be written."""

    def __init__(self, source, shape):
        self.source, self.shape, self.resolution = source, shape, None  # the first good image sets the resolution
        self.sizes, self.changes = collections.Counter(), collections.defaultdict(list)
        self.left_out, self.misfits = dict(source.left_out), {}
        self.names, self.hashes, self.thumbnails, self.sharpnesses = [], [], [], []

    def add(self, i):
        """Measure image `i`."""
        source, name = self.source, self.source.names[i]
        try:
            image = source.image(i, self.shape.enough or 4 * SHARPNESS_SIDE)
        except UserError as error:
            self.left_out[name] = error.problem
            return
        image = self.shape.apply_to(image)
        self.names.append(name)
        self.sizes[source.size(i)] += 1
        self._check_size(name, image, *source.size(i))
        for how in changes_of(source, i, self.shape):
            self.changes[how].append(name)
        visible = on_white(image)  # transparent pixels may have any colour
        self.hashes.append(perceptual_hash(visible))
        self.thumbnails.append(thumbnail(visible))
        self.sharpnesses.append(sharpness(visible))

    def _check_size(self, name, image, wide, high):
        shape = self.shape
        wide, high = image.size if shape.transform else (shape.width or wide, shape.height or high)
        try:
            image_size.check_size(name, wide, high, self.resolution)
            self.resolution = self.resolution or image_size.resolution(high, wide)
        except UserError as error:
            self.misfits[name] = error.problem

    def compared(self):
        """`duplicates`, `blurred` and `sharpness` of a `Survey`."""
        names, median = self.names, float(np.median(self.sharpnesses))
        blurred = [(value, name) for value, name in zip(self.sharpnesses, names) if value < BLURRED * median]
        groups = near_duplicates(np.array(self.hashes), np.array(self.thumbnails))
        duplicates = [[names[i] for i in group] for group in groups]
        return {"duplicates": duplicates, "blurred": sorted(blurred), "sharpness": median}


def perceptual_hash(image):
    """63 bits in a uint64: which of the lowest 8x8 DCT frequencies at 32x32, without the mean, exceed their median."""
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), np.float64)
    low = scipy.fft.dctn(grey, norm="ortho")[:8, :8].ravel()[1:]
    return np.sum((low > np.median(low)) * (np.uint64(1) << np.arange(63, dtype=np.uint64)), dtype=np.uint64)


def thumbnail(image):
    """16x16 RGB float32 `[768]`, mean 0, norm 1 (0 for an image of one colour): a dot product is a correlation."""
    pixels = np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BOX), np.float32).ravel()
    pixels -= pixels.mean()
    return pixels / max(np.linalg.norm(pixels), 1e-6)


def sharpness(image):
    """Variance of the Laplacian over the variance of the grey image; 0 for an image of one colour."""
    scale = SHARPNESS_SIDE / min(image.size)
    if scale < 1:
        image = image.resize([max(round(side * scale), 1) for side in image.size], Image.Resampling.LANCZOS)
    grey = np.asarray(image.convert("L"), np.float64)
    return float(scipy.ndimage.laplace(grey).var() / max(grey.var(), 1e-6))


def near_duplicates(hashes, thumbnails):
    """Groups (lists of indices) of near duplicates; images are in one group if a chain of near duplicates links them.

    hashes uint64 `[N]`, thumbnails float32 `[N, 768]`.
    """
    first, second = [np.zeros(0, int)], [np.zeros(0, int)]
    for start in range(0, len(hashes), BLOCK):
        close = np.bitwise_count(hashes[start : start + BLOCK, None] ^ hashes[start:]) <= HASH_BITS
        close &= thumbnails[start : start + BLOCK] @ thumbnails[start:].T >= CORRELATION
        rows, columns = np.nonzero(np.triu(close, 1))
        first.append(rows + start)
        second.append(columns + start)
    first, second = np.concatenate(first), np.concatenate(second)
    pairs = scipy.sparse.coo_array((np.ones(len(first)), (first, second)), shape=(len(hashes),) * 2)
    label = scipy.sparse.csgraph.connected_components(pairs, directed=False)[1]
    groups = collections.defaultdict(list)
    for i in np.unique(np.concatenate([first, second])):
        groups[label[i]].append(int(i))
    return list(groups.values())


def report(found):
    """The lines that the command prints."""
    yield f"{found.count:,} images: {_sizes(found.sizes)}"
    if found.misfits:
        first = next(iter(found.misfits.values()))
        yield f"would be refused for their size: {len(found.misfits):,}, the first because {first}"
    if found.left_out:
        yield f"cannot be used (skip them with --skip-bad): {len(found.left_out):,}"
        yield from (f"  {reason}" for reason in found.left_out.values())
    for how, names in found.changes.items():
        yield f"would be {how}: {len(names):,}"
        yield from (f"  {name}" for name in names)
    alike = sum(len(group) for group in found.duplicates)
    yield f"near duplicates, one group per line: {alike:,} images" if alike else "near duplicates: none"
    yield from ("  " + "  ".join(group) for group in found.duplicates)
    limit = f"sharpness below {BLURRED * found.sharpness:.2g}, a tenth of the set's median"
    yield f"blurred or blank, {limit}: {len(found.blurred):,}" if found.blurred else "blurred or blank: none"
    yield from (f"  {value:.2g}  {name}" for value, name in found.blurred)
    yield from label_lines(found.labels)
    yield from found.remarks
    yield _recommended(found)
    yield "nothing was written"


def label_lines(labels):
    """Lines for the report about the labels of a data set."""
    if labels is None:
        return ["no labels"]
    names = f": {numbered(labels.class_names)}" if labels.class_names else ""
    return [line for line in (f"labels: {labels.kind()}{names}", labels.empty_classes()) if line]


def _recommended(found):
    height, width = image_size.recommended(found.sizes)
    fitting = sum(count for (wide, high), count in found.sizes.items() if wide >= width and high >= height)
    crop = f"--transform center-crop --width {width} --height {height}"
    return f"recommended size: {crop} ({fitting:,} of {found.count:,} images are as large or larger)"


def _sizes(sizes):
    most = [f"{width}x{height} ({count:,})" for (width, height), count in sizes.most_common(5)]
    return ", ".join(most) + (f" and {len(sizes) - 5:,} other sizes" if len(sizes) > 5 else "")
