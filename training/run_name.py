"""The name of a run."""

from stylegan2_adamix import settings
from training.arguments import dest
from training.presets import PRESETS

LONGEST_NAME, LONGEST_BYTES = 40, 200  # letters of the data set's name; bytes in total


def run_name(args, dataset):
    """The name of a run directory: the data, the preset, and the options that differ from it."""
    row = PRESETS[args.cfg]
    parts = [data_name(dataset), args.cfg]
    parts += ["rgba"] if dataset.num_channels == 4 else []
    parts += ["mirror"] if args.mirror else []
    parts += ["cond"] if args.cond and not row.cond else []
    parts += [f"subset{args.subset}"] if args.subset else []
    parts += [f"holdout{dataset.selection.holdout:g}"] if dataset.selection.holdout != row.holdout else []
    for name in settings.TERMS:
        if name in args.switched_on:
            official = name == "adamix" and args.terms[name].get("variant") == "official"
            parts.append("adamix-official" if official else name)
    parts += [args.aug] if args.aug != row.aug or args.diffaugment_policy else []
    parts += ["dataaug"] if args.with_dataaug else []
    parts += args.policies or []
    weights = {"gamma": args.gamma, **_weights(args), "p": args.p}
    parts += [f"{name}{weight:g}" for name, weight in weights.items() if weight]
    objective = args.comparators.get("objective_name", row.objective)
    parts += [objective] if objective != row.objective else []
    parts += [f"batch{args.batch}"] if args.batch else []
    parts += [f"map{args.map}"] if args.map else []
    parts += _network_parts(args)
    parts += ["resume"] if args.resume else []
    return "-".join(parts).encode()[:LONGEST_BYTES].decode(errors="ignore")  # a file name has at most 255


def data_name(dataset):
    """The part of a run's name for its data."""
    return "".join(letter if letter.isprintable() else "_" for letter in dataset.name[:LONGEST_NAME])


def _network_parts(args):
    """The parts of a run's name for networks and learning rates that differ from the preset's."""
    features = (args.feature_network or "").partition("=")[0]
    words = {"g": args.g_arch, "d": args.d_arch, "dnorm": args.d_norm, "features": features}
    numbers = {"width": args.width, "glr": args.glr, "dlr": args.dlr, "decay": args.decay_kimg, "dsteps": args.d_steps}
    parts = [f"{name}-{word}" for name, word in words.items() if word]
    parts += [f"{name}{number:g}" for name, number in numbers.items() if number]
    return parts + (["average"] if args.d_average else [])


def _weights(args):
    """{option: weight} of the terms without a switch, as given on the command line."""
    names = [name for name, cls in settings.TERMS.items() if not cls.switch]
    return {dest(settings.weight_flag(name)): args.terms[name].get("weight") for name in names}
