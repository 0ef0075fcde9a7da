"""Transfer learning: a run starts from the weights of another network, as far as names and shapes agree."""

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
    """Copy what fits of the snapshot `source` into `networks` (`step.Networks`), and log what was used.

    Where other options would use more of it, the log says which.
    """
    loaded = load_networks(source)
    unused = 0
    for name in ("G", "D", "G_ema"):
        state, module = loaded[name].state_dict(), getattr(networks, name)
        used = copy_matching(state, module)
        if name != "G_ema":  # its tensors are those of G
            unused += len(state) - len(used)
            log(_account(name, source, state.keys(), used, module.state_dict().keys()))
    theirs, ours = class_names(loaded), options.data.dataset["class_names"]
    if len(theirs) == len(ours) and differ(theirs, ours):
        log(f"classes take the weights of those with the same number, which are in {source}: {numbered(theirs)}")
    layers, more = depth(loaded["G"]), options.networks.G.get("mapping_kwargs", {}).get("num_layers")
    if layers and more > layers:
        said = f"{more - layers} more mapping layers than {source} has start at random, so w is another"
        log(f"{said}; --map {layers} keeps w")
    if unused and (better := better_options(loaded, options)):
        log(f"more tensors of {source} would be used with {' or '.join(better)}")


@torch.no_grad()
def copy_matching(source_state, module) -> list[str]:
    """Copy tensors into `module` where name and shape agree; return the names of those that were copied."""
    state = module.state_dict()
    used = matching(source_state, state)
    for name in used:
        state[name].copy_(source_state[name])
    return used


def matching(source_state, state) -> list[str]:
    """The names under which two state dicts hold tensors of one shape."""
    return [name for name, tensor in state.items() if name in source_state and source_state[name].shape == tensor.shape]


def better_options(loaded, options) -> list[str]:
    """The options that would use most tensors of `loaded` (`load_networks`), if that is more than `options` do.

    One `--map` and one `--cfg` at most: of several presets that do equally well, the first.
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
    """The layers of a generator's mapping network; None where it has none."""
    return getattr(G.mapping, "num_layers", None)


def _with_layers(G, layers):
    return G | {"mapping_kwargs": G["mapping_kwargs"] | {"num_layers": layers}}


def _count(loaded, G, D):
    """How many tensors of `loaded` networks with these arguments would take."""
    with torch.device("meta"):
        networks = {"G": build(loaded["G"].architecture, "G", G), "D": build(loaded["D"].architecture, "D", D)}
    return sum(len(matching(loaded[name].state_dict(), network.state_dict())) for name, network in networks.items())


def _account(name, source, there, used, here):
    """The line about one network. there, used, here: names of the source's tensors, the copied, and the network's."""
    unused, fresh = [n for n in there if n not in set(used)], [n for n in here if n not in set(used)]
    line = f"{name}: {len(used)} of {len(there)} tensors of {source} are used"
    line += f"; not used: {_listed(unused)}" if unused else ""
    return line + (f"; start at random: {_listed(fresh)}" if fresh else "")


def _listed(names):
    shown = ", ".join(itertools.islice(names, NAMES_SHOWN))
    return shown + (f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else "")
