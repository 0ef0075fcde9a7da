"""The package in foreign code: hosts like StyleGAN2-ADA and StyleGAN3, several processes, the examples of the docs."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from places import ROOT
from tiny import Batch, HostStatistics, assert_close, gradients, tiny_batch, tiny_networks
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from stylegan2_adamix.features import SplitDiscriminator
from stylegan2_adamix.loss import StyleGAN2Loss

# ---------------------------------------------------------------------- a foreign code base's networks, 16x16


class ForeignBlock(nn.Module):
    def __init__(self, in_channels):
        super().__init__()
        self.first = in_channels == 0
        self.conv = nn.Conv2d(in_channels or 3, 6, 3, stride=2, padding=1)

    def forward(self, x, img):
        return self.conv(img if self.first else x).relu(), None


class ForeignEpilogue(nn.Module):
    def __init__(self, cmap_dim):
        super().__init__()
        self.out = nn.Linear(6 * 4 * 4, max(cmap_dim, 1))

    def forward(self, x, img, cmap):
        x = self.out(x.flatten(1))
        return x if cmap is None else (x * cmap).sum(1, keepdim=True)


class ForeignLabels(nn.Module):
    def __init__(self, c_dim):
        super().__init__()
        self.embed = nn.Linear(c_dim, 5)

    def forward(self, z, c):
        return self.embed(c)


class ForeignDiscriminator(nn.Module):
    """Has blocks and an epilogue, and neither `features` nor `head`."""

    def __init__(self, c_dim):
        super().__init__()
        self.c_dim, self.block_resolutions = c_dim, [16, 8]
        self.b16, self.b8, self.b4 = ForeignBlock(0), ForeignBlock(6), ForeignEpilogue(5 if c_dim else 0)
        if c_dim:
            self.mapping = ForeignLabels(c_dim)

    def forward(self, img, c):
        x, img = self.b8(*self.b16(None, img))
        return self.b4(x, img, self.mapping(None, c) if self.c_dim else None)


class ForeignMapping(nn.Module):
    """Like StyleGAN2-ADA's: updates w_avg unless skip_w_avg_update is set; the loss must always set it."""

    def __init__(self, c_dim):
        super().__init__()
        self.fc, self.w_avg_beta = nn.Linear(8 + c_dim, 8), 0.9
        self.register_buffer("w_avg", torch.zeros(8))

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, skip_w_avg_update=False):
        assert skip_w_avg_update
        return self.ws(z, c)

    def ws(self, z, c):
        return self.fc(torch.cat([z, c], dim=1))[:, None].repeat(1, 4, 1)


class ForeignMapping3(ForeignMapping):
    """Like StyleGAN3's: updates w_avg only if update_emas is set; the loss must not set it."""

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, update_emas=False):
        assert not update_emas
        return self.ws(z, c)


class ForeignSynthesis(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 3 * 16 * 16) for _ in range(4))

    def forward(self, ws):
        return sum(layer(w) for layer, w in zip(self.layers, ws.unbind(1))).reshape(-1, 3, 16, 16).tanh()


class ForeignSynthesis3(ForeignSynthesis):
    """Like StyleGAN3's, which tracks the magnitude of its activations."""

    updates = 0

    def forward(self, ws, update_emas=False):
        self.updates += update_emas
        return super().forward(ws)


class ForeignPipe(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("p", torch.zeros([]))

    def forward(self, img):
        return img * (1 + self.p * torch.randn(len(img), 1, 1, 1))


def foreign_networks(c_dim, mapping=ForeignMapping, synthesis=ForeignSynthesis):
    torch.manual_seed(0)
    G = nn.ModuleDict({"mapping": mapping(c_dim), "synthesis": synthesis()}).requires_grad_(False)
    return G, ForeignDiscriminator(c_dim).requires_grad_(False)


@pytest.fixture
def statistics(monkeypatch):
    host = HostStatistics()
    monkeypatch.setitem(sys.modules, "torch_utils.training_stats", host)
    return host


def train(loss, G, D, phases, batches, microbatches, host_arguments, after_step=lambda: None):
    """A host's loop. `phases`: name and interval; `host_arguments(last, cur_nimg)`: all but the images."""
    optimizers = {"G": torch.optim.Adam(G.parameters(), 1e-3), "D": torch.optim.Adam(D.parameters(), 1e-3)}
    cur_nimg = 0
    for step, batch in enumerate(batches):
        for name, interval in phases:
            if step % interval:
                continue
            module, optimizer = (G if name[0] == "G" else D), optimizers[name[0]]
            optimizer.zero_grad(set_to_none=True)
            module.requires_grad_(True)
            for i, microbatch in enumerate(batch.microbatches(microbatches)):
                loss.accumulate_gradients(
                    phase=name, **microbatch._asdict(), gain=interval, **host_arguments(i == microbatches - 1, cur_nimg)
                )
            module.requires_grad_(False)
            assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters()), name
            optimizer.step()
        cur_nimg += len(batch.real_img)
        after_step()


@pytest.mark.parametrize("c_dim", [0, 3])
def test_a_stylegan2_ada_host_trains_and_its_ada_reads_the_signs(c_dim, statistics):
    G, D = foreign_networks(c_dim)
    pipe = ForeignPipe()
    loss = StyleGAN2Loss(
        device="cpu", G_mapping=G.mapping, G_synthesis=G.synthesis, D=D, augment_pipe=pipe, style_mixing_prob=0.9,
        r1_gamma=1, pl_batch_shrink=2, pl_decay=0.01, pl_weight=2,
        sdp={"start_kimg": 0.02, "k": 16}, aw=True, lecam=1e-3, batch_size=8,
    )  # fmt: skip

    def ada():
        reports = torch.cat([v.flatten() for v in statistics.values["Loss/signs/real"]])
        assert set(reports.tolist()) <= {-1.0, 0.0, 1.0} and len(reports) >= 8
        adjust = torch.sign(statistics.mean("Loss/signs/real") - 0.6) * 0.1
        pipe.p.copy_((pipe.p + adjust).clamp(min=0))

    batches = [tiny_batch(8, c_dim, seed, resolution=16) for seed in range(6)]
    D.b4.out.bias.data += 3  # at first D takes all images for real, so ADA must raise p
    if c_dim:
        D.mapping.embed.bias.data += 1
    D_before = [p.clone() for p in D.parameters()]
    phases = [("Gmain", 1), ("Greg", 2), ("Dmain", 1), ("Dreg", 3)]
    train(loss, G, D, phases, batches, 2, lambda last, cur_nimg: {"sync": last}, ada)

    assert pipe.p > 0
    assert all(not torch.equal(a, b) for a, b in zip(D_before, D.parameters()))
    assert G.mapping.w_avg.abs().sum() > 0
    family = {"Loss/G/loss", "Loss/D/loss", "Loss/r1_penalty", "Loss/pl_penalty", "Loss/G/reg", "Loss/D/reg"}
    family |= {f"Loss/{what}/{kind}" for what in ("scores", "signs") for kind in ("real", "fake")}
    assert family - {"Loss/signs/real"} <= statistics.values.keys()
    assert {"Loss/adamix/real", "Loss/sdp/D/score", "Loss/aw/angle", "Loss/lecam/real"} <= statistics.values.keys()


def test_the_loss_counts_images_if_the_host_does_not_pass_cur_nimg(statistics):
    G, D = foreign_networks(0)
    loss = StyleGAN2Loss("cpu", G.mapping, G.synthesis, D, sdp={"start_kimg": 0.02, "k": 1}, batch_size=8)
    active = []
    for seed in range(4):
        for phase in ("Gmain", "Dmain"):
            gradients(
                loss, G if phase == "Gmain" else D, phase, tiny_batch(8, seed=seed, resolution=16), microbatches=2
            )
        active.append(statistics.values.pop("Loss/sdp/D/score", None) is not None)
    assert active == [False, False, True, True]  # 8, 16, 24, 32 images


def test_a_stylegan3_host_trains_with_its_own_defaults(statistics):
    G, D = foreign_networks(3, ForeignMapping3, ForeignSynthesis3)
    loss = StyleGAN2Loss(
        device=torch.device("cpu"), G=G, D=D, augment_pipe=ForeignPipe(), r1_gamma=1, pl_no_weight_grad=False,
        blur_init_sigma=2, blur_fade_kimg=0.03,
    )  # fmt: skip
    batches = [tiny_batch(8, 3, seed, resolution=16) for seed in range(5)]
    phases = [("Gboth", 1), ("Dmain", 1), ("Dreg", 2)]
    train(loss, G, D, phases, batches, 2, lambda last, cur_nimg: {"cur_nimg": cur_nimg})
    assert G.synthesis.updates == 5 * 2  # in D's main phase, every microbatch
    before = G.mapping.w_avg.clone()
    gradients(loss, G, "Gboth", batches[0])
    assert torch.equal(G.mapping.w_avg, before)  # only D's main phases update w_avg, as in the host's own loss
    assert "Loss/pl_penalty" not in statistics.values and loss.core.host.style_mixing_prob == 0
    assert {"Loss/signs/real", "Loss/G/loss", "Loss/r1_penalty"} <= statistics.values.keys()


def test_the_positional_arguments_of_stylegan3s_loss_are_accepted():
    G, D = foreign_networks(0)
    loss = StyleGAN2Loss("cpu", G, D)
    host = loss.core.host
    assert (host.G_mapping, host.G_synthesis, host.D) == (G.mapping, G.synthesis, D)


@pytest.mark.parametrize("c_dim", [0, 3])
def test_a_foreign_discriminator_is_split_into_features_and_head(c_dim):
    _, D = foreign_networks(c_dim)
    batch = tiny_batch(4, c_dim, resolution=16)
    split = SplitDiscriminator(D)
    features, maps = split.features(batch.real_img, blocks=True)
    assert torch.equal(split.head(features, batch.real_c), D(batch.real_img, batch.real_c))
    assert [tuple(m.shape[1:]) for m in maps] == [(6, 8, 8), (6, 4, 4)]


# ---------------------------------------------------------------------- several processes

SETTINGS = {
    "plain": {"adamix": None, "lecam": 0.1},
    "adamix": {"style_mixing_prob": 0.9},
    "aw": {"aw": True, "sdp": {"start_kimg": 0, "k": 32}, "batch_size": 8},
    "wgan": {"objective_name": "wgan"},  # without R1, so that Dreg has no gradient
}
DISTRIBUTED_PHASES = ("Gmain", "Greg", "Dmain", "Dreg", "Dboth")


def distributed_run(rank, world, wrap, pass_sync):
    """Gradients and w_avg of every setting and phase, from this process's share of a batch's four microbatches."""
    results = {}
    for setting, kwargs in SETTINGS.items():
        G, D = tiny_networks()
        modules = [G.mapping, G.synthesis, D]
        if wrap:
            modules = [
                DistributedDataParallel(m.requires_grad_(True), broadcast_buffers=False).requires_grad_(False)
                for m in modules
            ]
        loss = StyleGAN2Loss("cpu", *modules, **{"style_mixing_prob": 0, **kwargs})
        for phase in DISTRIBUTED_PHASES:
            module = G if phase[0] == "G" else D
            for m in modules[:2] if phase[0] == "G" else modules[2:]:
                m.requires_grad_(True).zero_grad(set_to_none=True)
            mine = range(rank * 4 // world, (rank + 1) * 4 // world)
            for i in mine:
                torch.manual_seed(i)
                sync = {"sync": i == mine[-1]} if pass_sync else {}
                microbatch = Batch(*tiny_batch(8).microbatches(4)[i])
                loss.accumulate_gradients(phase, **microbatch._asdict(), gain=1 / len(mine), **sync)
            module.requires_grad_(False)
            grads = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in module.named_parameters()}
            if world > 1 and not wrap:  # the host averages gradients
                for g in grads.values():
                    torch.distributed.all_reduce(g)
                    g /= world
            results[f"{setting} {phase}"] = {n: g.clone() for n, g in grads.items()}
            module.zero_grad(set_to_none=True)
        results[f"{setting} averages"] = {
            "w_avg": G.mapping.w_avg.clone(),
            "pl_mean": loss.core.terms["pl"].mean.average.clone(),
        }
    return results


def distributed_process(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    runs = [distributed_run(rank, 2, wrap=True, pass_sync=True), distributed_run(rank, 2, wrap=False, pass_sync=False)]
    torch.save(runs, f"{folder}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_gradients_of_one(tmp_path):
    """With wrapped networks, like StyleGAN2-ADA, and with bare ones, like StyleGAN3, which never passes `sync`."""
    torch.multiprocessing.spawn(distributed_process, (str(tmp_path),), nprocs=2)
    expected = distributed_run(0, 1, wrap=False, pass_sync=True)
    for first, second in zip(*(torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))):
        for name in expected:
            assert_close(first[name], second[name], rtol=0, atol=0)
            assert_close(first[name], expected[name], rtol=1e-6)


# ---------------------------------------------------------------------- the package by itself


def test_the_package_imports_within_50_ms_and_needs_only_torch(tmp_path):
    shutil.copytree(ROOT / "stylegan2_adamix", tmp_path / "stylegan2_adamix")
    # The best of five imports: the first one compiles the files, and other work on the machine slows any of them.
    code = f"""
import importlib, sys, time
import torch
before = set(sys.modules)
sys.path.insert(0, {str(tmp_path)!r})
seconds = []
for _ in range(5):
    for name in set(sys.modules) - before:
        del sys.modules[name]
    start = time.process_time()
    importlib.import_module("stylegan2_adamix.loss")
    seconds.append(time.process_time() - start)
print(min(seconds))
print(*sorted({{name.split(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names)))
"""
    output = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    seconds, modules = output.splitlines()
    assert float(seconds) < 0.05
    assert set(modules.split()) <= {"stylegan2_adamix", "torch"}


DOCS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "plugin.md").read_text(), re.DOTALL)
HOST_BLOCKS = [block for block in DOCS if "loss_kwargs" in block]
FIRST_LOOP, *LOOPS = [block for block in DOCS if block not in HOST_BLOCKS]
# What to change in a loop of the docs to remove its term.
WITHOUT = {
    "AdaptiveMix": ("+ mix.weight * distance", "+ 0 * distance"),
    "SampleDifferences": ("+ sdp.weight * ", "+ 0 * "),
    "AdaptiveWeights": ("aw = AdaptiveWeights()", "aw = AdaptiveWeights(alpha1=1, alpha2=1)"),
    "PseudoAugmentation": ("apa.p += 0.01", "apa.p += 0"),
    "LeCam": ("+ lecam.weight * ", "+ 0 * "),
}


def run_docs(*blocks):
    """The weights of G and D after the blocks, run in one namespace."""
    torch.manual_seed(0)
    namespace = {}
    for block in blocks:
        exec(compile(block, "docs/plugin.md", "exec"), namespace)
    return {f"{n}.{name}": p.detach() for n in "GD" for name, p in namespace[n].named_parameters()}


@pytest.mark.parametrize("block", LOOPS, ids=lambda block: re.search(r"import (\w+)", block)[1])
def test_a_loop_of_the_docs_trains_both_networks_and_its_term_has_an_effect(block):
    start, trained = run_docs(FIRST_LOOP), run_docs(FIRST_LOOP, block)
    for name, p in trained.items():
        assert p.isfinite().all() and not torch.equal(p, start[name]), name
    ((old, new),) = [change for term, change in WITHOUT.items() if re.search(rf"import {term}\n", block)]
    assert block.count(old) == 1
    without = run_docs(FIRST_LOOP, block.replace(old, new))
    assert all(not torch.equal(p, without[name]) for name, p in trained.items() if name.startswith("D."))


def test_options_of_the_docs_build_the_loss_that_they_describe(statistics):
    args, c = (SimpleNamespace(loss_kwargs=SimpleNamespace(), batch_size=8) for _ in range(2))
    for block in HOST_BLOCKS:
        exec(compile(block, "docs/plugin.md", "exec"), {"args": args, "c": c})
    G, D = foreign_networks(0)
    losses, reports = [], []
    for options, networks in ((args, {"G_mapping": G.mapping, "G_synthesis": G.synthesis}), (c, {"G": G})):
        kwargs = dict(vars(options.loss_kwargs))
        module, name = kwargs.pop("class_name").rsplit(".", 1)
        losses.append(getattr(importlib.import_module(module), name)(device="cpu", D=D, **networks, **kwargs))
        grads = gradients(losses[-1], D, "Dmain", tiny_batch(8, resolution=16))
        assert any(g.abs().max() > 0 for g in grads.values())
        reports.append({name.split("/")[1] for name in statistics.values})
        statistics.values.clear()
    ada, three = (loss.core.terms for loss in losses)
    assert (ada["adamix"].noise_std, ada["adamix"].variant, ada["adamix"].pairs) == (0.05, "paper", "within")
    assert (ada["sdp"].weight, ada["sdp"].start_kimg, ada["lecam"].weight) == (0.01, 192, 3e-7)
    assert three["adamix"].pairs == "cross" and not {"sdp", "lecam"} & three.keys()
    assert {"adamix", "aw", "lecam"} <= reports[0] and not {"aw", "lecam"} & reports[1]


def snippet(name):
    """The namespace after the block of the docs that defines the function `name`."""
    blocks = re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "plugin.md").read_text(), re.DOTALL)
    (block,) = (block for block in blocks if f"def {name}(" in block)
    scope = {}
    exec(compile(block, "docs/plugin.md", "exec"), scope)
    return scope


def test_the_docs_make_every_term_an_option_of_a_hosts_command():
    click, scope = pytest.importorskip("click"), snippet("take_terms")
    command = click.command()(scope["term_options"](lambda **options: None))
    words = ["--adamix", "--adamix-noise", "0.1", "--adamix-pairs", "cross", "--aw", "--aw-normalize", "1"]
    options = command.make_context("train", [*words, "--lecam", "1e-6", "--sdp-k", "3"]).params
    terms = scope["take_terms"](options)
    assert options == {}
    assert terms == {
        "adamix": {"noise_std": 0.1, "pairs": "cross"}, "aw": {"normalize": True},
        "lecam": {"weight": 1e-6}, "sdp": None, "r2": None,
    }  # fmt: skip
    G, D = foreign_networks(0)
    loss = StyleGAN2Loss("cpu", G.mapping, G.synthesis, D, **terms)
    assert set(loss.core.terms) >= {"adamix", "lecam"} and not {"sdp", "r2"} & set(loss.core.terms)
    assert loss.core.terms["adamix"].noise_std == 0.1
    off = scope["take_terms"](command.make_context("train", []).params)
    assert off == dict.fromkeys(terms)


def test_the_docs_compare_runs_of_a_host_by_paired_differences(tmp_path, capsys):
    pytest.importorskip("scipy")
    for name, figures in (("a", [30.0, 40.0, 50.0]), ("b", [29.0, 38.0, 47.0])):
        for seed, figure in enumerate(figures):
            (tmp_path / f"{name}{seed}").mkdir()
            lines = [json.dumps({"results": {"fid50k_full": value}}) for value in (400.0, figure)]
            (tmp_path / f"{name}{seed}" / "metric-fid50k_full.jsonl").write_text("\n".join(lines))
    runs = [[tmp_path / f"{name}{seed}" for seed in range(3)] for name in "ab"]
    snippet("compare")["compare"](*runs)
    # differences -1, -2, -3: mean -2, standard error 1 / sqrt(3), t(0.975, 2) = 4.3027
    assert capsys.readouterr().out == "-2.00, 95% interval -4.48 to +0.48, 3 seeds\n"


def test_adaptivemix_is_on_unless_switched_off():
    G, D = tiny_networks()
    assert StyleGAN2Loss("cpu", G.mapping, G.synthesis, D).core.terms.get("adamix") is not None
    assert StyleGAN2Loss("cpu", G.mapping, G.synthesis, D, adamix=False).core.terms.get("adamix") is None
