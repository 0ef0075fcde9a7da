"""StyleGAN2 (arXiv:1912.04958): the arguments of the networks in training/networks.py."""

import torch

from dnnlib import image_size
from dnnlib.util import UserError
from training.networks import Discriminator, Generator

__all__ = ["Discriminator", "Generator", "check", "discriminator_arguments", "generator_arguments"]

GENERATOR_OPTIONS = ("map", "bfloat16", "channels_last", "width")
DISCRIMINATOR_OPTIONS = ("freeze_layers", "bfloat16", "channels_last", "width")


def generator_arguments(settings):
    row = settings.row
    noise = {} if row.use_noise else {"use_noise": False}
    return {
        "z_dim": row.latent_dim,
        "w_dim": row.latent_dim,
        **settings.size,
        "mapping_kwargs": {"num_layers": settings.map or row.mapping_layers},
        "synthesis_kwargs": {**_channels(settings), **_layout(settings), **noise},
    }


def discriminator_arguments(settings):
    return {
        **settings.size,
        **_channels(settings),
        "architecture": settings.row.architecture,
        "block_kwargs": {**_layout(settings), "freeze_layers": settings.freeze_layers},
        "epilogue_kwargs": {"mbstd_group_size": settings.row.mbstd_group_size},
    }


def _channels(settings):
    """Width and precision, which G and D share."""
    half = {"num_fp16_res": 4 if settings.half_precision else 0, "conv_clamp": 256} if settings.clamp else {}
    return {name: round(n * (settings.width or 1)) for name, n in settings.channels.items()} | half


def _layout(settings):
    return {"fp16_channels_last": True} if settings.channels_last else {}


def check(options):
    """Raise UserError if the last blocks would have no channels (they have channel_base / side), or if Freeze-D would
    freeze more layers than D has before its head."""
    networks = options.networks
    if networks.G_arch == Generator.architecture:
        _check_channels(options, networks.G["synthesis_kwargs"]["channel_base"])
    if networks.D_arch == Discriminator.architecture:
        _check_channels(options, networks.D["channel_base"])
        with torch.device("meta"):
            D = Discriminator(**networks.D)
        layers = sum(getattr(D, f"b{res}").num_layers for res in D.block_resolutions)
        if networks.D["block_kwargs"]["freeze_layers"] > layers:
            raise UserError(f"--freezed: D has {layers} layers before its head; give at most that many")


def _check_channels(options, channel_base):
    resolution = options.networks.G["img_resolution"]
    side = 4 * image_size.base(*image_size.sides(resolution))[1]
    if channel_base < side:
        raise UserError(
            f"images of {image_size.text(resolution)} leave 0 channels to the last block of --cfg {options.run.cfg}, "
            f"{channel_base} / {side}: give a larger --width, or make a dataset of at most {image_size.ADVISED} a side "
            "with dataset_tool.py"
        )
