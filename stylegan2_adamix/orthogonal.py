"""A classifier whose class vectors are orthonormal and fixed: logits are cosines (AdaptiveMix, arXiv:2303.01559, §3.4).

Shapes: N samples, F features, K classes.
"""

import torch
import torch.nn.functional as F
from torch import nn


class OrthogonalClassifier(nn.Module):
    """The last layer of a classification network: the cosine of a feature vector with each class's vector (Eq. 7).

    num_features: F, at least K.
    num_classes:  K.
    absolute:     use |cosine|, as in public code for one-dimensional subspaces of classes.
    scale:        factor of the cosines. The paper uses 1: then the cross entropy of K classes cannot fall below
                  log(1 + (K - 1) / exp(sqrt(K / (K - 1)))), 1.42 with 10 classes, because the squared cosines with
                  orthonormal vectors sum to at most 1.
    generator:    random generator for the vectors; None: PyTorch's own.

    The rows of `weight` [K, F] are orthonormal (Eq. 9) and not trained; there is no bias. Raises ValueError if so
    many orthogonal vectors do not exist.
    """

    weight: torch.Tensor

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        absolute: bool = False,
        scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= num_classes <= num_features:
            raise ValueError(f"{num_classes} orthogonal vectors need as many features, and there are {num_features}")
        if not scale > 0:
            raise ValueError(f"the scale must be above 0, not {scale}")
        self.absolute, self.scale = absolute, scale
        self.register_buffer("weight", nn.init.orthogonal_(torch.empty(num_classes, num_features), generator=generator))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits [N, K] of features [N, F]; a softmax gives probabilities (Eq. 8)."""
        cosine = F.normalize(features, dim=1) @ self.weight.t()
        return (cosine.abs() if self.absolute else cosine) * self.scale
