"""StyleGAN2's networks (Karras et al. 2020, arXiv:1912.04958), with the state-dict names of published weights.

Shapes: z [N, z_dim], c [N, c_dim], w [N, w_dim], ws [N, num_ws, w_dim], x feature maps [N, C, H, W], img [N, C, H, W]
in [-1, 1], logits [N, 1]. Weights are stored with unit variance and scaled by their layer's gain at every use
(equalised learning rate, arXiv:1710.10196 §4.1).
"""

from math import sqrt
from typing import NamedTuple

import torch
from torch import nn

from dnnlib import image_size
from torch_utils import precision
from torch_utils.ops.bias_act import activate_, activation_funcs, bias_act, split_gain
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.linear import linear
from torch_utils.ops.upfirdn2d import downsample2d, setup_filter, upsample2d

RESAMPLE_FILTER = (1, 3, 3, 1)


def normalize_2nd_moment(x, dim=1, eps=1e-8):
    """Scale to a mean square of one along `dim`."""
    return x * (x.square().mean(dim=dim, keepdim=True) + eps).rsqrt()


def modulated_conv2d(
    x,
    weight,
    styles,
    noise=None,
    up=1,
    down=1,
    padding=0,
    resample_filter=None,
    demodulate=True,
    flip_weight=True,
    fused_modconv=True,
    bias=None,
    gain=1,
    eps=1e-8,
):
    """Convolution with the input channels scaled by each sample's style (arXiv:1912.04958, Eq. 1-3).

    x_NIHW; weight_OIkk; styles_NI. The result times `gain`, plus `bias` [O], plus `noise`, which broadcasts.
    `fused_modconv` scales the weights, one grouped convolution for the batch; otherwise the activations are scaled
    before and after a plain one. Both give the same result.
    """
    n = x.shape[0]
    out_channels, in_channels, kernel_h, kernel_w = weight.shape
    if x.dtype == torch.float16 and demodulate:
        weight, styles = _normalised(weight, styles)
    if demodulate:  # Eq. 3: 1 / sqrt(sum over i, k of (s_i w_oik)^2 + eps), for all samples as one matrix product
        gain = (styles.square() @ weight.square().sum(dim=[2, 3]).t() + eps).rsqrt() * gain  # [N, O]
        gain = gain[:, :, None, None]
    resample = {"f": resample_filter, "up": up, "down": down, "padding": padding, "flip_weight": flip_weight}
    bias = x.new_zeros([]) if bias is None else bias.to(x.dtype)[:, None, None]
    if not fused_modconv:
        x = conv2d_resample(x * styles.to(x.dtype)[:, :, None, None], weight.to(x.dtype), **resample)
        x = torch.addcmul(bias, x, gain.to(x.dtype)) if demodulate else torch.add(bias, x, alpha=gain)
    else:
        weights = weight[None] * styles[:, None, :, None, None]
        weights = (weights * (gain[..., None] if demodulate else gain)).reshape(-1, in_channels, kernel_h, kernel_w)
        x = conv2d_resample(x.reshape(1, -1, *x.shape[2:]), weights.to(x.dtype), groups=n, **resample)
        x = x.reshape(n, out_channels, *x.shape[2:]) + bias
    return x if noise is None else x.add_(noise.to(x.dtype))


def _normalised(weight, styles):
    """Scale weights and styles down so that half precision does not overflow; demodulation cancels the scale.

    Therefore no gradient needs to flow through the scales.
    """
    with torch.no_grad():
        largest = torch.linalg.vector_norm(weight, torch.inf, dim=[1, 2, 3], keepdim=True) * sqrt(weight[0].numel())
        strongest = torch.linalg.vector_norm(styles, torch.inf, dim=1, keepdim=True)
    return weight / largest, styles / strongest


class FullyConnectedLayer(nn.Module):
    """Dense layer. `lr_multiplier` scales its learning rate without changing its initial output."""

    def __init__(self, in_features, out_features, bias=True, activation="linear", lr_multiplier=1, bias_init=0):
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.randn([out_features, in_features]) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], float(bias_init))) if bias else None
        self.weight_gain = lr_multiplier / sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x, gain=1):
        before, after = split_gain(self.activation, activation_funcs[self.activation].def_gain * gain)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        x = linear(x, self.weight.to(x.dtype), bias, self.weight_gain * before, self.bias_gain * before)
        return activate_(x, self.activation, gain=after)


class Conv2dLayer(nn.Module):
    """Convolution with bias, activation and resampling; with `trainable=False` (Freeze-D) its weights are buffers."""

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        bias=True,
        activation="linear",
        up=1,
        down=1,
        resample_filter=RESAMPLE_FILTER,
        conv_clamp=None,
        channels_last=False,
        trainable=True,
    ):
        super().__init__()
        self.activation = activation
        self.up, self.down = up, down
        self.conv_clamp = conv_clamp
        self.padding = kernel_size // 2
        self.weight_gain = 1 / sqrt(in_channels * kernel_size**2)
        self.act_gain = activation_funcs[activation].def_gain
        self.register_buffer("resample_filter", setup_filter(resample_filter))

        weight = torch.randn([out_channels, in_channels, kernel_size, kernel_size])
        weight = weight.to(memory_format=memory_format(channels_last))
        bias = torch.zeros([out_channels]) if bias else None
        if trainable:
            self.weight = nn.Parameter(weight)
            self.bias = None if bias is None else nn.Parameter(bias)
        else:
            self.register_buffer("weight", weight)
            self.register_buffer("bias", bias)

    def forward(self, x, gain=1):
        before, after = split_gain(self.activation, self.act_gain * gain)
        w = (self.weight * (self.weight_gain * before)).to(x.dtype)
        b = None if self.bias is None else (self.bias * before).to(x.dtype)
        # The weights of an upsampling convolution are stored flipped, as for a transposed convolution.
        x = conv2d_resample(
            x, w, self.resample_filter, self.up, self.down, self.padding, flip_weight=self.up == 1, bias=b
        )
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return activate_(x, self.activation, gain=after, clamp=clamp)


class MappingNetwork(nn.Module):
    """z and c to ws. With `num_ws=None` the result is not repeated; with `z_dim=0` only c is mapped.

    While training, `w_avg` follows the mean of w with a decay of `w_avg_beta`, unless `skip_w_avg_update` is given.
    """

    def __init__(
        self,
        z_dim,
        c_dim,
        w_dim,
        num_ws,
        num_layers=8,
        embed_features=None,
        layer_features=None,
        activation="lrelu",
        lr_multiplier=0.01,
        w_avg_beta=0.995,
    ):
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        self.num_layers = num_layers
        self.w_avg_beta = w_avg_beta
        embed_features = (w_dim if embed_features is None else embed_features) if c_dim > 0 else 0
        features = [z_dim + embed_features] + [layer_features or w_dim] * (num_layers - 1) + [w_dim]
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, embed_features)
        for i in range(num_layers):
            layer = FullyConnectedLayer(
                features[i], features[i + 1], activation=activation, lr_multiplier=lr_multiplier
            )
            setattr(self, f"fc{i}", layer)
        if num_ws is not None and w_avg_beta is not None:
            self.register_buffer("w_avg", torch.zeros([w_dim]))

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, skip_w_avg_update=False):
        inputs = []
        if self.z_dim > 0:
            inputs.append(normalize_2nd_moment(z.to(self.fc0.weight.dtype)))
        if self.c_dim > 0:
            inputs.append(normalize_2nd_moment(self.embed(c.to(self.embed.weight.dtype))))
        x = torch.cat(inputs, dim=1)
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)

        if self.training and self.w_avg_beta is not None and not skip_w_avg_update:
            self.w_avg.copy_(x.detach().mean(dim=0).lerp(self.w_avg, self.w_avg_beta))
        if self.num_ws is None:
            return x
        ws = x[:, None].expand(-1, self.num_ws, -1)
        if truncation_psi == 1:
            return ws
        truncated = self.w_avg.lerp(ws[:, :truncation_cutoff], truncation_psi)
        return truncated if truncation_cutoff is None else torch.cat([truncated, ws[:, truncation_cutoff:]], dim=1)


class SynthesisLayer(nn.Module):
    """One styled convolution: modulate, convolve (after upsampling), add noise, bias and activation.

    size: (height, width) of the output. fan_in_eps: scale the epsilon of demodulation by the fan-in, as in code that
    multiplies weights by 1/sqrt(fan-in) first.
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        w_dim,
        size,
        kernel_size=3,
        up=1,
        use_noise=True,
        activation="lrelu",
        resample_filter=RESAMPLE_FILTER,
        conv_clamp=None,
        channels_last=False,
        fan_in_eps=False,
    ):
        super().__init__()
        self.eps = 1e-8 * (in_channels * kernel_size**2 if fan_in_eps else 1)
        self.size, self.up, self.padding = size, up, kernel_size // 2
        self.use_noise, self.activation, self.conv_clamp = use_noise, activation, conv_clamp
        self.act_gain = activation_funcs[activation].def_gain
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        weight = torch.randn([out_channels, in_channels, kernel_size, kernel_size])
        self.weight = nn.Parameter(weight.to(memory_format=memory_format(channels_last)))
        if use_noise:
            self.register_buffer("noise_const", torch.randn(size))
            self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros([out_channels]))

    def forward(self, x, w, noise_mode="random", fused_modconv=True, gain=1, randn=torch.randn):
        """`randn(shape, device=, dtype=)` draws the random noise, [N, 1, height, width]."""
        if noise_mode not in ("random", "const", "none"):
            raise ValueError(f"noise_mode must be random, const or none, not {noise_mode!r}")
        noise = None
        if self.use_noise and noise_mode == "random":
            shape = [x.shape[0], 1, *self.size]
            noise = randn(shape, device=x.device, dtype=self.noise_const.dtype) * self.noise_strength
        if self.use_noise and noise_mode == "const":
            noise = self.noise_const * self.noise_strength
        before, after = split_gain(self.activation, self.act_gain * gain)
        x = modulated_conv2d(
            x,
            self.weight,
            self.affine(w),
            None if noise is None else noise * before,
            up=self.up,
            padding=self.padding,
            resample_filter=self.resample_filter,
            flip_weight=self.up == 1,
            fused_modconv=fused_modconv,
            bias=self.bias * before,
            gain=before,
            eps=self.eps,
        )
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return activate_(x, self.activation, gain=after, clamp=clamp)


class ToRGBLayer(nn.Module):
    """Feature maps to image channels: a styled convolution without demodulation and noise."""

    def __init__(self, in_channels, out_channels, w_dim, conv_clamp=None, channels_last=False):
        super().__init__()
        self.weight_gain = 1 / sqrt(in_channels)
        self.conv_clamp = conv_clamp
        weight = torch.randn([out_channels, in_channels, 1, 1])
        self.weight = nn.Parameter(weight.to(memory_format=memory_format(channels_last)))
        self.bias = nn.Parameter(torch.zeros([out_channels]))
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)

    def forward(self, x, w):
        styles = self.affine(w, gain=self.weight_gain)
        weights = (self.weight.flatten(1) * styles[:, None]).to(x.dtype)  # [N, O, I]: small, so no need to scale x
        x = (x.permute(0, 2, 3, 1).flatten(1, 2) @ weights.mT).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
        return bias_act(x, self.bias.to(x.dtype), clamp=self.conv_clamp)


class SynthesisBlock(nn.Module):
    """One resolution of the generator: `size`, (height, width). The first (`in_channels=0`) is a learned constant."""

    def __init__(
        self,
        in_channels,
        out_channels,
        w_dim,
        size,
        img_channels,
        is_last,
        architecture="skip",
        resample_filter=RESAMPLE_FILTER,
        conv_clamp=None,
        use_fp16=False,
        fp16_channels_last=False,
        **layer_kwargs,
    ):
        super().__init__()
        check_architecture(architecture)
        self.in_channels, self.size, self.architecture = in_channels, size, architecture
        self.use_fp16 = use_fp16
        self.channels_last = use_fp16 and fp16_channels_last
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        common = {"w_dim": w_dim, "conv_clamp": conv_clamp, "channels_last": self.channels_last}
        layer_kwargs = {**common, "size": size, "resample_filter": resample_filter, **layer_kwargs}
        if in_channels == 0:
            self.const = nn.Parameter(torch.randn([out_channels, *size]))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, up=2, **layer_kwargs)
        self.conv1 = SynthesisLayer(out_channels, out_channels, **layer_kwargs)
        self.num_conv = 1 if in_channels == 0 else 2
        self.num_torgb = int(is_last or architecture == "skip")
        if self.num_torgb:
            self.torgb = ToRGBLayer(out_channels, img_channels, **common)
        if in_channels != 0 and architecture == "resnet":
            self.skip = Conv2dLayer(
                in_channels, out_channels, 1, bias=False, up=2, resample_filter=resample_filter,
                channels_last=self.channels_last,
            )  # fmt: skip

    def forward(self, x, img, ws, force_fp32=False, fused_modconv=None, **layer_kwargs):
        layout = block_layout(self, ws.device, force_fp32)
        if fused_modconv is None:
            # One kernel for the batch is faster in training, and always on a CPU; scaled kernels save memory traffic.
            gpu = ws.device.type != "cpu"
            fused_modconv = gpu and not self.training and (layout["dtype"] == torch.float32 or ws.shape[0] == 1)
        layer_kwargs["fused_modconv"] = fused_modconv
        w_iter = iter(ws.unbind(dim=1))
        if self.in_channels == 0:
            x = self.const[None].expand(ws.shape[0], -1, -1, -1)
        x = x.to(**layout)

        if self.in_channels == 0:
            x = self.conv1(x, next(w_iter), **layer_kwargs)
        elif self.architecture == "resnet":
            y = self.skip(x, gain=sqrt(0.5))
            x = self.conv0(x, next(w_iter), **layer_kwargs)
            x = y + self.conv1(x, next(w_iter), gain=sqrt(0.5), **layer_kwargs)
        else:
            x = self.conv0(x, next(w_iter), **layer_kwargs)
            x = self.conv1(x, next(w_iter), **layer_kwargs)

        if img is not None:
            img = upsample2d(img, self.resample_filter)
        if self.num_torgb:
            y = self.torgb(x, next(w_iter))
            y = y.to(dtype=self.torgb.weight.dtype, memory_format=torch.contiguous_format)
            img = y if img is None else img + y
        return x, img


class SynthesisNetwork(nn.Module):
    """ws to images. Channels at resolution r: min(channel_base // r, channel_max), or a list `channels` from 4 up."""

    def __init__(
        self,
        w_dim,
        img_resolution,
        img_channels,
        channel_base=32768,
        channel_max=512,
        num_fp16_res=0,
        channels=None,
        **block_kwargs,
    ):
        super().__init__()
        base, self.block_resolutions = base_and_blocks(img_resolution)
        self.w_dim, self.img_resolution, self.img_channels = w_dim, img_resolution, img_channels
        if channels is None:
            channels = [min(channel_base // res, channel_max) for res in self.block_resolutions]
        if len(channels) != len(self.block_resolutions):
            raise ValueError(f"{len(channels)} channel counts for {len(self.block_resolutions)} resolutions")
        self.num_ws = 0
        in_channels = 0
        for res, out_channels in zip(self.block_resolutions, channels):
            is_last = res == self.block_resolutions[-1]
            block = SynthesisBlock(
                in_channels, out_channels, w_dim, size_at(base, res), img_channels, is_last,
                use_fp16=uses_half_precision(res, self.block_resolutions[-1], num_fp16_res), **block_kwargs,
            )  # fmt: skip
            self.num_ws += block.num_conv + (block.num_torgb if is_last else 0)
            setattr(self, f"b{res}", block)
            in_channels = out_channels

    def forward(self, ws, **block_kwargs):
        x = img = None
        first = 0
        for res in self.block_resolutions:
            block = getattr(self, f"b{res}")
            # The style of a block's image output is also that of the next block's first convolution.
            x, img = block(x, img, ws[:, first : first + block.num_conv + block.num_torgb], **block_kwargs)
            first += block.num_conv
        return img


class Generator(nn.Module):
    """z [N, z_dim] and c [N, c_dim] to images [N, img_channels, height, width], about -1 to 1.

    img_resolution: the side of square images, [height, width] of others; dnnlib/image_size.py lists the valid ones.
    class_names: in the order of their numbers, if the snapshot has them.
    """

    architecture, has_styles = "stylegan2", True
    class_names = ()

    def __init__(self, z_dim, c_dim, w_dim, img_resolution, img_channels, mapping_kwargs=None, synthesis_kwargs=None):
        super().__init__()
        img_resolution = normalized(img_resolution)
        self.init_kwargs = constructor_arguments(locals())
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.synthesis = SynthesisNetwork(w_dim, img_resolution, img_channels, **(synthesis_kwargs or {}))
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, **(mapping_kwargs or {}))

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, **synthesis_kwargs):
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        return self.synthesis(ws, **synthesis_kwargs)


class DiscriminatorBlock(nn.Module):
    """One resolution of the discriminator, which it halves. The first block (`in_channels=0`) reads the image."""

    def __init__(
        self,
        in_channels,
        tmp_channels,
        out_channels,
        resolution,
        img_channels,
        first_layer_idx,
        architecture="resnet",
        activation="lrelu",
        resample_filter=RESAMPLE_FILTER,
        conv_clamp=None,
        use_fp16=False,
        fp16_channels_last=False,
        freeze_layers=0,
    ):
        super().__init__()
        check_architecture(architecture)
        self.in_channels, self.resolution, self.img_channels = in_channels, resolution, img_channels
        self.architecture = architecture
        self.use_fp16 = use_fp16
        self.channels_last = use_fp16 and fp16_channels_last
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        self.num_layers = 0

        def layer(*args, **kwargs):
            trainable = first_layer_idx + self.num_layers >= freeze_layers
            self.num_layers += 1
            return Conv2dLayer(
                *args, resample_filter=resample_filter, trainable=trainable, channels_last=self.channels_last, **kwargs
            )

        if in_channels == 0 or architecture == "skip":
            self.fromrgb = layer(img_channels, tmp_channels, 1, activation=activation, conv_clamp=conv_clamp)
        self.conv0 = layer(tmp_channels, tmp_channels, 3, activation=activation, conv_clamp=conv_clamp)
        self.conv1 = layer(tmp_channels, out_channels, 3, activation=activation, down=2, conv_clamp=conv_clamp)
        if architecture == "resnet":
            self.skip = layer(tmp_channels, out_channels, 1, bias=False, down=2)

    def forward(self, x, img, force_fp32=False):
        layout = block_layout(self, (img if x is None else x).device, force_fp32)
        if x is not None:
            x = x.to(**layout)
        if self.in_channels == 0 or self.architecture == "skip":
            y = self.fromrgb(img.to(**layout))
            x = y if x is None else x + y
            img = downsample2d(img, self.resample_filter) if self.architecture == "skip" else None
        if self.architecture == "resnet":
            y = self.skip(x, gain=sqrt(0.5))
            x = self.conv1(self.conv0(x), gain=sqrt(0.5))
            return y + x, img
        return self.conv1(self.conv0(x)), img


class MinibatchStdLayer(nn.Module):
    """Append the standard deviation over groups of samples as feature maps (arXiv:1710.10196 §3).

    Groups have `group_size` samples (None: the batch), or the largest smaller number that divides the batch.
    """

    def __init__(self, group_size, num_channels=1):
        super().__init__()
        self.group_size, self.num_channels = group_size, num_channels

    def forward(self, x):
        n, c, h, w = x.shape
        group = min(self.group_size or n, n)
        while n % group:
            group -= 1
        y = x.reshape(group, -1, self.num_channels, c // self.num_channels, h, w)
        y = ((y - y.mean(dim=0)).square().mean(dim=0) + 1e-8).sqrt()  # [N/G, F, C/F, H, W]; var() is slower
        y = y.mean(dim=[2, 3, 4]).repeat(group, 1)  # [N, F]
        return torch.cat([x, y[:, :, None, None].expand(-1, -1, h, w)], dim=1)


class DiscriminatorEpilogue(nn.Module):
    """The head: feature maps to logits; with labels, their embedding is projected on (arXiv:1802.05637).

    size: (height, width) of the feature maps, 4x4 for the usual squares.
    """

    def __init__(
        self,
        in_channels,
        cmap_dim,
        size,
        img_channels,
        architecture="resnet",
        mbstd_group_size=4,
        mbstd_num_channels=1,
        activation="lrelu",
        conv_clamp=None,
    ):
        super().__init__()
        check_architecture(architecture)
        self.cmap_dim, self.architecture = cmap_dim, architecture
        if architecture == "skip":
            self.fromrgb = Conv2dLayer(img_channels, in_channels, 1, activation=activation)
        self.mbstd = MinibatchStdLayer(mbstd_group_size, mbstd_num_channels) if mbstd_num_channels > 0 else None
        self.conv = Conv2dLayer(
            in_channels + mbstd_num_channels, in_channels, 3, activation=activation, conv_clamp=conv_clamp
        )
        self.fc = FullyConnectedLayer(in_channels * size[0] * size[1], in_channels, activation=activation)
        self.out = FullyConnectedLayer(in_channels, 1 if cmap_dim == 0 else cmap_dim)

    def forward(self, x, img, cmap, force_fp32=False):
        x = x.to(dtype=self.fc.weight.dtype, memory_format=memory_format(x.device.type == "cpu"))
        if self.architecture == "skip":
            x = x + self.fromrgb(img.to(x.dtype))
        if self.mbstd is not None:
            x = self.mbstd(x)
        x = self.out(self.fc(self.conv(x).flatten(1)))
        if self.cmap_dim > 0:
            x = (x * cmap).sum(dim=1, keepdim=True) / sqrt(self.cmap_dim)
        return x


class SkipFeatures(NamedTuple):
    """The input of the head in the `skip` architecture: feature maps and the downsampled image."""

    x: torch.Tensor
    img: torch.Tensor


class Discriminator(nn.Module):
    """Images and labels to logits, in two parts: `features` (F, down to b8) and `head` (J, b4)."""

    architecture = "stylegan2"

    def __init__(
        self,
        c_dim,
        img_resolution,
        img_channels,
        architecture="resnet",
        channel_base=32768,
        channel_max=512,
        num_fp16_res=0,
        conv_clamp=None,
        cmap_dim=None,
        block_kwargs=None,
        mapping_kwargs=None,
        epilogue_kwargs=None,
    ):
        super().__init__()
        img_resolution = normalized(img_resolution)
        self.init_kwargs = constructor_arguments(locals())
        self.c_dim, self.img_resolution, self.img_channels = c_dim, img_resolution, img_channels
        base, resolutions = base_and_blocks(img_resolution)
        highest, self.block_resolutions = resolutions[-1], resolutions[:0:-1]
        channels = {res: min(channel_base // res, channel_max) for res in [*self.block_resolutions, 4]}
        if cmap_dim is None:
            cmap_dim = channels[4]
        if c_dim == 0:
            cmap_dim = 0
        common = {"img_channels": img_channels, "architecture": architecture, "conv_clamp": conv_clamp}
        first_layer = 0
        for res in self.block_resolutions:
            block = DiscriminatorBlock(
                channels[res] if res < highest else 0, channels[res], channels[res // 2], res,
                first_layer_idx=first_layer, use_fp16=uses_half_precision(res, highest, num_fp16_res),
                **(block_kwargs or {}), **common,
            )  # fmt: skip
            setattr(self, f"b{res}", block)
            first_layer += block.num_layers
        if c_dim > 0:
            self.mapping = MappingNetwork(0, c_dim, cmap_dim, num_ws=None, w_avg_beta=None, **(mapping_kwargs or {}))
        self.b4 = DiscriminatorEpilogue(channels[4], cmap_dim, size=base, **(epilogue_kwargs or {}), **common)

    def features(self, img, blocks=False, force_fp32=False):
        """F: feature maps [N, C, *base], base 4x4 for the usual squares (with `skip`: `SkipFeatures`).

        With `blocks` also every block's maps.
        """
        x, maps = None, []
        for res in self.block_resolutions:
            x, img = getattr(self, f"b{res}")(x, img, force_fp32=force_fp32)
            maps.append(x)
        features = x if img is None else SkipFeatures(x, img)
        return (features, maps) if blocks else features

    def head(self, features, c):
        """J: logits [N, 1]. Only here are the samples coupled, by the minibatch standard deviation."""
        x, img = features if isinstance(features, tuple) else (features, None)
        return self.b4(x, img, self.mapping(None, c) if self.c_dim > 0 else None)

    def forward(self, img, c, force_fp32=False):
        return self.head(self.features(img, force_fp32=force_fp32), c)


def constructor_arguments(scope):
    """The arguments of a constructor, from its `locals()`, from which a snapshot rebuilds the network."""
    return {k: v for k, v in scope.items() if k not in ("self", "__class__")}


def check_architecture(architecture):
    if architecture not in ("orig", "skip", "resnet"):
        raise ValueError(f"architecture must be orig, skip or resnet, not {architecture!r}")


def normalized(resolution):
    """A resolution in the project's form: a side, or [height, width]."""
    return image_size.resolution(*image_size.sides(resolution))


def base_and_blocks(img_resolution):
    """(height, width) of the lowest feature maps, and the blocks' names 4, 8, ..., as for a square image."""
    base, factor = image_size.base(*image_size.sides(img_resolution))
    return base, [4 << i for i in range(factor.bit_length())]


def size_at(base, res):
    """(height, width) of the feature maps of block `res`."""
    return base[0] * res // 4, base[1] * res // 4


def uses_half_precision(res, highest, num_fp16_res):
    """Whether block `res` is one of the `num_fp16_res` highest ones, and at least 8."""
    return res >= max(2 * highest >> num_fp16_res, 8) and num_fp16_res > 0


def block_layout(block, device, force_fp32):
    """The dtype and the memory format in which a block computes.

    Half precision if the device has it and the block asks for it, otherwise the type of its weights. Convolutions
    and filters on a CPU are faster with channels last.
    """
    half = precision.block_type(device, block.training) if block.use_fp16 and not force_fp32 else None
    return {
        "dtype": half or block.conv1.weight.dtype,
        "memory_format": memory_format((half and block.channels_last) or device.type == "cpu"),
    }


def memory_format(channels_last):
    return torch.channels_last if channels_last else torch.contiguous_format
