"""Select the training images of a source: a subset, a held-out share, horizontal flips."""

import numpy as np

from dnnlib.util import UserError


class Selection:
    """Maps positions of a data set, 0 to `len`, to images of a source.

    total:   how many images the source has.
    mirror:  add every image a second time, flipped; these are the second half of the positions.
    subset: use only this many images, 1 to `total`, chosen by `seed`, in order; None uses all.
    holdout: hold out this share of them, chosen by `seed`.

    indices and held_out are the selected and the held-out images, int64, in order. Raises UserError if one of them
    would be empty although `holdout` is not 0.
    """

    def __init__(self, total, mirror=False, subset=None, seed=0, holdout=0):
        self.total, self.mirror, self.subset, self.seed, self.holdout = total, bool(mirror), subset, seed, holdout
        chosen = np.arange(total) if subset is None else np.sort(shuffled(total, seed)[:subset])
        out = round(len(chosen) * holdout)
        if holdout and not 0 < out < len(chosen):
            raise UserError(
                f"--holdout {holdout:g} of {len(chosen)} images leaves none on one side: give another share"
            )
        left_out = np.zeros(len(chosen), bool)
        left_out[shuffled(len(chosen), seed)[:out]] = True
        self.indices, self.held_out = chosen[~left_out], chosen[left_out]

    def can_hold_out(self, share):
        """Whether `share` of the images is at least one image and not all. None may be held out yet."""
        return 0 < round(len(self.indices) * share) < len(self.indices)

    def without(self, share):
        """The same selection with this share of the images held out."""
        return Selection(self.total, self.mirror, self.subset, self.seed, share)

    def __len__(self):
        return len(self.indices) * (2 if self.mirror else 1)

    def locate(self, i):
        """(index of the source's image at position `i`, whether it is flipped)."""
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        flipped, k = divmod(int(i), len(self.indices))
        return int(self.indices[k]), bool(flipped)


def shuffled(count, seed):
    """0 to `count` in the order in which `RandomState(seed)` shuffles them, int64 `[count]`."""
    order = np.arange(count)
    np.random.RandomState(seed).shuffle(order)
    return order
