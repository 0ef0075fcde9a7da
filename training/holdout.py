"""Monitor overfitting: D's scores of held-out images, compared with training images and samples.

While D generalises, held-out images look as real to it as training images. Once it has memorised the training images,
held-out ones look generated (arXiv:2006.06676, Fig. 1).
"""

import numpy as np
import torch

from torch_utils.misc import buffers_restored

COUNT = 64  # number of images of each kind to score, at most
GROUP = 4  # the usual group size of D's minibatch standard deviation
OPEN = 0.5  # above this gap, held-out images score nearer to samples than to training images


class HoldoutScores:
    """Scores held-out images, training images and samples of G_ema, without augmentation. Does not affect the run.

    dataset: one with `held_out` images (dataset.py). networks: `Networks` (step.py). batch_gpu: images in one pass, as
    in training, where so many fit into the memory.
    """

    def __init__(self, dataset, networks, device, seed, batch_gpu):
        self.networks, self.batch_gpu, self.warned = networks, batch_gpu, False
        left_out = dataset.held_out()
        # Equal counts in whole groups: the minibatch statistics would differ between unequal counts.
        count = min(COUNT, len(left_out), len(dataset))
        count -= count % GROUP if count > GROUP else 0
        chosen = np.random.RandomState(seed).permutation(len(dataset))[:count]
        judged = np.random.RandomState(seed).permutation(len(left_out))[:count]
        self._held_out = _batch([left_out[int(i)] for i in judged], device)
        self._train = _batch([dataset[int(i)] for i in chosen], device)
        z = np.random.RandomState(seed).randn(len(chosen), networks.G.z_dim).astype(np.float32)
        self._z = torch.from_numpy(z).to(device)

    @torch.no_grad()
    def __call__(self):
        """{"holdout", "train", "sample": mean logit of D; "gap": 0 if D generalises, 1 if it has memorised}."""
        _, D, G_ema, _ = self.networks
        logits = {"holdout": [], "train": [], "sample": []}
        parts = (tensor.split(self.batch_gpu) for tensor in (*self._held_out, *self._train, self._z))
        with buffers_restored(D):  # D is in train mode
            for held_out, held_out_c, train, c, z in zip(*parts):
                logits["holdout"].append(D(_scaled(held_out), held_out_c))
                logits["train"].append(D(_scaled(train), c))
                logits["sample"].append(D(G_ema(z, c, noise_mode="const"), c))
        scores = {name: float(torch.cat(parts).mean()) for name, parts in logits.items()}
        spread = scores["train"] - scores["sample"]
        gap = (scores["train"] - scores["holdout"]) / spread if spread > 0 else 0.0
        return {**scores, "gap": gap}

    def state_dict(self):
        return {"warned": self.warned}

    def load_state_dict(self, state):
        self.warned = state["warned"]

    def warning(self, gap, kimg):
        """A line the first time that the gap exceeds `OPEN`; otherwise None."""
        if self.warned or gap < OPEN:
            return None
        self.warned = True
        return (
            f"at {kimg:g} kimg D scores held-out images nearer to samples than to training images (gap {gap:.2f}): it "
            "memorises the training images. Use an earlier snapshot (best.json names the best, if metrics "
            "are measured), or train with more augmentation (--aug ada or diffaugment) or more images"
        )


def _batch(pairs, device):
    """Images uint8 [N, C, H, W] and labels [N, c_dim] on the device."""
    return [torch.from_numpy(np.stack(part)).to(device) for part in zip(*pairs)]


def _scaled(images):
    """uint8 images as float32 in [-1, 1]."""
    return images.to(torch.float32) / 127.5 - 1
