"""The checks of a GPU: one function for each, on any device.

A check gets a `Place` and returns a `Seen`. It raises `AssertionError` if the device gives a wrong result, and
`Skipped` if it cannot be checked. On the CPU the same code runs at small sizes, which tests the checks themselves.
"""

import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import NamedTuple
from unittest import mock

import torch
from conftest import load_golden
from places import ROOT
from train_runs import ADDITIVE_TERMS, TERMS, TINY, finish, make_run, start, take_steps, weights

from stylegan2_adamix.loss import StyleGAN2Loss
from torch_utils import precision
from training.networks import Discriminator, Generator
from training.state import NAME

# The names of pr and dc cannot ask for fewer than a thousand images.
METRICS = ["fd_effnet200_full", "kid_effnet200_full", "is_effnet200", "ppl_effnet100_wend", "lipschitz100"]
METRICS += ["pr_effnet1k3_full", "dc_effnet1k5_full"]
SMALL_METRICS = ["fd_effnet32_full", "kid_effnet32_full", "is_effnet32", "ppl_effnet8_wend", "lipschitz16"]


class Skipped(Exception):
    """This machine lacks what the check needs."""


class Place(NamedTuple):
    """Where a check computes and writes."""

    device: torch.device
    folder: pathlib.Path

    @property
    def small(self):
        return self.device.type == "cpu"

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Seen(NamedTuple):
    """The result of a check in a few words, and its speed if that is meaningful."""

    text: str
    images_per_second: float | None = None


def exact_products():
    """Make the GPU compute products and convolutions in full float32, not in TF32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def golden_parity(place):
    """G, D, their gradients and the modulated convolution give the golden numbers, in float32 without TF32."""
    exact_products()
    errors = {}

    def compare(name, actual, expected, atol):
        errors[name] = (actual.detach().cpu() - expected).abs().max().item()
        assert errors[name] <= atol, f"{name} is off by {errors[name]:.1e}, not at most {atol:.0e}"

    for name in ("generator_uncond16", "generator_cond32"):
        data, G = golden_network(f"{name}.npz", Generator, place)
        ws = data["ws"].to(place.device).requires_grad_()
        compare(f"{name} ws", G.mapping(data["z"].to(place.device), data["c"].to(place.device)), data["ws"], 2e-5)
        img = G.synthesis(ws, noise_mode="const")
        compare(name, img, data["img_const"], 1e-4)
        (gradient,) = torch.autograd.grad((img * data["pl_noise"].to(place.device)).sum(), ws)
        compare(f"{name} path lengths", gradient.square().sum(2).mean(1).sqrt(), data["pl_lengths"], 1e-3)
    for name in ("resnet16", "orig_cond32", "skip16"):
        data, D = golden_network(f"discriminator_{name}.npz", Discriminator, place)
        img = data["img"].to(place.device).requires_grad_()
        logits = D(img, data["c"].to(place.device))
        compare(f"D {name}", logits, data["logits"], 1e-4)
        (gradient,) = torch.autograd.grad(logits.sum(), img)
        compare(f"D {name} R1", gradient.square().sum([1, 2, 3]), data["r1_penalty"], 1e-3)
    name = max(errors, key=errors.get)
    return Seen(f"{len(errors)} outputs and gradients, the largest error {errors[name]:.1e} ({name})")


def golden_network(file, cls, place):
    data = load_golden(file)
    network = cls(**data["config"])
    network.load_state_dict({k.removeprefix("state/"): v for k, v in data.items() if k.startswith("state/")})
    return data, network.eval().to(place.device)


def half_precision(place):
    """Every phase with every additive term and aw: half precision gives finite gradients in float32's direction."""
    exact_products()
    cosines = {}
    for phase in ("Gmain", "Greg", "Dmain", "Dreg"):
        with mock.patch.object(precision, "has_amx", lambda: True):  # to test this check without a GPU
            half, full = (phase_gradient(place, phase, num_fp16_res=number) for number in (3, 0))
        assert half.isfinite().all(), f"{phase}: a gradient is not finite"
        assert half.abs().max() > 0, f"{phase}: no gradient"
        assert not torch.equal(half, full), f"{phase}: half precision was not used"
        cosines[phase] = torch.nn.functional.cosine_similarity(half, full, dim=0).item()
        assert cosines[phase] > 0.9, f"{phase}: the cosine with float32's gradient is {cosines[phase]:.3f}"
    return Seen("cosine with float32's gradient: " + ", ".join(f"{k} {v:.4f}" for k, v in cosines.items()))


def phase_gradient(place, phase, num_fp16_res):
    """The gradient of one phase as a single vector in float64; the same weights, images and draws for any precision."""
    resolution, batch = (16, 4) if place.small else (64, 16)
    channels = {"channel_base": 1024, "channel_max": 64, "conv_clamp": 256, "num_fp16_res": num_fp16_res}
    torch.manual_seed(0)
    G = Generator(64, 0, 64, resolution, 3, {"num_layers": 2}, channels).requires_grad_(False).to(place.device)
    D = Discriminator(0, resolution, 3, **channels).requires_grad_(False).to(place.device)
    terms = {"adamix": {}, "sdp": {"start_kimg": 0}, "lecam": 3e-7, "aw": {}}
    loss = StyleGAN2Loss(place.device, G.mapping, G.synthesis, D, r1_gamma=1, pl_weight=2, **terms)
    real, z = torch.rand(batch, 3, resolution, resolution) * 2 - 1, torch.randn(batch, 64)
    c = torch.zeros(batch, 0, device=place.device)
    module = (G if phase[0] == "G" else D).requires_grad_(True)
    torch.manual_seed(1)
    loss.accumulate_gradients(phase, real.to(place.device), c, z.to(place.device), c, gain=1, cur_nimg=10_000)
    return torch.cat([p.grad.flatten().double().cpu() for p in module.parameters() if p.grad is not None])


def no_waiting(place):
    """A step with every term never waits for the device, after each phase ran once."""
    steps = 4 if place.small else 20
    run = make_run(place.folder, *size_options(place), *ADDITIVE_TERMS, "--aw", device=place.device)
    take_steps(run, 4 if place.small else 18)  # every phase and ADA's update, so that cuDNN has chosen its algorithms
    place.wait()
    began = time.perf_counter()
    if place.device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        take_steps(run, steps)
    finally:
        if place.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    place.wait()
    images = steps * run.options.run.batch
    return Seen(f"{steps} steps of {run.options.run.batch} images", images / (time.perf_counter() - began))


def size_options(place):
    """The demo's networks at 8x8 on the CPU, at 32x32 elsewhere. Later options replace the helper's own."""
    return [] if place.small else ["--resolution", "32", "--batch", "32"]


def train(place, name, *args, device=None):
    """The directory of a run by train.py in a process of its own, which must succeed."""
    outdir = place.folder / name
    size = () if "--resume" in args else (*TINY, *size_options(place))
    code, output = finish("--outdir", outdir, *size, "--device", device or place.device.type, *args)
    assert code == 0, output[-2000:]
    (run_dir,) = outdir.iterdir()
    return run_dir


def distance(a, b):
    """The distance of the weights of two runs: the norm of the difference divided by the norm of the second."""
    a, b = weights(a), weights(b)
    assert all(tensor.isfinite().all() for tensor in a.values())
    squares = [((a[name] - b[name]).double().square().sum(), b[name].double().square().sum()) for name in b]
    return (sum(s for s, _ in squares) / sum(s for _, s in squares)).sqrt().item()


def killed_run(place, *options):
    """A run that is killed and resumed ends as close to an uninterrupted one as a second uninterrupted one does."""
    length = ["--kimg", "0.4" if place.small else "4", "--state-minutes", "0.01", *options]
    whole, again = (train(place, name, *TERMS, *length) for name in ("whole", "again"))
    outdir = place.folder / "killed"
    process = start("--outdir", outdir, *TINY, *size_options(place), "--device", place.device.type, *TERMS, *length)
    while process.poll() is None and not list(outdir.glob(f"*/{NAME}")):
        time.sleep(0.02)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert alive, "the run ended before it could be killed"
    killed = train(place, "killed", "--resume", "latest")
    noise, difference = distance(again, whole), distance(killed, whole)
    assert difference <= 10 * noise, f"{difference:.1e} from the uninterrupted run; two of those are {noise:.1e} apart"
    if difference == 0:
        return Seen("the same bits as an uninterrupted run")
    return Seen(f"{difference:.1e} from an uninterrupted run; two of those are {noise:.1e} apart")


def across_devices(place):
    """A run that moves from the CPU to the device and back ends near a run on the CPU alone."""
    kimg = [f"{n * 0.064:.3f}" for n in (1, 2, 3)]
    train(place, "crossing", *TERMS, "--kimg", kimg[0], device="cpu")
    train(place, "crossing", "--resume", "latest", "--kimg", kimg[1])
    crossing = train(place, "crossing", "--resume", "latest", "--kimg", kimg[2], device="cpu")
    alone = train(place, "alone", *TERMS, "--kimg", kimg[2], device="cpu")
    difference = distance(crossing, alone)
    assert difference < 0.02, f"the weights are {difference:.1e} from those of a run on the CPU alone"
    return Seen(f"cpu, {place.device.type}, cpu: {difference:.1e} from a run on the CPU alone")


def every_metric(place):
    """Each kind of metric on EfficientNet's features is near its value on the CPU."""
    run_dir = train(place, "measured", "--adamix", "--kimg", "0.064", "--subset", "32" if place.small else "1000")
    (network,) = run_dir.glob("*.safetensors")
    figures = measure(place, network, place.device.type)
    reference = figures if place.small else measure(place, network, "cpu")
    assert figures.keys() == reference.keys()
    errors = {name: abs(value - reference[name]) / (abs(reference[name]) + 1e-3) for name, value in figures.items()}
    worst = max(errors, key=errors.get)
    assert errors[worst] < 0.05, f"{worst} is {figures[worst]:.5g}, on the CPU {reference[worst]:.5g}"
    return Seen(f"{len(figures)} figures, at most {errors[worst]:.1e} from the CPU's ({worst})")


def measure(place, network, device):
    """The values of calc_metrics.py by name. Each device has its own cache, so that it computes its own features."""
    names = SMALL_METRICS if place.small else METRICS
    output = script("calc_metrics.py", "--network", network, "--metrics", ",".join(names), "--device", device,
                    DNNLIB_CACHE_DIR=str(place.folder / f"cache-{device}"))  # fmt: skip
    records = [json.loads(line) for line in output.splitlines()]
    assert [record["metric"] for record in records] == names
    return {name: value for record in records for name, value in record["results"].items()}


def script(name, *args, **variables):
    """What a script of the project prints on standard output; it must succeed."""
    command = [sys.executable, str(ROOT / name), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **variables})
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return done.stdout


def two_processes(place):
    """Two processes (NCCL on GPUs, gloo on a CPU) compute what one does, with every term on."""
    if place.device.type == "cuda" and torch.cuda.device_count() < 2:
        raise Skipped("there is one GPU")
    if place.device.type not in ("cuda", "cpu"):
        raise Skipped(f"several processes need cuda or cpu, not {place.device.type}")
    options = [*TERMS, "--batch", "16", "--batch-gpu", "8", "--kimg", "0.064"]
    one, two = (train(place, f"gpus{n}", *options, "--gpus", n) for n in (1, 2))
    difference = distance(two, one)
    assert difference < 1e-3, f"the weights are {difference:.1e} apart"
    return Seen(f"the weights are {difference:.1e} apart after 4 steps")


def benchmark(place):
    """benchmarks/train_step.py: a plain step and one with AdaptiveMix, SDP and aw, and the peak of memory."""
    path = place.folder / "benchmark.json"
    size = [8, 128, 16, 4, 2] if place.small else [64, 2048, 128, 16, 5]
    size = zip(["--resolution", "--channel-base", "--channel-max", "--batch", "--rounds"], size)
    options = [*itertools.chain(*size), "--terms", "adamix paper + sdp + aw", "--json", path]
    script("benchmarks/train_step.py", "--device", place.device.type, *options)
    (record,) = json.loads(path.read_text()).values()
    (ratio,) = record["ratios"].values()
    side, memory = record["resolution"], record["peak_memory_gib"]
    text = f"{side}x{side}, batch {record['batch']}: all terms take {ratio:.2f} times as long, peak {memory:.1f} GiB"
    return Seen(text, record["images_per_second"])


CHECKS = (
    golden_parity,
    half_precision,
    no_waiting,
    killed_run,
    across_devices,
    every_metric,
    two_processes,
    benchmark,
)
