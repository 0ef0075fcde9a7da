"""Measure a training step, relative to the best rate of this machine's convolutions.

    python benchmarks/train_step.py --setting 32x128 --terms all    # one of the settings of benchmarks/README.md
    python benchmarks/train_step.py --resolution 64 --channel-base 2048 --channel-max 128 --batch 16 --terms adamix

Efficiency = GFLOP of one plain iteration (Gmain + Greg/4 + Dmain + Dreg/16) / seconds / best conv2d GFLOP/s that this
process reached. The numerator is that of a reference implementation, so that additional arithmetic does not count.
Terms and the plain iteration alternate; the result is the ratio within a round.
"""

import dataclasses
import json
import pathlib
import resource
import statistics
import sys
import time

import click
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks.machine import machine  # noqa: E402
from dnnlib.devices import keep_freed_memory, pick_device, wait  # noqa: E402
from dnnlib.options import command  # noqa: E402
from dnnlib.util import UserError, run_command  # noqa: E402
from tools import arguments  # noqa: E402
from training.options import GROUPS, RunOptions  # noqa: E402
from training.step import Position, TrainingStep, build_networks  # noqa: E402

SETTINGS = {  # GFLOP of a plain iteration, as counted on a reference implementation
    "32x128": {"resolution": 32, "channel_base": 2048, "channel_max": 128, "batch": 16, "gflop": 51.7},
    "64x128": {"resolution": 64, "channel_base": 2048, "channel_max": 128, "batch": 16, "gflop": 77.3},
    "32x512": {"resolution": 32, "channel_base": 16384, "channel_max": 512, "batch": 8, "gflop": 856.1},
}
INTERVALS = {"Gmain": 1, "Greg": 4, "Dmain": 1, "Dreg": 16}
SDP = {"start_kimg": 0}
TIMED_TERMS = {
    "adamix paper": {"adamix": {}},
    "adamix cross": {"adamix": {"pairs": "cross"}},
    "adamix official": {"adamix": {"variant": "official"}},
    "adamix paper, interval 4": {"adamix": {"interval": 4}},
    "adamix paper, part 0.25": {"adamix": {"part": 0.25}},
    "sdp": {"sdp": SDP},
    "aw": {"aw": {}},
    "adamix paper + sdp + aw": {"adamix": {}, "sdp": SDP, "aw": {}},
}


def required(cls):
    """The names of a dataclass's fields that have no default."""
    absent = dataclasses.MISSING
    return [field.name for field in dataclasses.fields(cls) if field.default is field.default_factory is absent]


def run_options(resolution, channel_base, channel_max, batch, gflop=None, **terms):
    """Options of a run with plain StyleGAN2 networks of this size and the given terms."""
    size = {"c_dim": 0, "img_resolution": resolution, "img_channels": 3}
    channels = {"channel_base": channel_base, "channel_max": channel_max, "conv_clamp": 256}
    values = {name: dict.fromkeys(required(cls)) for name, cls in GROUPS.items()}
    values["run"] |= {"seed": 0, "batch": batch, "batch_gpu": batch}
    values["networks"] |= {
        "G": {"z_dim": 512, "w_dim": 512, **size, "mapping_kwargs": {"num_layers": 2}, "synthesis_kwargs": channels},
        "D": {**size, **channels, "epilogue_kwargs": {"mbstd_group_size": 4}},
        **dict.fromkeys(("G_optimizer", "D_optimizer"), {"lr": 0.002, "betas": (0.0, 0.99), "eps": 1e-8}),
        "G_reg_interval": INTERVALS["Greg"],
        "D_reg_interval": INTERVALS["Dreg"],
        "ema_kimg": 10,
    }
    values["loss"] = {"r1_gamma": 10, "pl_weight": 2, "style_mixing_prob": 0.9, "apa": False, "with_dataaug": False}
    values["loss"]["terms"] = {"adamix": None, **terms}
    return RunOptions(**{name: cls(**values[name]) for name, cls in GROUPS.items()})


class Step:
    """One iteration on random images, phase by phase, with the same step as in a run."""

    def __init__(self, device="cpu", **setting):
        self.device, options = torch.device(device), run_options(**setting)
        networks = build_networks(options, self.device)
        self.step = TrainingStep(options, networks, self.device, Position(cur_nimg=10**6))
        self.loss = self.step.loss
        size = options.networks.G["img_resolution"]
        self.real = torch.randn(options.run.batch, 3, size, size).clamp(-1, 1).to(self.device)
        self.c = torch.zeros(options.run.batch, 0, device=self.device)

    def phase(self, name):
        index = [phase.name for phase in self.step.phases].index(name)
        self.step.run_phases([index], self.real, self.c)
        if name == "Dmain":
            self.step.update_average()

    def seconds(self, name):
        wait(self.device)
        start = clock(self.device)
        self.phase(name)
        wait(self.device)
        return clock(self.device) - start

    def cost(self):
        """Seconds by phase, averaged over `interval` steps, because a lazy term acts in only one of them."""
        steps = {**dict.fromkeys(INTERVALS, 1), "Dmain": max(term.interval for term in self.loss.terms.values())}
        return {name: statistics.mean(self.seconds(name) for _ in range(steps[name])) for name in INTERVALS}

    def gflop(self, name):
        with OperationTimes(self.device) as times:
            self.phase(name)
        return sum(gflop for _, _, gflop in times.calls)


# Kinds of PyTorch operations in the profile; convolutions are classified by shape.
KINDS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm"),
    "activations": ("leaky_relu", "leaky_relu_", "leaky_relu_backward", "hardtanh", "hardtanh_", "hardtanh_backward"),
    "sums": ("sum", "mean"),
    "optimizer, moving average": ("_fused_adam_", "_foreach_lerp_", "_foreach_norm"),
}


class OperationTimes(TorchDispatchMode):
    """Kind, seconds and GFLOP of every operation below autograd, in order, including double backward passes."""

    def __init__(self, device):
        super().__init__()
        self.device, self.calls = device, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        start = clock(self.device)
        out = func(*args, **(kwargs or {}))
        wait(self.device)
        seconds = clock(self.device) - start
        name = func._overloadpacket.__name__
        count = flop_registry.get(func._overloadpacket)
        gflop = count(*args, **(kwargs or {}), out_val=out) / 1e9 if count else 0
        kind = next((kind for kind, names in KINDS.items() if name in names), "other elementwise, copies")
        if name.startswith("convolution"):
            x, w, stride = (
                (args[1], args[2], args[4]) if name == "convolution_backward" else (args[0], args[1], args[3])
            )
            kind = "filters (depthwise)" if w.shape[1] == 1 else f"convolutions {w.shape[2]}x{w.shape[3]}"
            kind += ", stride 2" if w.shape[1] > 1 and max(stride) > 1 else ""
            kind += ", maps of 8x8 and less" if w.shape[1] > 1 and x.shape[2] <= 9 else ""
        self.calls.append((kind, seconds, gflop))
        return out


def clock(device):
    """Seconds. With one thread on a CPU: its CPU time, so that other programs do not matter."""
    return time.process_time() if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def peak_memory_gib(device):
    """Peak memory of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def profile(step, rounds=5):
    """{kind: (seconds, GFLOP)} of one iteration, with the best time of each call over several rounds.

    The rest of the iteration's time is the host's: Python, autograd, dispatch.
    """
    total = {}
    for name, interval in INTERVALS.items():
        runs = []
        for _ in range(rounds):
            with OperationTimes(step.device) as times:
                step.phase(name)
            runs.append(times.calls)
        for calls in zip(*runs):
            kind, _, gflop = calls[0]
            seconds, sum_gflop = total.get(kind, (0, 0))
            total[kind] = (seconds + min(c[1] for c in calls) / interval, sum_gflop + gflop / interval)
    return total


def iteration(phases):
    """The value of one iteration from values by phase."""
    return sum(value / INTERVALS[name] for name, value in phases.items())


def best_conv_rate(device):
    """GFLOP/s of the best conv2d among shapes that such networks use."""
    best = 0
    for channels, side in ((128, 32), (128, 64), (256, 16), (512, 16), (512, 32)):
        x = torch.randn(8, channels, side, side).to(device, memory_format=torch.channels_last)
        w = torch.randn(channels, channels, 3, 3).to(device, memory_format=torch.channels_last)
        gflop = 2 * 8 * channels**2 * 9 * side**2 / 1e9
        for _ in range(8):
            start = clock(device)
            torch.nn.functional.conv2d(x, w, padding=1)
            wait(device)
            best = max(best, gflop / (clock(device) - start))
    return best


@torch.enable_grad()
def measure(setting, terms, rounds, device):
    """The record of one setting: phases, efficiency, and the ratio of every term."""
    plain = Step(**setting, device=device)
    others = {name: Step(**setting, device=device, **TIMED_TERMS[name]) for name in terms}
    gflop = {name: plain.gflop(name) for name in INTERVALS}
    for step in others.values():
        for name in INTERVALS:
            step.phase(name)
    times, ratios, rate = [], {name: [] for name in others}, best_conv_rate(device)
    for _ in range(rounds):
        times.append(plain.cost())
        for term, step in others.items():
            ratios[term].append(iteration(step.cost()) / iteration(times[-1]))
        rate = max(rate, best_conv_rate(device))
    seconds = {name: min(t[name] for t in times) for name in INTERVALS}
    numerator = setting["gflop"] or iteration(gflop)
    return {
        **setting,
        "seconds": seconds,
        "gflop_counted": gflop,
        "iteration_seconds": iteration(seconds),
        "images_per_second": setting["batch"] / iteration(seconds),
        "best_conv_gflops": rate,
        "efficiency": numerator / iteration(seconds) / rate,
        "ratios": {name: statistics.median(values) for name, values in ratios.items()},
        "profile": profile(plain),
        "peak_memory_gib": peak_memory_gib(device),
    }


def table(name, record):
    """The record as Markdown."""
    lines = [
        f"### {name}: {record['resolution']}², channel_base {record['channel_base']}, batch {record['batch']}",
        "",
        f"Efficiency **{record['efficiency']:.0%}** of {record['best_conv_gflops']:.0f} GFLOP/s, "
        f"{record['images_per_second']:.1f} images/s, peak memory {record['peak_memory_gib']:.1f} GiB.",
        "",
        "| phase | seconds | GFLOP | GFLOP/s |",
        "|---|---|---|---|",
    ]
    for phase, seconds in record["seconds"].items():
        gflop = record["gflop_counted"][phase]
        lines.append(f"| {phase} | {seconds:.3f} | {gflop:.1f} | {gflop / seconds:.0f} |")
    whole = record["iteration_seconds"]
    lines += ["", "| operations of one iteration | ms | share | GFLOP/s |", "|---|---|---|---|"]
    for kind, (seconds, gflop) in sorted(record["profile"].items(), key=lambda item: -item[1][0]):
        rate = f"{gflop / seconds:.0f}" if gflop else ""
        lines.append(f"| {kind} | {seconds * 1e3:.1f} | {seconds / whole:.0%} | {rate} |")
    host = whole - sum(seconds for seconds, _ in record["profile"].values())
    if host > 0:  # otherwise it is below the noise of the two measurements
        lines.append(f"| Python, autograd, dispatch | {host * 1e3:.1f} | {host / whole:.0%} | |")
    if record["ratios"]:
        lines += ["", "| term | ratio to the plain iteration |", "|---|---|"]
        lines += [f"| {term} | {ratio:.2f} |" for term, ratio in record["ratios"].items()]
    return "\n".join(lines)


@command()
@click.option(
    "--setting", multiple=True, type=click.Choice(list(SETTINGS)), help="A setting of benchmarks/README.md; repeatable."
)
@click.option("--resolution", default=32, show_default=True)
@click.option("--channel-base", default=2048, show_default=True)
@click.option("--channel-max", default=128, show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--terms", default="", help=f"all, or separated by ;: {'; '.join(TIMED_TERMS)}.")
@click.option("--rounds", default=5, show_default=True, help="Number of rounds.")
@arguments.device(default="cpu")
@click.option("--json", "path", help="Also write the records to this file.")
def main(setting, resolution, channel_base, channel_max, batch, terms, rounds, path, device):
    """Measure training steps in float32."""
    size = {"resolution": resolution, "channel_base": channel_base, "channel_max": channel_max, "batch": batch}
    settings = {name: SETTINGS[name] for name in setting} or {f"{resolution}x{channel_max}": {**size, "gflop": None}}
    chosen = list(TIMED_TERMS) if terms == "all" else [name.strip() for name in terms.split(";") if name.strip()]
    unknown = [name for name in chosen if name not in TIMED_TERMS]
    if unknown:
        raise UserError(f"--terms has no {unknown[0]!r}: known are {'; '.join(TIMED_TERMS)}")
    keep_freed_memory()
    print(f"{machine()}\n")
    records = {}
    for name, size in settings.items():
        records[name] = measure(size, chosen, rounds, torch.device(pick_device(device)))
        print(table(name, records[name]) + "\n", flush=True)
    if path:
        pathlib.Path(path).write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    run_command(main)
