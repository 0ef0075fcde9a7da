"""`StyleGAN2Loss`: the loss for the training loops of StyleGAN2-ADA, StyleGAN3 and their forks, under the name and the
arguments that those loops use. The loss itself is core.py.
"""

from typing import Any

import torch

from stylegan2_adamix.core import PHASES
from stylegan2_adamix.gradients import world_size
from stylegan2_adamix.host import Host, host_statistics
from stylegan2_adamix.terms import build


class StyleGAN2Loss:
    """Call `accumulate_gradients` once or several times per phase, and step the optimiser afterwards.

    device:              where the networks are.
    G_mapping:           G's mapping network (StyleGAN2-ADA); StyleGAN3 passes its G in this position,
    G_synthesis:         G's synthesis network; StyleGAN3 passes its D in this position.
    D:                   the discriminator.
    augment_pipe:        callable on images [N, C, H, W], or None.
    style_mixing_prob:   probability of style mixing. None: the host's default, 0.9, or 0 for StyleGAN3.
    r1_gamma:            weight of R1, times 2. None: 10, or 0 for a Wasserstein objective.
    pl_batch_shrink:     path length uses 1/n of the batch.
    pl_decay:            update rate of the average path length.
    pl_weight:           weight of path length. None: the host's default, 2, or 0 for StyleGAN3; 0 for wgan, wgan-gp.
    G:                   StyleGAN3's generator, instead of G_mapping and G_synthesis.
    aw:                  aw, off by default. True: defaults. A dict: its arguments (settings.AWOptions; `normalize` is
                         False here unless given). Or the term itself.
    apa:                 whether reals are replaced by generated images with probability `augment_pipe.p`.
    with_dataaug:        whether `augment_pipe` also augments images if `apa` is on.
    blur_init_sigma:     StyleGAN3's initial blur of D's inputs, in pixels,
    blur_fade_kimg:      and its end, in kimg.
    batch_size:          ignored; accepted because callers pass it.
    pl_no_weight_grad:   ignored, likewise.

    Further keyword arguments in `options`:

    the terms of settings.TERMS: None or False: off. True: defaults. A number: its weight. A dict: its arguments. Or
                         the term itself. AdaptiveMix is on unless switched off, the others are off unless given.
    objective_name:      a name of objectives.py.
    label_smoothing:     the real target is 1 minus this, in [0, 1).
    instance_noise:      standard deviation of the noise on D's inputs,
    instance_noise_kimg: and its end, in kimg.

    `core` is the loss itself. Raises TypeError if D cannot be split into features and head, or for an unknown
    option; ValueError for invalid settings.
    """

    def __init__(
        self,
        device: torch.device | str,
        G_mapping: torch.nn.Module | None = None,
        G_synthesis: torch.nn.Module | None = None,
        D: torch.nn.Module | None = None,
        augment_pipe: torch.nn.Module | None = None,
        style_mixing_prob: float | None = None,
        r1_gamma: float | None = None,
        pl_batch_shrink: int = 2,
        pl_decay: float = 0.01,
        pl_weight: float | None = None,
        G: torch.nn.Module | None = None,
        aw: Any = None,
        apa: bool = False,
        with_dataaug: bool = False,
        blur_init_sigma: float = 0.0,
        blur_fade_kimg: float = 0.0,
        batch_size: int | None = None,
        pl_no_weight_grad: bool = False,
        **options: Any,
    ) -> None:
        host = Host(G_mapping, G_synthesis, D, G, style_mixing_prob)
        path_length = {"pl_batch_shrink": pl_batch_shrink, "pl_decay": pl_decay, "pl_weight": pl_weight}
        pseudo = {"apa": apa, "with_dataaug": with_dataaug}
        blur = {"blur_init_sigma": blur_init_sigma, "blur_fade_kimg": blur_fade_kimg}
        known = {"r1_gamma": r1_gamma, **path_length, "aw": aw, **pseudo, **blur}
        self.core = build(host, augment_pipe, device, host_statistics, **known, **options)

    def accumulate_gradients(
        self,
        phase: str,
        real_img: torch.Tensor,
        real_c: torch.Tensor,
        gen_z: torch.Tensor,
        gen_c: torch.Tensor,
        sync: bool = True,
        gain: float = 1,
        cur_nimg: int | None = None,
    ) -> None:
        """Add the gradient of one microbatch, times `gain`.

        A phase starts at the first call at which every parameter's `.grad` is None. real_img [N, C, H, W] in [-1, 1],
        real_c and gen_c [N, c_dim], gen_z [N, z_dim]. `sync` is False in every call of a phase except the last, if the
        host passes it. cur_nimg: images shown so far; None: counted here. A microbatch whose loss is not finite adds
        nothing; FloatingPointError after many such updates in a row.
        """
        if phase not in PHASES:
            raise ValueError(f"phase is one of {', '.join(PHASES)}, not {phase!r}")
        core = self.core
        shown = core.cur_nimg if cur_nimg is None else cur_nimg
        if phase != core.phase or all(p.grad is None for p in core.host.parameters(phase)):
            core.begin(phase, shown)
        core.cur_nimg = shown
        if cur_nimg is None and phase in ("Dmain", "Dboth"):
            core.cur_nimg += len(real_img) * world_size()
        core.microbatch(real_img, real_c, gen_z, gen_c, gain, last=sync)
        if sync:
            core.end()

    def measure_strength(self) -> None:
        """Report `Loss/strength/<term>` once in D's next steps; does not affect training."""
        self.core.measure_strength()

    def state_dict(self) -> dict:
        """The state of the loss and its terms for a resumed training."""
        return self.core.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Continue from `state_dict()`."""
        self.core.load_state_dict(state)
