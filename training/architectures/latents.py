"""The mapping of generators without a mapping network: w is z."""

import torch
from torch import nn

from training.networks import normalize_2nd_moment


class Latents(nn.Module):
    """z [N, z_dim] and labels c [N, c_dim] to ws [N, 1, z_dim + c_dim]: z followed by the label.

    normalize: scale z to a mean square of 1, so that all w lie on a sphere. Truncation scales z but not the label;
    `w_avg` is 0.
    """

    def __init__(self, z_dim, c_dim=0, normalize=False):
        super().__init__()
        self.label_dims, self.normalize = c_dim, normalize
        self.register_buffer("w_avg", torch.zeros([z_dim + c_dim]))

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None):
        w = normalize_2nd_moment(z) if self.normalize else z
        w = w if truncation_psi == 1 else w * truncation_psi
        return (torch.cat([w, c.to(w.dtype)], dim=1) if self.label_dims else w)[:, None]
