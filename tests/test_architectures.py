"""training.architectures: the registry, and what every architecture in it can do."""

import copy
import json

import numpy as np
import PIL.Image
import pytest
import safetensors
import safetensors.torch
import torch
from tiny import tiny_networks
from train_runs import TINY, assert_same_state, dry_run, make_run, refusal, run_here, take_steps, write_images

import directions
import export
import generate
import projector
import style_mixing
import train
from dnnlib.util import UserError
from stylegan2_adamix.objectives import OBJECTIVES
from tools.export.graph import ImageFunction
from tools.sampling.synthesis import truncate
from tools.viewer.sampler import Sampler
from torch_utils.misc import to_uint8
from training.architectures import NORMS, architecture, build, check
from training.architectures.biggan import ConditionalNorm
from training.architectures.frozen import freeze
from training.optimizer import Decay
from training.options import from_values
from training.snapshot import load_networks, save_snapshot

PLAIN = ("dcgan", "sngan-cnn", "sngan-resnet", "autogan", "biggan")
CONDITIONAL = ("biggan",)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Options for 24 images of 32x32 with three classes."""
    folder = write_images(tmp_path_factory.mktemp("images"), [32] * 24)
    (folder / "dataset.json").write_text(json.dumps({"labels": [[f"img{i}.png", i % 3] for i in range(24)]}))
    return ["--data", folder, "--workers", "0", "--metrics", "none"]


@pytest.fixture
def narrow(images):
    """Options for the smallest plain networks on these images."""
    return [*TINY, "--resolution", "32", "--aug", "noaug", "--width", "0.03", *images]


def plain_networks(name, width=4, **D_arguments):
    """G, D and three labels [3, c_dim] of a plain GAN at 32x32."""
    c = torch.eye(3)[:, : 3 if name in CONDITIONAL else 0]
    size = {"c_dim": c.shape[1], "img_resolution": 32, "img_channels": 3, "width": width}
    return build(name, "G", {"z_dim": 128, **size}), build(name, "D", size | D_arguments), c


def rewritten(path, change):
    """The snapshot with the description of its networks changed in place."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    networks = json.loads(metadata["networks"])
    for network in networks.values():
        change(network)
    metadata["networks"] = json.dumps(networks)
    path.write_bytes(safetensors.torch.save(safetensors.torch.load_file(path), metadata))
    return path


@pytest.fixture
def snapshot(tmp_path):
    G, D = tiny_networks()
    save_snapshot(tmp_path / "a.safetensors", G, D, G)
    return tmp_path / "a.safetensors"


def test_an_unknown_architecture_is_refused_in_one_line(tmp_path):
    message = refusal(train.main, "--outdir", tmp_path, "--g-arch", "stylegan9")
    assert "--g-arch" in message and "stylegan2" in message
    with pytest.raises(UserError, match="--d-arch: unknown D stylegan9; give one of stylegan2"):
        architecture("stylegan9", "D")


def test_a_snapshot_names_its_architecture_and_one_without_a_name_is_stylegan2(snapshot):
    described = load_networks(snapshot)
    assert described["G"].architecture == described["D"].architecture == "stylegan2"
    older = load_networks(rewritten(snapshot, lambda network: network.pop("architecture")))
    assert all(torch.equal(a, b) for a, b in zip(described["G"].parameters(), older["G"].parameters()))


@pytest.mark.parametrize("name", ["stylegan9", ["stylegan2"], None])
def test_a_snapshot_of_an_unknown_architecture_is_refused_in_one_line(snapshot, name):
    rewritten(snapshot, lambda network: network.update(architecture=name))
    with pytest.raises(UserError, match=r"a.safetensors: its G has the architecture .* lacks"):
        load_networks(snapshot)


def test_options_without_architectures_mean_stylegan2(tmp_path):
    values = dry_run(tmp_path, "--cfg", "demo", "--data", "twemoji", "--resolution", "8", "--metrics", "none")
    assert values["networks"].pop("G_arch") == values["networks"].pop("D_arch") == "stylegan2"
    check(from_values(values))


def test_frozen_parts_compute_the_same_and_are_neither_trained_nor_stored():
    part = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    x = torch.randn(2, 3, 8, 8)
    before = part(x)
    assert torch.equal(freeze(part)(x), before)
    assert not list(part.parameters()) and not part.state_dict()


# ---- The papers' plain GANs: networks


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", PLAIN)
def test_plain_networks_map_z_to_images_and_images_to_logits(name, norm):
    G, D, c = plain_networks(name, norm=norm)
    img = G(torch.randn(3, 128), c)
    assert img.shape == (3, 3, 32, 32) and img.abs().max() <= 1
    features, maps = D.features(img, blocks=True)
    assert torch.equal(features, maps[-1]) and D.head(features, c).shape == (3, 1)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in D.modules()) == (norm == "batch")


@pytest.mark.parametrize("name", PLAIN)
def test_truncation_scales_z_and_keeps_the_class(name):
    G, _, c = plain_networks(name)
    z = torch.randn(3, 128)
    assert torch.equal(G.mapping(z, c, truncation_psi=0.5)[:, 0], torch.cat([z * 0.5, c], dim=1))


def test_spectral_normalisation_makes_every_layer_of_d_1_lipschitz():
    torch.manual_seed(0)
    _, D, _ = plain_networks("sngan-cnn", norm="spectral")
    for _ in range(200):  # power iterations
        D(torch.zeros(1, 3, 32, 32), None)
    D.eval()
    weights = [m.weight.flatten(1) for m in D.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    largest = [float(torch.linalg.svdvals(w.detach())[0]) for w in weights]
    assert len(largest) == 8 and largest == pytest.approx([1] * 8, abs=0.01)


def test_an_average_head_is_the_mean_of_the_features():
    _, D, _ = plain_networks("dcgan", norm="none", average=True)
    img = torch.randn(2, 3, 32, 32)
    assert torch.allclose(D(img, None)[:, 0], D.features(img).mean(dim=[1, 2, 3]))


def test_biggans_images_depend_on_the_class_and_its_d_projects_the_class():
    """The projection is an inner product of the class's row with the pooled features, added to the plain logit."""
    torch.manual_seed(0)
    G, D, labels = plain_networks("biggan", norm="spectral")
    for module in G.modules():
        if isinstance(module, ConditionalNorm):
            torch.nn.init.normal_(module.scale.weight)
    z, c = torch.randn(1, 128).expand(2, -1), labels[[0, 2]]
    assert not torch.allclose(*G.eval()(z, c).unbind())
    features = D.eval().features(torch.randn(2, 3, 32, 32))
    pooled = features.relu().sum(dim=[2, 3])
    for i, label in enumerate((0, 2)):
        expected = pooled[i] @ D.out.weight[0] + D.out.bias[0] + pooled[i] @ D.classes.weight[:, label]
        assert D.head(features, c)[i].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["sngan-resnet", "autogan", "biggan"])
def test_untrained_images_differ_with_z(name):
    """If all z gave one image, D would recognise it at once."""
    torch.manual_seed(0)
    G, _, c = plain_networks(name, width=16)
    assert G(torch.randn(32, 128), c[:1].expand(32, -1)).std(dim=0).mean() > 0.1


def test_autogans_second_cell_adds_the_first_cells_map_to_its_own():
    """As in the public code, which also normalises the last feature map."""
    G, _, _ = plain_networks("autogan")
    first, second, third = G.synthesis.cells
    assert [len(cell.joins) for cell in (first, second, third)] == [0, 1, 2] and third.shortcut is None
    assert isinstance(G.synthesis.image[0], torch.nn.BatchNorm2d)
    x, middle = first(torch.randn(2, 16, 4, 4), [])
    larger = torch.nn.functional.interpolate
    expected = second.one(larger(x.relu(), scale_factor=2, mode="bilinear"))
    expected = expected + second.joins[0](larger(middle, scale_factor=2, mode="bilinear"))
    assert torch.allclose(second(x, [middle])[1], expected, atol=1e-6)


def test_initial_weights_and_widths_are_the_published_ones():
    G, D, _ = plain_networks("dcgan", width=64)
    for layer in (*G.modules(), *D.modules()):
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1) and not layer.bias.any()
    with torch.device("meta"):
        widths = {name: plain_networks(name, width=64)[:2] for name in ("sngan-resnet", "autogan", "biggan")}
    assert {name: (G.synthesis.first.out_features // 16, D.out.in_features) for name, (G, D) in widths.items()} == {
        "sngan-resnet": (256, 128),
        "autogan": (256, 128),
        "biggan": (256, 256),
    }


@pytest.mark.parametrize("name", PLAIN)
def test_generate_draws_from_a_snapshot_of_a_plain_gan(tmp_path, name):
    G, D, c = plain_networks(name, norm="spectral")
    G(torch.randn(8, 128), c[:1].expand(8, -1))  # running statistics
    save_snapshot(tmp_path / "a.safetensors", G, D, G)
    label = ["--class", "0"] if c.shape[1] else []
    network = ["--network", str(tmp_path / "a.safetensors"), "--seeds", "3", "--trunc", "0.7"]
    generate.main.main([*network, "--outdir", str(tmp_path), *label], standalone_mode=False)
    z = torch.from_numpy(np.random.RandomState(3).randn(1, 128).astype(np.float32))
    with torch.no_grad():
        expected = to_uint8(G.eval()(0.7 * z, c[:1]))[0].permute(1, 2, 0).numpy()
    assert np.array_equal(np.asarray(PIL.Image.open(tmp_path / "seed0003.png")), expected)
    loaded = load_networks(tmp_path / "a.safetensors")
    assert (loaded["G"].architecture, loaded["D"].init_kwargs) == (name, D.init_kwargs)


# ---- The papers' plain GANs: training


@pytest.mark.parametrize("words", [["--cfg", "dcgan", "--objective", name] for name in OBJECTIVES] + [
    ["--cfg", "sngan-cnn", "--aw", "--adamix", "--sdp", "--sdp-start", "0"],
    ["--cfg", "sngan", "--objective", "wgan-gp", "--d-norm", "none", "--lecam", "0.1"],
    ["--cfg", "dcgan", "--objective", "wgan", "--d-average", "--adamix"],
    ["--cfg", "dcgan", "--gamma", "1", "--aug", "apa"],
    ["--cfg", "biggan", "--aw", "--adamix", "--sdp", "--sdp-start", "0"],
])  # fmt: skip
def test_every_objective_and_term_trains_both_players(tmp_path, narrow, words):
    run = make_run(tmp_path, *narrow, *words)
    before = [[p.clone() for p in net.parameters()] for net in run.networks[:2]]
    take_steps(run, 1)
    for net, old in zip(run.networks, before):
        assert all(p.isfinite().all() for p in net.parameters())
        assert any(not torch.equal(p, o) for p, o in zip(net.parameters(), old))


def test_a_resumed_plain_gan_has_the_bits_of_an_uninterrupted_run(tmp_path, narrow):
    """With batch and spectral normalisation, several steps of D, a decay of the learning rates and an average of G."""
    words = [*narrow, "--cfg", "autogan", "--d-steps", "3", "--decay-kimg", "0.064", "--adamix", "--aw"]
    whole = run_here("--outdir", tmp_path / "whole", *words, "--kimg", "0.064")
    half = run_here("--outdir", tmp_path / "half", *words, "--kimg", "0.032")
    assert run_here("--outdir", tmp_path / "half", "--resume", "latest", "--kimg", "0.064") == half
    assert_same_state(half, whole)
    lines = [(run / "stats.jsonl").read_text().splitlines()[-1] for run in (whole, half)]
    assert all(json.loads(line)["Loss/strength/adamix"]["mean"] > 0 for line in lines[:1])


def test_with_n_d_steps_g_takes_every_nth_step_with_a_gain_of_1(tmp_path, narrow):
    """Each step of D sees another batch. G's gradient is not scaled, unlike that of a lazy regulariser."""
    run = make_run(tmp_path, *narrow, "--cfg", "sngan", "--d-steps", "3")
    assert [(phase.name, phase.interval, phase.gain) for phase in run.step.phases] == [("Gmain", 3, 1), ("Dmain", 1, 1)]
    moved, seen = [], []
    data = iter([torch.full([8, 3, 32, 32], i, dtype=torch.uint8) for i in range(6)])
    run.step.loss.report = lambda name, value: None
    for batch in data:
        before = [next(net.parameters()).clone() for net in run.networks[:2]]
        run.step(batch, torch.zeros([8, 0]), lambda images, where: seen.append(where.split()[4]))
        moved.append([not torch.equal(next(net.parameters()), b) for net, b in zip(run.networks, before)])
    assert moved == [[True, True], [False, True], [False, True]] * 2
    assert seen == ["Gmain", "Dmain", "Dmain", "Dmain"] * 2


def test_autogans_g_learns_from_the_mean_over_two_batches_of_generated_images(tmp_path, narrow, monkeypatch):
    run = make_run(tmp_path, *narrow, "--cfg", "autogan", "--d-norm", "none", "--batch-gpu", "4")
    (index, phase), *_ = enumerate(run.step.phases)
    seen, found, compute = [], [], run.step.loss.compute

    def microbatch(real_img, real_c, gen_z, gen_c, gain, last):
        seen.append((real_img, gen_z, gain, last))
        compute(real_img, real_c, gen_z, gen_c, gain=gain, last=last)

    parameters = list(phase.module.parameters())
    monkeypatch.setattr(run.step.loss, "compute", microbatch)
    monkeypatch.setattr(phase.optimizer, "step", lambda: found.extend(p.grad.clone() for p in parameters))
    run.step.run_phases([index], torch.rand(8, 3, 32, 32), torch.zeros(8, 0))
    assert len({tuple(z.flatten().tolist()) for _, z, *_ in seen}) == 4 and sum(gain for *_, gain, _ in seen) == 1
    assert torch.equal(seen[0][0], seen[2][0]) and torch.equal(seen[1][0], seen[3][0]), "both halves use the same reals"
    assert [last for *_, last in seen] == [False, False, False, True]
    G, D = run.networks[:2]
    G.requires_grad_(True)
    values = [-D(G(z, torch.zeros(4, 0)), None).mean() / 4 for _, z, *_ in seen]
    expected = torch.autograd.grad(sum(values), parameters)
    for ours, theirs in zip(found, expected):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


def test_learning_rates_fall_linearly_and_the_options_hold_the_end(tmp_path, narrow):
    words = [*narrow, "--cfg", "sngan", "--kimg", "10"]
    written = dry_run(tmp_path, *words)["networks"]
    assert (written["decay_start_kimg"], written["decay_end_kimg"], written["decay_factor"]) == (0, 10, 0)
    given = dry_run(tmp_path, *words, "--decay-kimg", "4")["networks"]
    assert given["decay_end_kimg"] == 4
    assert dry_run(tmp_path, *TINY)["networks"]["decay_end_kimg"] is None
    adam = torch.optim.Adam([torch.zeros(1)], lr=0.2)
    decay = Decay([adam], start=6, end=10, factor=0.05)
    rates = []
    for kimg in (0, 6, 8, 10, 99):
        decay.apply(kimg)
        rates.append(adam.param_groups[0]["lr"])
    assert rates == pytest.approx([0.2, 0.2, 0.105, 0.01, 0.01])


def test_a_run_that_is_longer_than_its_decay_to_0_logs_it(tmp_path, narrow):
    words = [*narrow, "--cfg", "sngan", "--kimg", "0.016"]
    run = run_here("--outdir", tmp_path, *words)
    line = "the learning rates are 0 from 0.016 kimg on"
    assert line not in (run / "log.txt").read_text()
    run_here("--outdir", tmp_path, "--resume", "latest", "--kimg", "0.032")
    assert line in (run / "log.txt").read_text()
    assert json.loads((run / "training_options.json").read_text())["networks"]["decay_end_kimg"] == 0.016


def test_optimisers_are_those_of_the_papers(tmp_path, narrow):
    def optimizers(*words):
        networks = dry_run(tmp_path, *narrow, *words)["networks"]
        return networks["G_optimizer"], networks["D_optimizer"]

    adam = {"algorithm": "adam", "eps": 1e-8, "lr": 0.0002}
    assert optimizers("--cfg", "dcgan") == (adam | {"betas": [0.5, 0.999]},) * 2
    assert optimizers("--cfg", "sngan") == (adam | {"betas": [0.0, 0.9]},) * 2
    assert optimizers("--cfg", "biggan") == (adam | {"betas": [0.0, 0.999]},) * 2
    assert optimizers("--cfg", "dcgan", "--objective", "wgan") == ({"algorithm": "rmsprop", "lr": 0.00005},) * 2
    G, D = optimizers("--cfg", "dcgan", "--glr", "0.1", "--dlr", "0.3")
    assert (G["lr"], D["lr"]) == (0.1, 0.3)


def test_g_ema_averages_running_statistics_like_weights_and_copies_counters(tmp_path, narrow):
    run = make_run(tmp_path, *narrow, "--cfg", "autogan")
    G, _, G_ema, _ = run.networks
    take_steps(run, 1)
    before = copy.deepcopy(G_ema.state_dict())
    run.position.cur_nimg = 16  # the ramp: a half-life of 5% of that
    take_steps(run, 1)
    beta = 0.5 ** (8 / (0.05 * 16))
    for name, tensor in G_ema.state_dict().items():
        now = G.state_dict()[name]
        copied = name.endswith(("num_batches_tracked", "w_avg"))
        expected = now if copied else before[name] * beta + now * (1 - beta)
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6, msg=name)
    assert any(name.endswith("running_var") for name in before)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--cfg", "sngan", "--cond", "1"], "sngan-resnet do not use labels: leave --cond out"),
        (["--cfg", "biggan", "--cond", "0"], "biggan need labels"),
        (["--cfg", "dcgan", "--objective", "wgan", "--d-norm", "spectral"], "clips weights"),
        (["--cfg", "dcgan", "--map", "2"], "--map has no effect on the generator dcgan and the discriminator dcgan"),
        (["--cfg", "dcgan", "--freezed", "2"], "--freezed has no effect"),
        (["--cfg", "biggan", "--d-average"], "--d-average ignores the class"),
        (["--cfg", "fast", "--width", "0.5"], "--width has no effect on the generator fast"),
        (["--cfg", "demo", "--d-norm", "layer"], "--d-norm has no effect"),
        (["--cfg", "dcgan", "--g-arch", "fast"], "this --cfg has no widths for the architectures stylegan2 and fast"),
        (["--cfg", "sngan", "--d-arch", "stylegan2"], "this --cfg has no widths"),
        (["--cfg", "sngan", "--aug", "apa"], "here D has 5 steps for each of G's: add --d-steps 1"),
    ],
)
def test_options_that_an_architecture_lacks_are_refused_in_one_line(tmp_path, images, words, expected):
    assert expected in refusal(train.main, "--outdir", tmp_path, *images, *words)


def test_width_is_a_share_of_the_channels_of_stylegan2(tmp_path, images):
    networks = dry_run(tmp_path, *images, "--cfg", "demo", "--width", "0.5")["networks"]
    for arguments in (networks["G"]["synthesis_kwargs"], networks["D"]):
        assert (arguments["channel_base"], arguments["channel_max"]) == (512, 32)
    assert "give a larger --width" in refusal(train.main, "--outdir", tmp_path, *images, "--width", "0.001")


def test_plain_gans_refuse_images_of_another_size_in_one_line(tmp_path):
    data = ["--data", write_images(tmp_path / "images", [16] * 4), "--metrics", "none"]
    message = refusal(train.main, "--outdir", tmp_path, *data, "--cfg", "dcgan")
    assert "need images of 32x32, not 16x16" in message and "dataset_tool.py" in message


def test_weights_of_another_architecture_are_refused_in_one_line(tmp_path, images):
    G, D, _ = plain_networks("dcgan", norm="spectral")
    save_snapshot(tmp_path / "a.safetensors", G, D, G)
    message = refusal(train.main, "--outdir", tmp_path, *images, "--resume", tmp_path / "a.safetensors")
    assert "has a G of the architecture dcgan, not stylegan2" in message and "--g-arch dcgan" in message


# ---- Tools


def saved(path, name):
    G, D, c = plain_networks(name, norm="spectral")
    G(torch.randn(8, 128), c[:1].expand(8, -1))
    save_snapshot(path, G, D, G)
    return path, G.eval(), c


@pytest.mark.parametrize("command", [
    [style_mixing, "--rows", "0", "--cols", "1", "--outdir", "out"],
    [directions, "--outdir", "out"],
    [directions, "--outdir", "out", "--apply", "pca0:1"],
    [export, "--to", "rosinality", "--out", "out"],
])  # fmt: skip
@pytest.mark.parametrize("name", ["sngan-resnet", "biggan"])
def test_tools_for_styles_refuse_a_network_without_styles_in_one_line(tmp_path, monkeypatch, name, command):
    monkeypatch.chdir(tmp_path)
    path, _, c = saved(tmp_path / "a.safetensors", name)
    tool, *words = command
    label = ["--class", "0"] if c.shape[1] and tool is not export else []
    message = refusal(tool.main, "--network", path, *words, *label)
    assert f"the architecture {name} has none" in message or "a network without classes" in message
    assert not (tmp_path / "out").exists()


def test_other_tools_take_a_network_without_styles_and_truncation_keeps_its_class(tmp_path):
    path, G, c = saved(tmp_path / "a.safetensors", "biggan")
    for module in G.modules():
        if isinstance(module, ConditionalNorm):
            torch.nn.init.normal_(module.scale.weight)
    z = torch.randn(2, 128)
    with torch.no_grad():
        expected = G(0.5 * z, c[:2])
        assert torch.equal(G.synthesis(truncate(G, G.mapping(z, c[:2]), 0.5)), expected)
        assert torch.allclose(ImageFunction(G)(z, torch.tensor([0.5]), {}, c[:2]), expected, atol=1e-6)
    sampler = Sampler(G, {})
    assert sampler.controls.keys() == {"seed", "psi", "class"}
    assert sampler.draw({"seed": 3, "psi": 0.5, "class": c[:1]}).shape == (3, 32, 32)
    video = ["--network", str(path), "--video", str(tmp_path / "a.gif"), "--seeds", "0,1", "--seconds", "0.1"]
    generate.main.main([*video, "--class", "1", "--trunc", "0.5"], standalone_mode=False)
    assert (tmp_path / "a.gif").stat().st_size > 0
    target = ["--target", str(write_images(tmp_path / "target", [32])), "--num-steps", "2", "--outdir", str(tmp_path)]
    projector.main.main(["--network", str(path), *target, "--class", "1"], standalone_mode=False)
    assert np.load(tmp_path / "projected_w.npz")["w"].shape == (1, 1, 131)
