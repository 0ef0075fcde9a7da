"""Transfer learning: start from the weights of another network, for all tensors whose names and shapes agree."""

import itertools

import torch

from dnnlib import image_size
from training.architectures import build
from training.data.labels import differ, numbered
from training.options import preset_networks
from training.presets import PRESETS, preset
from training.snapshot import class_names, load_networks

NAMES_SHOWN = 4


def start_from(source, networks, options, log):
    """Copy the tensors of the snapshot `source` that fit into `networks` (`step.Networks`), and log which were used.

    If other options would use more of them, the log names these.
    """
    loaded = load_networks(source, frozen=False)
    unused = 0
    for name in ("G", "D", "G_ema"):
        state, module = loaded[name].state_dict(), getattr(networks, name)
        used = copy_matching(state, module)
        if name != "G_ema":  # it has the same tensors as G
            unused += len(state) - len(used)
            log(_account(name, source, state.keys(), used, module.state_dict().keys()))
    theirs, ours = class_names(loaded), options.data.dataset["class_names"]
    if len(theirs) == len(ours) and differ(theirs, ours):
        log(f"each class uses the weights of the class with the same number in {source}: {numbered(theirs)}")
    layers, more = depth(loaded["G"]), options.networks.G.get("mapping_kwargs", {}).get("num_layers")
    if layers and more > layers:
        text = f"{more - layers} more mapping layers than {source} has start at random, so w changes"
        log(f"{text}: use --map {layers} to keep w")
    if unused and (better := better_options(loaded, options)):
        log(f"more tensors of {source} fit with {' or '.join(better)}")


@torch.no_grad()
def copy_matching(source_state, module) -> list[str]:
    """Copy tensors into `module` if name and shape agree; return the names of the copied ones."""
    state = module.state_dict()
    used = matching(source_state, state)
    for name in used:
        state[name].copy_(source_state[name])
    return used


def matching(source_state, state) -> list[str]:
    """The names of tensors that have the same shape in both state dicts."""
    return [name for name, tensor in state.items() if name in source_state and source_state[name].shape == tensor.shape]


def better_options(loaded, options) -> list[str]:
    """The options that would use the most tensors of `loaded` (`load_networks`), if that is more than `options` use.

    At most one `--map` and one `--cfg`: of several equally good presets, the first.
    """
    run, networks, choices = options.run, options.networks, {}
    if layers := depth(loaded["G"]):
        choices[f"--map {layers}"] = _with_layers(networks.G, layers), networks.D
    for cfg in PRESETS:
        row = preset(cfg, image_size.mean_side(networks.G["img_resolution"]), run.gpus, run.device)
        if (row.G_arch, row.D_arch) != (networks.G_arch, networks.D_arch):
            continue
        arguments = preset_networks(row, options)
        choices[f"--cfg {cfg}"] = arguments["G"], arguments["D"]
    counts = {text: _count(loaded, *arguments) for text, arguments in choices.items()}
    now = _count(loaded, networks.G, networks.D)
    best = [text for text, count in counts.items() if count == max(counts.values()) > now]
    return list({text.split()[0]: text for text in reversed(best)}.values())[::-1]


def depth(G) -> int | None:
    """The layers of a generator's mapping network; None if it has none."""
    return getattr(G.mapping, "num_layers", None)


def _with_layers(G, layers):
    return G | {"mapping_kwargs": G["mapping_kwargs"] | {"num_layers": layers}}


def _count(loaded, G, D):
    """The number of tensors of `loaded` that networks with these arguments would use."""
    with torch.device("meta"):
        networks = {"G": build(loaded["G"].architecture, "G", G), "D": build(loaded["D"].architecture, "D", D)}
    return sum(len(matching(loaded[name].state_dict(), network.state_dict())) for name, network in networks.items())


def _account(name, source, there, used, here):
    """The log line of one network. there, used, here: names of the source's, the copied, and the network's tensors."""
    unused, fresh = [n for n in there if n not in set(used)], [n for n in here if n not in set(used)]
    line = f"{name}: {len(used)} of {len(there)} tensors of {source} are used"
    line += f"; not used: {_listed(unused)}" if unused else ""
    return line + (f"; start at random: {_listed(fresh)}" if fresh else "")


def _listed(names):
    shown = ", ".join(itertools.islice(names, NAMES_SHOWN))
    return shown + (f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else "")
