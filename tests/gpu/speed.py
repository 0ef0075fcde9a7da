"""The speed of a GPU, eager and with CUDA graphs, and whether both train alike. On a CPU make_fx records instead."""

import time

import torch
from gpu.checks import Seen, Skipped, exact_products, killed_run, phase_gradient
from tracing import traced
from train_runs import TERMS, make_run, take_steps, write_images

from torch_utils import training_stats
from training import graphs
from training.data.loader import batches

FAST = ["--cfg", "fast", "--aug", "diffaugment", "--diffaugment-policy", "translation,cutout"]
# Published seconds for 1000 images of StyleGAN2-ADA's own code are beside the table in benchmarks/README.md.
DRAWS = {
    "rand": lambda device: torch.rand(16, device=device),
    "randn": lambda device: torch.randn(16, device=device),
    "randint": lambda device: torch.randint(1, 9, [16], device=device).float(),
    "randperm": lambda device: torch.randperm(16, device=device).float(),
}


def recorder(place, state=list):
    """A `capture` for training/graphs.py."""
    return graphs.capture_cuda() if place.device.type == "cuda" else traced(state)


def draws_under_capture(place):
    """Each draw can be recorded, and a replay with a seed draws the numbers of an eager call with that seed."""
    for name, draw in DRAWS.items():
        out = torch.zeros(2, 16, device=place.device)

        def twice(draw=draw, out=out):
            out[0] = draw(place.device)
            out[1] = draw(place.device)

        twice()
        replay = recorder(place, lambda out=out: [out])(twice)
        for seed in (1, 2):
            torch.manual_seed(seed)
            twice()
            expected = out.clone()
            torch.manual_seed(seed)
            replay()
            assert torch.equal(out, expected), f"{name} draws other numbers in a replay"
    return Seen(", ".join(DRAWS))


def augmentation():
    """ADA, if torch has the second derivative of grid_sample, which R1 under ADA needs; otherwise no ADA."""
    x, grid = torch.rand(1, 1, 2, 2, requires_grad=True), torch.zeros(1, 1, 1, 2)
    y = torch.nn.functional.grid_sample(x * x, grid, align_corners=False).sum()
    try:
        torch.autograd.grad(torch.autograd.grad(y, x, create_graph=True)[0].sum(), x)
    except RuntimeError:
        return ["--aug", "noaug"]
    return []


def run_of(place, side, *args):
    """A run on noise images, with nothing of earlier runs in its statistics."""
    training_stats._moments.clear()
    torch.backends.cudnn.benchmark = not place.small
    side = 8 if place.small else side
    data = write_images(place.folder / f"images{side}", [side] * 64)
    small = ["--batch", "4", "--batch-gpu", "4"] if place.small else []
    recorded = ["--graphs", "1"] if place.device.type == "cuda" else []  # so that Adam can be recorded
    run = make_run(place.folder, "--data", data, "--resolution", side, *args, *small, *recorded, device=place.device)
    run.position.tick_start_nimg = -1  # a tick's first step measures terms, and is eager
    if place.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place.device)
    return run


def with_graphs(place, run):
    """Replay the run's phases from now on. Returns the log lines of phases that stay eager."""
    lines, step = [], run.step
    step.use_graphs(lines.append, recorder(place, step._changed))
    return lines


def every_phase(run, times):
    """Run each phase `times` times, without the schedule; phases that share images together."""
    step, options = run.step, run.options
    side, device = run.dataset.resolution, step.device
    img = torch.rand([options.run.batch, 3, side, side], device=device) * 2 - 1
    c = torch.zeros([options.run.batch, 0], device=device)
    indices = list(range(len(step.phases)))
    for together in [indices] if step.loss.one_pass else [[i] for i in indices]:
        for _ in range(times):
            step.run_phases(together, img, c)


def images_per_second(place, run):
    """The rate over a whole schedule of lazy phases, without loading images. Every phase must have run before."""
    steps, batch = 1 if place.small else 16, one_batch(run)
    place.wait()
    began = time.perf_counter()
    for _ in range(steps):
        run.step(*batch)
    place.wait()
    return steps * run.options.run.batch / (time.perf_counter() - began)


def one_batch(run):
    """Images and labels, in pinned memory for a GPU."""
    return next(batches(run.dataset, run.options.run, run.position.cur_nimg, run.device))


def launches(place, run):
    """The number of launches on the device in one step; None on a CPU."""
    if place.device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    run.position.cur_step, batch = 1, one_batch(run)  # a step of the main phases
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        run.step(*batch)
        place.wait()
    return sum(event.name.startswith(("cudaLaunch", "cuLaunch", "cudaGraphLaunch")) for event in seen.events())


def peak(place):
    cuda = place.device.type == "cuda"
    return f", peak {torch.cuda.max_memory_reserved(place.device) / 2**30:.1f} GiB" if cuda else ""


def eager_and_graphs(place, side, *args):
    """Images a second, launches and memory of both. The speed in the table is that of graphs, if they work."""
    run = run_of(place, side, *args)
    every_phase(run, 1 if place.small else 2)
    rates, said = [], []
    for name in ("eager", "graphs"):
        if name == "graphs" and place.small and run.step.loss.one_pass:
            continue  # make_fx cannot record backward apart from its forward pass
        if name == "graphs":
            lines = with_graphs(place, run)
            every_phase(run, graphs.EAGER_USES + 1)
            said += lines
        rates.append(images_per_second(place, run))
        said.append(f"{name} {rates[-1]:.1f} images/s{peak(place)}, {launches(place, run) or '?'} launches a step")
    assert all(p.isfinite().all() for p in [*run.networks.G.parameters(), *run.networks.D.parameters()])
    options = run.options.run
    text = f"batch {options.batch} in microbatches of {options.batch_gpu}: {'; '.join(said)}"
    return Seen(text, rates[-1])


def cell_32(place):
    """The networks of the studies, with at most 64 channels."""
    return eager_and_graphs(place, 32, "--cfg", "demo", "--aug", "noaug", "--gamma", "0.1", "--batch", "16")


def fast_64(place):
    return eager_and_graphs(place, 64, *FAST, "--batch", "16")


def fast_256(place):
    return eager_and_graphs(place, 256, *FAST, "--batch", "32")


def auto_256(place):
    return eager_and_graphs(place, 256, "--cfg", "auto", "--batch", "16", "--aug", "ada", *augmentation())


def paper256_adamix(place):
    return eager_and_graphs(place, 256, "--cfg", "paper256", "--aug", "noaug", "--adamix", "--batch", "64")


def stylegan2_1024(place):
    return eager_and_graphs(place, 1024, "--cfg", "stylegan2", "--aug", "noaug", "--batch", "4")


def graphs_train_every_term(place):
    """Twenty steps with every term end as close to an eager run as a second eager run does."""
    return eager_and_replayed(place, *TERMS, *augmentation())


def graphs_train_fast(place):
    """The same for the phases of `--cfg fast`, which share images."""
    if place.small:
        raise Skipped("make_fx cannot record these phases")
    return eager_and_replayed(place, *FAST, "--adamix", "--batch-gpu", "8")


def eager_and_replayed(place, *args):
    ends = []
    for replayed in (False, False, True):
        run = run_of(place, 32, *args, "--batch", "16")
        lines = with_graphs(place, run) if replayed else []
        take_steps(run, 6 if place.small else 20)
        networks = zip("GD", run.networks)
        ends.append({f"{n}/{name}": p.clone() for n, net in networks for name, p in net.named_parameters()})
    noise, difference = apart(ends[1], ends[0]), apart(ends[2], ends[0])
    assert not lines, lines
    assert difference <= 10 * noise + 1e-6, f"{difference:.1e} from eager; two eager runs are {noise:.1e} apart"
    return Seen(f"{difference:.1e} from eager; two eager runs are {noise:.1e} apart")


def apart(a, b):
    """The norm of the difference of two dictionaries of tensors, divided by the norm of the second."""
    squares = [((a[name] - b[name]).double().square().sum(), b[name].double().square().sum()) for name in b]
    return (sum(s for s, _ in squares) / sum(s for _, s in squares)).sqrt().item()


def killed_run_with_graphs(place):
    """Like `killed_run`: a resumed run records its phases again."""
    if place.device.type != "cuda":
        raise Skipped("train.py --graphs needs CUDA")
    return killed_run(place, "--graphs", "1")


def layouts_and_tf32(place):
    """Channels last for half precision, and TF32: speed, and the cosine of TF32's gradient with float32's."""
    cuda, said, rate = place.device.type == "cuda", [], None
    for name, args, tf32 in (("plain", [], False), ("--nhwc 1", ["--nhwc", "1"], False), ("--allow-tf32 1", [], True)):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        run = run_of(place, 256, "--cfg", "auto", "--batch", "16", "--aug", "noaug", *args)
        every_phase(run, 1 if place.small else 2)
        rate = images_per_second(place, run)
        said.append(f"{name} {rate:.1f} images/s")
    exact_products()
    exact = phase_gradient(place, "Dmain", num_fp16_res=0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = cuda
    cosine = torch.nn.functional.cosine_similarity(phase_gradient(place, "Dmain", 0), exact, dim=0).item()
    exact_products()
    return Seen(f"{', '.join(said)}; cosine of TF32's gradient with float32's {cosine:.6f}")


SPEED = (draws_under_capture, cell_32, fast_64, fast_256, auto_256, paper256_adamix, graphs_train_every_term,
         graphs_train_fast, stylegan2_1024, layouts_and_tf32, killed_run_with_graphs)  # fmt: skip
