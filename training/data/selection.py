"""Which images of a source are trained on: a subset, without those that are held out, and all of them flipped too."""

import numpy as np

from dnnlib.util import UserError


class Selection:
    """Places in a data set, 0 to `len`, and the image of a source that each stands for.

    total:   how many images the source has.
    mirror:  every image a second time, flipped: the second half of the places.
    subset:  take only this many images, from 1 to `total`, chosen by `seed`, in order; None takes all.
    holdout: leave this share of those out, chosen by `seed`.

    indices and held_out hold the images that are chosen and those that are left out, int64, in order. UserError where
    one of the two would be empty though `holdout` is not 0.
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
        """Whether `share` of the images, of which none is held out yet, is at least one of them, and not all."""
        return 0 < round(len(self.indices) * share) < len(self.indices)

    def without(self, share):
        """The same selection with this share of the images held out."""
        return Selection(self.total, self.mirror, self.subset, self.seed, share)

    def __len__(self):
        return len(self.indices) * (2 if self.mirror else 1)

    def locate(self, i):
        """(the source's image at place `i`, whether it is flipped there)."""
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        flipped, k = divmod(int(i), len(self.indices))
        return int(self.indices[k]), bool(flipped)


def shuffled(count, seed):
    """0 to `count` in the order that `RandomState(seed)` shuffles them to, int64 `[count]`."""
    order = np.arange(count)
    np.random.RandomState(seed).shuffle(order)
    return order
