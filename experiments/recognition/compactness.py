"""The spread of the features of a class, and the Lipschitz ratio of F: AdaptiveMix's Fig. 4 and Table 3."""

import numpy as np
import torch
import torch.nn.functional as F

PAIRS = 1000


def figures(images, features, labels):
    """Of uint8 images [N, C, H, W], their features [N, F] and classes [N]:

    std/class       root mean squared distance of features from their class's mean, mean over the classes (Fig. 4)
    std/class K     that of class number K
    std/total       the same of all features from their mean
    std/ratio       their ratio: below 1, classes are clusters
    lipschitz       mean of |F(a) - F(b)| / |a - b| over 1,000 pairs, images in [0, 1] (Table 3)
    With ` unit`: of features of length 1, because a cosine head ignores their lengths.
    """
    found = {}
    for suffix, v in (("", features.double()), (" unit", F.normalize(features.double(), dim=1))):
        of_classes = {int(k): spread(v[labels == k]) for k in labels.unique()}
        of_class = torch.stack([*of_classes.values()]).mean()
        found |= {f"std/class {k}{suffix}": value for k, value in of_classes.items()} | {
            f"std/class{suffix}": of_class,
            f"std/total{suffix}": spread(v),
            f"std/ratio{suffix}": of_class / spread(v),
            f"lipschitz{suffix}": lipschitz(images, v),
        }
    return {name: float(value) for name, value in found.items()}


def spread(features):
    """Root mean squared distance of features [N, F] from their mean."""
    return (features - features.mean(dim=0)).square().sum(dim=1).mean().sqrt()


def lipschitz(images, features, pairs=PAIRS):
    """Mean ratio of distances over pairs drawn by `RandomState(0)`; equal images have no ratio and are skipped."""
    a, b = torch.from_numpy(np.random.RandomState(0).randint(len(images), size=[2, pairs]))
    distance = ((images[a].double() - images[b].double()) / 255).flatten(1).norm(dim=1)
    differ = distance > 0
    return ((features[a] - features[b]).norm(dim=1)[differ] / distance[differ]).mean()
