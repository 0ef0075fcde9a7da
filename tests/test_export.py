"""export.py: exported files give the images of our generator; exports that are impossible are refused in one line."""

import argparse
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import safetensors.torch
import torch
from conftest import GOLDEN, load_golden
from tiny import tiny_networks
from train_runs import refusal, write_images

import calc_metrics
import export
from dnnlib.util import UserError, run_command
from tools.export import onnx_model, program, rosinality
from tools.export.graph import ImageFunction, graph_inputs, write_example
from tools.export.hub import describe_data, write_folder
from tools.sampling.synthesis import draw
from torch_utils.misc import to_uint8
from training import grids
from training.networks import Generator
from training.snapshot import load_networks, save_snapshot

ROOT = pathlib.Path(__file__).resolve().parent.parent


def small_generator(z_dim=8, c_dim=0, channels=(16, 12), **synthesis_kwargs):
    """G for 8x8 images; all its layers have biases and noise."""
    torch.manual_seed(0)
    synthesis_kwargs = {"channels": list(channels), **synthesis_kwargs}
    G = Generator(z_dim, c_dim, 8, 8, 3, {"num_layers": 2}, synthesis_kwargs)
    for name, parameter in G.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            parameter.data += torch.randn_like(parameter) * 0.1
    G.mapping.w_avg.normal_()
    return G.eval().requires_grad_(False)


def images_with_noise(G, z, c, psi, noise):
    """The images of G with other noise maps, which are written into its constants sample by sample."""
    images = []
    for i in range(len(z)):
        for layer, noise_map in noise.items():
            G.synthesis.get_submodule(layer).noise_const.copy_(noise_map[i, 0])
        images.append(G(z[i : i + 1], c[i : i + 1], truncation_psi=psi, noise_mode="const"))
    return torch.cat(images)


@pytest.fixture
def command(monkeypatch, capsys):
    """Run export.py in this process: its exit code and what it printed on stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["export.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            run_command(export.main)
        return exit_.value.code, *capsys.readouterr()

    return run


# ---------------------------------------------------------------------- ONNX


@pytest.fixture(scope="module")
def model():
    """A network with classes as ONNX."""
    return onnx_model.onnx_model(small_generator(c_dim=3))


@pytest.mark.parametrize("n", [1, 4])
def test_onnx_gives_our_images_for_any_input(model, n):
    G = small_generator(c_dim=3)
    z, c = torch.randn([n, 8]), torch.eye(3)[torch.arange(n) % 3]
    noise = {"b4.conv1": torch.randn([n, 1, 4, 4])} | {f"b8.conv{i}": torch.randn([n, 1, 8, 8]) for i in (0, 1)}
    for psi in (1.0, 0.4):
        arrays = {"z": z.numpy(), "c": c.numpy(), "psi": np.array([psi], dtype=np.float32)}
        arrays |= {f"noise.{layer}": noise_map.numpy() for layer, noise_map in noise.items()}
        images = torch.from_numpy(onnx_model.run_onnx(model, arrays))
        torch.testing.assert_close(images, images_with_noise(G, z, c, psi, noise), rtol=0, atol=1e-4)


def test_onnx_names_its_inputs_and_outputs_with_their_shapes(model):
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    shapes = {tensor.name: tensor.shape for tensor in [*session.get_inputs(), *session.get_outputs()]}
    noise = {f"noise.b{r}.conv{i}": ["batch", 1, r, r] for r, i in ((4, 1), (8, 0), (8, 1))}
    assert shapes == {"z": ["batch", 8], "psi": [1], "c": ["batch", 3], **noise, "image": ["batch", 3, 8, 8]}


def test_an_onnx_file_holds_no_path_of_this_machine(model):
    assert str(ROOT).encode() not in model


def test_a_model_that_fails_its_check_is_not_written(tmp_path, monkeypatch, model):
    path = tmp_path / "G.onnx"
    path.write_text("before")
    monkeypatch.setattr(onnx_model, "onnx_model", lambda G: model)
    right = onnx_model.run_onnx
    for wrong in (2e-4, float("nan")):
        monkeypatch.setattr(onnx_model, "run_onnx", lambda *arguments, wrong=wrong: right(*arguments) + wrong)
        with pytest.raises(UserError, match=r"images differ .* was not written"):
            onnx_model.write_onnx(small_generator(c_dim=3), path)
        assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    monkeypatch.setattr(onnx_model, "run_onnx", right)
    assert onnx_model.write_onnx(small_generator(c_dim=3), path) < 1e-4
    assert path.read_bytes() == model


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-export\.txt"):
        onnx_model.check_installed()


# ---------------------------------------------------------------------- torch.export


@pytest.fixture(scope="module")
def pt2(tmp_path_factory):
    """A folder with a program and its example. The network is so wide that its convolutions are computed tap by tap."""
    directory = tmp_path_factory.mktemp("program")
    G = small_generator(channels=(256, 8))
    program.write_program(G, directory / "G.pt2")
    write_example(G, directory / "G-example.npz")
    return directory


WITHOUT_OUR_CODE = """
import sys, numpy, torch
program = torch.export.load("G.pt2").module()
inputs = {name: torch.from_numpy(array) for name, array in numpy.load("G-example.npz").items()}
image = inputs.pop("image")
noise = {name.removeprefix("noise."): inputs.pop(name) for name in list(inputs) if name.startswith("noise.")}
assert (program(**inputs, noise=noise) - image).abs().max() < 1e-5
one = {name: array[:1] for name, array in {**inputs, **noise}.items()}
image_1 = program(z=one["z"], psi=one["psi"], noise={name: one[name] for name in noise})
assert (image_1 - image[:1]).abs().max() < 1e-5
assert not any(name.split(".")[0] in ("training", "tools", "torch_utils", "dnnlib") for name in sys.modules)
"""


def test_a_program_runs_without_our_code(pt2):
    run = [sys.executable, "-I", "-W", "error::ImportWarning", "-c", WITHOUT_OUR_CODE]
    result = subprocess.run(run, cwd=pt2, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_an_example_holds_what_generate_draws(pt2):
    example = np.load(pt2 / "G-example.npz")
    z = torch.cat([torch.from_numpy(np.random.RandomState(seed).randn(1, 8)).float() for seed in (0, 1)])
    images = small_generator(channels=(256, 8))(z, None, truncation_psi=0.7, noise_mode="const")
    torch.testing.assert_close(torch.from_numpy(example["image"]), images, rtol=0, atol=1e-5)


# ---------------------------------------------------------------------- rosinality's names


@pytest.fixture(scope="module")
def port():
    """A generator of rosinality's code: names, shapes and values of its tensors, and its output in float64."""
    data = load_golden("rosinality32.npz")
    data["state"] = {name.removeprefix("param/"): value for name, value in data.items() if name.startswith("param/")}
    return data


def test_rosinalitys_weights_give_rosinalitys_image(port):
    G = rosinality.generator_from_port(port["state"])
    w = G.mapping(port["z"], None)
    torch.testing.assert_close(w[:, 0], port["w"], rtol=0, atol=1e-6)
    image = G(port["z"], None, noise_mode="const")
    torch.testing.assert_close(image, port["image"], rtol=0, atol=1e-6)


def test_exported_names_shapes_and_values_are_rosinalitys(port):
    state = rosinality.port_state(rosinality.generator_from_port(port["state"]))
    assert {name: list(tensor.shape) for name, tensor in state.items()} == dict(port["keys"])
    assert all(torch.equal(tensor, port["state"][name]) for name, tensor in state.items())


@pytest.mark.parametrize("use_noise", [True, False])
def test_a_checkpoint_keeps_the_weights(tmp_path, use_noise):
    G = small_generator(use_noise=use_noise)
    rosinality.write_checkpoint(G, tmp_path / "G.pt")
    back = rosinality.read_checkpoint(tmp_path / "G.pt").state_dict()
    assert all(torch.equal(back.pop(name), tensor) for name, tensor in G.state_dict().items())
    assert not any(tensor.any() for tensor in back.values())  # a network without noise gets maps of zeros


def test_a_training_checkpoint_is_read_and_its_mean_w_computed(tmp_path, port):
    G = rosinality.generator_from_port(port["state"]).float()
    content = {"g_ema": rosinality.port_state(G), "args": argparse.Namespace(size=32), "ada_aug_p": 0.1}
    torch.save(content, tmp_path / "000100.pt")
    w_avg = rosinality.read_checkpoint(tmp_path / "000100.pt").mapping.w_avg
    w = G.mapping(torch.randn([20_000, 24], generator=torch.Generator().manual_seed(1)), None)[:, 0]
    assert ((w_avg - w.mean(dim=0)).abs() < 5 * w.std(dim=0) / 10_000**0.5).all()


def notes_of(content, path, **options):
    """(generator, the lines that reading a checkpoint gives)."""
    torch.save(content, path, **options)
    notes = []
    return rosinality.read_checkpoint(path, notes.append), notes


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_without_noise_maps_gets_random_ones(tmp_path, zipped):
    G = small_generator()
    state = {name: tensor for name, tensor in rosinality.port_state(G).items() if not name.startswith("noises.")}
    content = {"g_ema": state, "g": state, "d": {}, "g_optim": {"step": 3}, "latent_avg": G.mapping.w_avg}
    back, notes = notes_of(content, tmp_path / "550000.pt", _use_new_zipfile_serialization=zipped)
    assert notes == [
        "left out: d, g_optim",
        "the checkpoint has no noise maps (noises.*): using random ones from seed 0",
    ]
    z = torch.randn(2, 8)
    images = [network(z, None, truncation_psi=0.5, noise_mode="none") for network in (G, back)]
    torch.testing.assert_close(*images, rtol=0, atol=1e-5)
    maps = torch.cat([tensor.flatten() for name, tensor in back.named_buffers() if name.endswith("noise_const")])
    assert abs(maps.mean()) < 0.3 and 0.8 < maps.std() < 1.2
    again, _ = notes_of(content, tmp_path / "again.pt")
    assert torch.equal(again.synthesis.b8.conv1.noise_const, back.synthesis.b8.conv1.noise_const)


def test_a_checkpoint_of_pixel2style2pixel_gives_its_decoder(tmp_path):
    G = small_generator()
    state = {f"decoder.{name}": tensor for name, tensor in rosinality.port_state(G).items()}
    state |= {"encoder.body.0.weight": torch.zeros(2), "face_pool.a": torch.zeros(1)}
    options = {"lr": np.float64(0.1), "when": pathlib.PurePosixPath("a"), "args": argparse.Namespace(size=np.int64(8))}
    content = {"state_dict": state, "latent_avg": G.mapping.w_avg.repeat(4, 1), "opts": options}
    back, notes = notes_of(content, tmp_path / "psp.pt")
    assert notes == ["left out: opts, encoder, face_pool"]
    assert all(torch.equal(back.state_dict()[name], tensor) for name, tensor in G.state_dict().items())


def test_a_mean_of_w_that_differs_between_layers_is_averaged_with_a_note(tmp_path):
    rows = torch.arange(32.0).reshape(4, 8)
    back, notes = notes_of({"g_ema": rosinality.port_state(small_generator()), "latent_avg": rows}, tmp_path / "a.pt")
    assert torch.equal(back.mapping.w_avg, torch.arange(8.0) + 12) and "differs between layers" in notes[0]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_bare_state_dict_and_g_alone_are_read(tmp_path, prefix):
    G = small_generator()
    state = {f"{prefix}{name}": tensor for name, tensor in rosinality.port_state(G).items()}
    back, notes = notes_of({"g": state, "latent_avg": G.mapping.w_avg}, tmp_path / "g.pt")
    assert torch.equal(back.mapping.w_avg, G.mapping.w_avg) and "no g_ema" in notes[0]
    if not prefix:
        back, _ = notes_of(state, tmp_path / "bare.pt")
    assert torch.equal(back.synthesis.b4.const, G.synthesis.b4.const)


@pytest.mark.parametrize(
    "content, reason",
    [({"epoch": 3, "model": {}}, "it holds epoch, model"), ([1], "not a checkpoint"),
     ({"state_dict": {"a": 1}}, "its state_dict holds a, not a generator"),
     ({"latent_avg": torch.zeros(3)}, "it holds latent_avg")],
)  # fmt: skip
def test_the_error_of_another_file_of_torch_save_names_its_content(tmp_path, content, reason):
    with pytest.raises(UserError, match=reason) as caught:
        notes_of(content, tmp_path / "a.pt")
    assert "trust" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_bytes_give_one_line_or_a_generator(tmp_path, zipped):
    path, rng = tmp_path / "a.pt", np.random.RandomState(0)
    torch.save({"g_ema": rosinality.port_state(small_generator())}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for _ in range(60):
        data, first = bytearray(whole), rng.randint(0, len(whole)) if rng.rand() < 0.5 else -rng.randint(1, 2000)
        data[first : first + 4 if first > 0 else None] = rng.bytes(4)
        path.write_bytes(data)
        try:
            rosinality.read_checkpoint(path)
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 700


@pytest.mark.parametrize("name", ["network-snapshot-000100.pkl", "old_run/network-snapshot-000000.safetensors"])
def test_a_snapshot_in_place_of_a_checkpoint_is_refused(name):
    with pytest.raises(UserError, match="not a file of torch.save.* leave --from out"):
        rosinality.read_checkpoint(GOLDEN / name)


def test_a_line_says_that_a_generator_is_not_finite(tmp_path, capsys):
    state = rosinality.port_state(small_generator())
    notes_of(
        {"g_ema": state | {"input.input": state["input.input"] / 0}, "latent_avg": torch.zeros(8)}, tmp_path / "a.pt"
    )
    assert "values in its generator are not finite (synthesis.b4.const)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda state: state.pop("convs.1.noise.weight"), "convs.1.noise.weight is missing"),
        (lambda state: state.update(extra=torch.zeros(1)), "extra is unknown"),
        (lambda state: state.update({"style.2.bias": torch.zeros(3)}), r"style.2.bias has shape \[3\], not \[8\]"),
        (lambda state: state.pop("to_rgbs.0.bias"), "tensors to_rgbs.N.bias"),
        (lambda state: state.update({"style.1.bias": 3}), "no attribute"),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path, change, reason):
    state = rosinality.port_state(small_generator())
    change(state)
    torch.save({"g_ema": state}, tmp_path / "G.pt")
    with pytest.raises(UserError, match=reason):
        rosinality.read_checkpoint(tmp_path / "G.pt")


class Hostile:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_a_checkpoint_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"g_ema": Hostile()}, "G.pt")
    with pytest.raises(UserError, match=r"refused: it requests posix.mkdir, .* do not trust it"):
        rosinality.read_checkpoint("G.pt")
    torch.save({"g_ema": Hostile()}, "G.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="do not trust it"):
        rosinality.read_checkpoint("G.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "arguments, reason",
    [({"c_dim": 2}, "without classes"), ({"z_dim": 4}, "z_dim equal"), ({"activation": "relu"}, "activation lrelu"),
     ({"conv_clamp": 0.5}, "images differ")],
)  # fmt: skip
def test_generators_that_the_port_cannot_represent_are_refused(tmp_path, arguments, reason):
    with pytest.raises(UserError, match=reason):
        rosinality.write_checkpoint(small_generator(**arguments), tmp_path / "G.pt")
    assert list(tmp_path.iterdir()) == []


def test_the_constructor_call_has_the_channel_multiplier_of_the_port():
    with torch.device("meta"):
        ours = {base: Generator(512, 0, 512, 64, 3, {}, {"channel_base": base}) for base in (16384, 32768, 8192)}
    assert [rosinality.constructor_call(ours[base]) for base in ours] == [
        "Generator(64, 512, 8, channel_multiplier=1)", "Generator(64, 512, 8, channel_multiplier=2)", None,
    ]  # fmt: skip


# ---------------------------------------------------------------------- the folder for a hub


@pytest.fixture
def run_dir(tmp_path):
    """A run with two snapshots, of which the first is the best, and paths of this machine in its options."""
    run_dir = tmp_path / "runs" / "00000-cats"
    run_dir.mkdir(parents=True)
    data = {"path": "/home/me/secret/cats.zip", "resolution": 8}
    for kimg, seed in ((12, 1), (24, 2)):
        G, D = tiny_networks(seed=seed)
        path = run_dir / f"network-snapshot-{kimg:06d}.safetensors"
        save_snapshot(path, G, D, G, options={"dataset": data, "metric_data": None}, cur_nimg=kimg * 1000)
    lines = [
        json.dumps({"metric": "fid50k_full", "snapshot": f"network-snapshot-{kimg:06d}.safetensors",
                    "results": {"fid50k_full": fid}}) for kimg, fid in ((12, 21.5), (24, 33.25))
    ]  # fmt: skip
    (run_dir / "metric-fid50k_full.jsonl").write_text("\n".join(lines))
    (run_dir / "best.json").write_text(json.dumps({"snapshot": "network-snapshot-000012.safetensors"}))
    (run_dir / "training_options.json").write_text(json.dumps({"data": data, "note": "a|b`c\n# d"}))
    return run_dir


def test_a_folder_holds_the_best_snapshot_and_a_card_made_from_the_run(command, run_dir, tmp_path):
    out = tmp_path / "cats"
    assert command("--network", run_dir, "--to", "hub", "--out", out, "--license", "cc0-1.0")[0] == 0
    snapshot = "network-snapshot-000012.safetensors"
    names = {snapshot, "samples.png", "training_options.json", "README.md", "G.pt2", "G-example.npz"}
    assert {path.name for path in out.iterdir()} == names
    assert not [path.name for path in out.iterdir() if b"secret" in path.read_bytes()]  # no directory of this machine
    before, after = (load_networks(directory / snapshot) for directory in (run_dir, out))
    states = before["G_ema"].state_dict(), after["G_ema"].state_dict()
    assert after["kimg"] == 12 and all(torch.equal(states[1][name], tensor) for name, tensor in states[0].items())
    card = (out / "README.md").read_text()
    front_matter, text = card.removeprefix("---\n").split("---\n", 1)
    assert "license: cc0-1.0\n" in front_matter and "pipeline_tag: unconditional-image-generation\n" in front_matter
    assert "trained with stylegan2-adamix\non the images of `cats.zip`" in text
    assert "`fid50k_full` | 21.5" in text and "33.25" not in text and "the images of `cats.zip`" in text
    assert "| `note` | `a¦b'c # d` |" in text and "after 12,000 images" in text and snapshot in text


@pytest.fixture
def no_program(monkeypatch):
    """Leave out the export of the program: it takes seconds and has its own tests."""
    monkeypatch.setattr("tools.export.hub.write_program", lambda G, path: path.write_bytes(b""))


@pytest.mark.parametrize("c_dim, channels", [(2, 4), pytest.param(0, 1, marks=pytest.mark.long)])
def test_the_code_of_the_card_draws_the_image_of_generate_py_without_our_code(tmp_path, c_dim, channels):
    torch.manual_seed(0)
    G = Generator(8, c_dim, 8, 8, channels, {"num_layers": 2}, {"channels": [16, 12]}).eval()
    G.synthesis.b8.torgb.bias.data += torch.linspace(0.2, 0.9, channels)
    G.mapping.w_avg.normal_()
    for layer in (G.synthesis.b4.conv1, G.synthesis.b8.conv0, G.synthesis.b8.conv1):
        layer.noise_strength.data += 0.3
    save_snapshot(tmp_path / "a.safetensors", G_ema=G)
    write_folder(tmp_path / "a.safetensors", tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text()
    snippet = card.split("```python\n")[1].split("```")[0]
    assert "holds G_ema." in card and ("straight colours" in card) == (channels == 4)
    run = subprocess.run([sys.executable, "-I", "-c", snippet], cwd=tmp_path / "hub", capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    expected = np.asarray(grids.to_pil(draw(G, 0, torch.eye(max(c_dim, 1))[:1, :c_dim], 0.7))).astype(int)
    found = np.asarray(PIL.Image.open(tmp_path / "hub" / "image.png")).astype(int)
    assert found.shape == expected.shape and found.std() > 20
    tolerance = np.ones_like(expected)
    if channels == 4:  # the PNG of generate.py was premultiplied at 8 bits: colours of a low alpha have few levels
        tolerance[..., :3] += (255 / np.maximum(expected[..., 3:], 1)).astype(int)
    assert (np.abs(found - expected) <= tolerance).all()


def test_exported_colours_are_not_premultiplied():
    torch.manual_seed(0)
    G = Generator(8, 0, 8, 8, 4, {"num_layers": 2}, {"channels": [16, 12]}).eval()
    inputs = graph_inputs(G, seeds=[0, 1])
    premultiplied = (G(inputs["z"], None, truncation_psi=0.7, noise_mode="const").detach().numpy() + 1) / 2
    exported = (ImageFunction(G)(**inputs).detach().numpy() + 1) / 2
    alpha = premultiplied[:, 3:].clip(0, 1)
    assert np.abs(exported[:, 3:] - alpha).max() < 1e-6
    visible = (alpha > 0.1).repeat(3, 1)
    expected = np.minimum(premultiplied[:, :3].clip(0, 1), alpha) / np.maximum(alpha, 1e-3)
    assert visible.mean() > 0.2 and np.abs(exported[:, :3] - expected)[visible].max() < 1e-5
    assert (exported[:, :3][(alpha < 0.5 / 255).repeat(3, 1)] == 0).all()


@pytest.mark.parametrize("channels, expected", [(1, "grey"), (3, "RGB"), (4, "RGBA, colours multiplied by alpha")])
def test_a_snapshot_describes_its_channels(tmp_path, channels, expected):
    G = Generator(8, 0, 8, 8, channels, {"num_layers": 1}, {"channels": [4, 4]})
    save_snapshot(tmp_path / "a.safetensors", G_ema=G)
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["channels"]) == f"{expected}, values from -1 to 1"


@pytest.mark.parametrize(
    "identifier, advice",
    [
        ("apache2", "apache-2.0"),
        ("no", "mit or cc-by-4.0"),
        ("1.0", ""),
        ("CC-BY-4.0", "cc-by-4.0"),
        ("gpl3", "gpl-3.0"),
    ],
)
def test_the_error_of_an_unknown_licence_suggests_similar_ones(tmp_path, identifier, advice):
    with pytest.raises(UserError, match=f"not a licence identifier of the hub: give .*{advice}.* or other"):
        write_folder(GOLDEN / "network-snapshot-000100.pkl", tmp_path / "new", identifier)
    assert list(tmp_path.iterdir()) == []


def test_the_card_names_the_page_of_the_project(tmp_path, monkeypatch, no_program):
    monkeypatch.setattr("tools.export.hub.project_page", lambda: "https://example.org/stylegan2-adamix")
    write_folder(GOLDEN / "network-snapshot-000100.pkl", tmp_path / "new")
    assert "[stylegan2-adamix](https://example.org/stylegan2-adamix)" in (tmp_path / "new" / "README.md").read_text()


def test_the_samples_are_drawn_from_the_first_seeds(run_dir, tmp_path, no_program):
    write_folder(run_dir, tmp_path / "cats")
    grid = np.asarray(PIL.Image.open(tmp_path / "cats" / "samples.png"))
    assert grid.shape == (4 * 8 * 8, 8 * 8 * 8, 3)  # each pixel is a square of 8
    grid = grid[4::8, 4::8]
    z = torch.from_numpy(np.random.RandomState(9).randn(1, 8)).float()
    image = to_uint8(tiny_networks(seed=1)[0].eval()(z, None, noise_mode="const"))[0]
    assert np.abs(grid[8:16, 8:16].transpose(2, 0, 1).astype(int) - image.numpy()).max() <= 1


def test_a_snapshot_without_a_run_makes_a_folder_too(tmp_path, no_program):
    write_folder(GOLDEN / "network-snapshot-000100.pkl", tmp_path / "upstream")
    card = (tmp_path / "upstream" / "README.md").read_text()
    assert "license: unknown" in card and "None was measured" in card and "## Options" not in card
    assert "written in the format of stylegan2-adamix" in card and "trained with" not in card
    assert load_networks(tmp_path / "upstream" / "network-snapshot-000100.safetensors")["kimg"] == 0


def test_the_built_in_data_have_their_licence():
    for name in ("twemoji", "twemoji:faces"):
        assert describe_data({"dataset": {"path": name}})[1] == "cc-by-4.0"
    assert describe_data({"dataset": {"path": "twemojis.zip"}})[1] is None


def test_a_folder_is_complete_or_absent(run_dir, tmp_path, monkeypatch, no_program):
    (tmp_path / "empty").mkdir()
    for network, out, licence, reason in (
        (run_dir, tmp_path / "empty", None, "exists"),
        (run_dir, tmp_path / "new", "MIT\nx: y", "not a licence identifier of the hub"),
        (tmp_path / "empty", tmp_path / "new", None, "holds no snapshot"),
    ):
        with pytest.raises(UserError, match=reason):
            write_folder(network, out, licence)
    monkeypatch.setattr("tools.export.hub.render_card", lambda **about: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_folder(run_dir, tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "empty"}


# ---------------------------------------------------------------------- the command


def test_a_checkpoint_becomes_a_snapshot(command, tmp_path, port):
    torch.save({"g_ema": port["state"], "latent_avg": torch.ones(24)}, tmp_path / "G.pt")
    out = tmp_path / "G.safetensors"
    code, printed, _ = command("--network", tmp_path / "G.pt", "--from", "rosinality", "--to", "snapshot", "--out", out)
    assert code == 0 and "D is new" in printed
    networks = load_networks(out)
    image = networks["G_ema"](port["z"], None, noise_mode="const")
    torch.testing.assert_close(image.double(), port["image"], rtol=1e-5, atol=1e-4)
    assert networks["D"](image, None).shape == (2, 1) and networks["G"].mapping.w_avg.eq(1).all()


def test_an_upstream_pickle_becomes_a_snapshot(command, tmp_path):
    pickle = GOLDEN / "network-snapshot-000100.pkl"
    assert command("--network", pickle, "--to", "snapshot", "--out", tmp_path / "G.safetensors")[0] == 0
    before, after = load_networks(pickle), load_networks(tmp_path / "G.safetensors")
    assert before["options"] == after["options"]
    for name in ("G", "D", "G_ema", "augment_pipe"):
        states = before[name].state_dict(), after[name].state_dict()
        assert all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())


def test_a_snapshot_in_half_precision_rounds_its_weights_and_computes_in_float32(command, tmp_path):
    G = small_generator()
    save_snapshot(tmp_path / "G.safetensors", G, G_ema=G, options={"dataset": None}, cur_nimg=7000)
    out = tmp_path / "half.safetensors"
    assert command("--network", tmp_path / "G.safetensors", "--to", "snapshot", "--half", "--out", out)[0] == 0
    stored = {key: tensor.dtype for key, tensor in safetensors.torch.load_file(out).items()}
    assert set(stored.values()) == {torch.float16} and {key.split("/")[0] for key in stored} == {"G_ema"}
    after = load_networks(out, needed=("G_ema",))
    assert after["kimg"] == 7 and {p.dtype for p in after["G_ema"].parameters()} == {torch.float32}
    for name, tensor in G.state_dict().items():
        assert torch.equal(after["G_ema"].state_dict()[name], tensor.half().float()), name


def test_weights_that_float16_cannot_hold_are_refused(command, tmp_path):
    G = small_generator()
    G.synthesis.b8.torgb.weight.mul_(1e6)
    G.synthesis.b8.torgb.affine.weight.mul_(1e-6)
    G.synthesis.b8.torgb.affine.bias.mul_(1e-6)
    save_snapshot(tmp_path / "G.safetensors", G_ema=G)
    out = tmp_path / "half.safetensors"
    code, _, error = command("--network", tmp_path / "G.safetensors", "--to", "snapshot", "--half", "--out", out)
    assert code == 2 and "was not written" in error and not out.exists()


def test_errors_are_one_line(command, tmp_path):
    path, missing = tmp_path / "G.safetensors", tmp_path / "none"
    save_snapshot(path, *tiny_networks(c_dim=2), tiny_networks(c_dim=2)[0])
    for arguments, reason in (
        (["--network", missing, "--to", "program", "--out", tmp_path / "x"], "there is no snapshot"),
        (["--network", missing, "--from", "rosinality", "--to", "onnx", "--out", tmp_path / "x"], "does not exist"),
        (["--network", path, "--to", "rosinality", "--out", tmp_path / "x"], "without classes"),
        (["--network", path, "--to", "snapshot", "--out", missing / "x"], "is not a directory"),
        (["--network", path, "--to", "snapshot", "--out", tmp_path], "cannot write"),
        (["--network", path, "--to", "onnx", "--out", tmp_path / "x", "--license", "mit"], "--license is for"),
        (["--network", path, "--to", "onnx", "--out", tmp_path / "x", "--half"], "--half is for"),
    ):
        code, printed, error = command(*arguments)
        assert code == 2 and reason in error and error.count("\n") == 1 and printed == ""
        assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("target", ["program", "snapshot", "hub"])
def test_a_network_that_cannot_be_read_is_not_blamed_on_the_output(command, tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.safetensors").write_bytes(b"no network")
    for network, reason in (("a" * 300, f"{'a' * 300}: File name too long"), ("damaged.safetensors", "not a snapshot")):
        code, printed, error = command("--network", network, "--to", target)
        assert code == 2 and reason in error and "cannot write" not in error and printed == ""
    assert [file.name for file in tmp_path.iterdir()] == ["damaged.safetensors"]


UNUSUAL_OPTIONS = [
    {"dataset": ["a"]},
    {"dataset": "twemoji"},
    {"dataset": {"path": 5}},
    {"dataset": {"path": "\ud800"}},
    {"dataset": {"path": "a\0b"}},
    {"dataset": {"path": "twemoji", "resolution": [0, 8]}},
    {"dataset": {"path": "twemoji", "evil": 1}},
    {"metric_data": [1], "dataset": {"path": "twemoji"}},
    {"dataset": {"path": "{tmp}/images"}, "fingerprints": {"data": {"images": "\ud800\x1b"}}},
    {"training_set_kwargs": [3]},
]


@pytest.mark.parametrize("kimg", ["NaN", "Infinity", "-5", "1" + "0" * 400, "true", '"\\ud800"'])
def test_an_invalid_kimg_of_a_snapshot_gives_one_line(kimg, tmp_path):
    path = odd_snapshot(tmp_path, {}, kimg=kimg)
    assert "its kimg is" in refusal(export.main, "--network", path, "--to", "hub", "--out", tmp_path / "hub")


@pytest.mark.parametrize("options", UNUSUAL_OPTIONS)
def test_unusual_metadata_of_a_snapshot_give_one_line_or_are_ignored(options, tmp_path, no_program):
    write_images(tmp_path / "images", [8])
    path = odd_snapshot(tmp_path, json.loads(json.dumps(options).replace("{tmp}", str(tmp_path))))
    assert refusal(calc_metrics.main, "--network", path, "--metrics", "lipschitz4")
    export.main.main(["--network", str(path), "--to", "hub", "--out", str(tmp_path / "hub")], standalone_mode=False)
    assert (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")


def odd_snapshot(folder, options, **metadata):
    """A snapshot of tiny networks whose metadata, as JSON, are replaced."""
    G, D = tiny_networks()
    save_snapshot(folder / "odd.safetensors", G, D, G, options=options)
    with safetensors.safe_open(folder / "odd.safetensors", framework="pt") as file:
        before, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.torch.save_file(tensors, folder / "odd.safetensors", before | metadata)
    return folder / "odd.safetensors"


def test_a_folder_named_twemoji_is_not_the_built_in_set(tmp_path, no_program):
    G, D = tiny_networks()
    save_snapshot(
        tmp_path / "a.safetensors", G, D, G, options={"dataset": {"path": "/home/me/twemoji"}}, cur_nimg=64064
    )
    write_folder(tmp_path / "a.safetensors", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: unknown" in card and "64,064 images" in card
    copy = load_networks(tmp_path / "out" / "a.safetensors")
    assert copy["options"]["dataset"]["path"] == "./twemoji" and copy["kimg"] == 64.064


def test_a_class_name_with_a_slash_is_kept(tmp_path, no_program):
    names = ["T-shirt/top", "bag"]
    G, D = tiny_networks(c_dim=2)
    save_snapshot(tmp_path / "a.safetensors", G, D, G, options={"dataset": {"path": "a.zip", "class_names": names}})
    write_folder(tmp_path / "a.safetensors", tmp_path / "out")
    assert load_networks(tmp_path / "out" / "a.safetensors")["G_ema"].class_names == names
