"""The reader of upstream pickles: golden values, and files that try to run code or to use up memory."""

import collections
import io
import pickle
import struct

import numpy as np
import pytest
import torch
from places import GOLDEN
from tiny import tiny_networks

from dnnlib.util import UserError
from training.legacy_pickle import read_pickle
from training.networks import Discriminator, Generator
from training.snapshot import load_generator, load_networks

SNAPSHOT = GOLDEN / "network-snapshot-000100.pkl"


def test_golden_snapshot_gives_its_image_logits_and_p(golden):
    expected = golden("network-snapshot-000100_expected.npz")
    loaded = load_networks(SNAPSHOT)
    c = torch.zeros([2, 0])
    img = loaded["G_ema"](expected["z"], c, noise_mode="const")
    torch.testing.assert_close(img, expected["img_const"], rtol=0, atol=2e-5)
    torch.testing.assert_close(loaded["D"](img, c), expected["logits"], rtol=0, atol=2e-5)
    assert float(loaded["augment_pipe"].p) == float(expected["augment_p"])
    assert loaded["options"]["training_set_kwargs"]["resolution"] == 16
    assert not any(p.requires_grad or p.is_meta for p in loaded["D"].parameters())
    assert not loaded["G"].training


@pytest.mark.parametrize("p", [1.0028, -0.5, float("nan")])
def test_a_strength_above_1_is_read_and_an_invalid_one_refused(tmp_path, golden, p):
    expected = golden("network-snapshot-000100_expected.npz")
    data, old = SNAPSHOT.read_bytes(), struct.pack("<qf", 1, float(expected["augment_p"]))  # a storage of one number
    assert data.count(old) == 1
    (tmp_path / "a.pkl").write_bytes(data.replace(old, struct.pack("<qf", 1, p)))
    if p > 0:
        assert float(load_networks(tmp_path / "a.pkl")["augment_pipe"].p) == pytest.approx(p)
    else:
        with pytest.raises(UserError, match="strength p is"):
            load_networks(tmp_path / "a.pkl")


class Calls:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def _module(class_name, parameters, buffers=None, modules=None, **init_kwargs):
    """A module as upstream's persistence format describes it."""
    state = {"_parameters": parameters, "_buffers": buffers or {}, "_modules": modules or {}}
    meta = {
        "type": "class",
        "class_name": class_name,
        "state": {**state, "_init_args": (), "_init_kwargs": init_kwargs},
    }
    return Persistent(meta)


class Persistent:
    def __init__(self, meta):
        self.meta = meta


def _dump(value, protocol=3):
    """Pickle with `Persistent` written as upstream's constructor, which does not exist here."""

    class Pickler(pickle._Pickler):
        def save(self, obj, **kwargs):
            if not isinstance(obj, Persistent) or id(obj) in self.memo:
                return super().save(obj, **kwargs)
            self.write(b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n")
            super().save((obj.meta,))
            self.write(pickle.REDUCE)
            return self.memoize(obj)

    file = io.BytesIO()
    Pickler(file, protocol).dump(value)
    return file.getvalue()


def _read(tmp_path, data):
    path = tmp_path / "network.pkl"
    path.write_bytes(data)
    return read_pickle(path)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_tensors_parameters_and_shared_modules_of_every_protocol_are_read(tmp_path, protocol):
    weight = torch.nn.Parameter(torch.randn(3, 2).half())
    network = _module("Generator", {"weight": weight}, {"w_avg": torch.arange(4.0)[1:], "none": None}, z_dim=4)
    networks, options = _read(tmp_path, _dump({"G": network, "G_ema": network, "D": None}, protocol))
    assert networks.keys() == {"G", "G_ema"} and options == {}
    assert networks["G"].init_kwargs == {"z_dim": 4}
    assert torch.equal(networks["G"].tensors["weight"], weight.detach())
    assert networks["G_ema"].tensors["w_avg"].tolist() == [1, 2, 3]


def test_other_values_of_upstream_modules_are_read(tmp_path, monkeypatch):
    class EasyDict(dict):
        pass

    EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"
    monkeypatch.setattr("dnnlib.util.EasyDict", EasyDict, raising=False)
    kwargs = {"mapping_kwargs": EasyDict(num_layers=np.int64(2)), "w": np.float32(0.5), "flag": np.bool_(True)}
    network = _module("Generator", {}, **kwargs)
    others = {"filter": np.eye(3), "size": torch.Size([1, 2]), "device": torch.device("cpu"), "names": {"a"}}
    network.meta["state"] |= others | {"_forward_hooks": collections.OrderedDict(a=1)}
    networks, _ = _read(tmp_path, _dump({"G": network}))
    assert networks["G"].init_kwargs == {"mapping_kwargs": {"num_layers": 2}, "w": 0.5, "flag": True}


def test_transposed_tensors_keep_their_values(tmp_path):
    weight = torch.randn(3, 5).t()
    networks, _ = _read(tmp_path, _dump({"G": _module("G", {"weight": weight})}))
    assert torch.equal(networks["G"].tensors["weight"], weight)


@pytest.mark.parametrize("function", [eval, print, __import__, getattr, pickle.loads, torch.load, io.open])
@pytest.mark.parametrize("protocol", [2, 4])
def test_any_other_global_is_refused_by_name(tmp_path, function, protocol, capsys):
    with pytest.raises(UserError, match=rf"refused: it requests .*{function.__name__}"):
        _read(tmp_path, _dump({"G": Calls(function, "1")}, protocol))
    assert capsys.readouterr().out == ""


def test_os_system_spliced_into_the_golden_file_is_refused(tmp_path):
    canary = tmp_path / "canary"
    call = f"cos\nsystem\n(S'touch {canary}'\ntR0".encode()
    data = SNAPSHOT.read_bytes()
    with pytest.raises(UserError, match=r"os\.system"):
        _read(tmp_path, data[:11] + call + data[11:])
    assert not canary.exists()


def test_a_call_inside_a_storage_is_refused(tmp_path):
    inner = pickle.dumps(Calls(print, "run"))
    with pytest.raises(UserError, match="print"):
        _read(tmp_path, _dump({"G": Calls(torch.storage._load_from_bytes, inner)}))


BOMBS = {
    "long integer": b"\x80\x03\x8b" + struct.pack("<i", 1 << 20) + b"\x7f" * (1 << 20) + b".",
    "huge memo index": b"\x80\x03]r\xff\xff\xff\xff.",
    "string longer than the file": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b".",
    "bytes longer than the file": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
    "frame longer than the file": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
    "deep nesting": b"\x80\x03" + b"(" * 400_000 + b"N" + b"t" * 90_000 + b".",
    "too many opcodes": b"\x80\x03" + b"N0" * 300_000 + b"N.",
    "key of nested tuples": b"\x80\x03}N\x85q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"Ns.",
    "set of nested tuples": b"\x80\x04\x8f(N\x85q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"\x90.",
    "one list copied often": b"\x80\x03]("
    + b"N" * 50_000
    + b"eq\x000"
    + b"c__builtin__\nset\nh\x00\x85R0" * 5_000
    + b"N.",
    "nothing": b"\x80\x03.",
    "no end": b"\x80\x03N",
    "list that is not a snapshot": pickle.dumps([1, 2]),
    "protocol 0 text": pickle.dumps({"G": 1}, 0),
    "empty file": b"",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_give_one_line(tmp_path, name):
    with pytest.raises(UserError) as caught:
        _read(tmp_path, BOMBS[name])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_module_that_is_shared_exponentially_often_is_refused(tmp_path):
    node = _module("Leaf", {})
    for _ in range(40):
        node = _module("Node", {}, modules={"a": node, "b": node})
    with pytest.raises(UserError, match="contains itself"):
        _read(tmp_path, _dump({"G": node}))


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [(0, (5,), (1,)), (1, (4,), (1,)), (0, (2, 2), (1, 3)), (0, (-1,), (1,)), (0, (4,), (-1,)), (0, (3, 3), (0, 0)),
     (0, (2,), (1, 1)), (0, (1 << 62, 4), (0, 0)), (0, (True,), (1,))],
)  # fmt: skip
def test_tensors_outside_their_storage_are_refused(tmp_path, offset, shape, stride):
    tensor = Calls(torch._utils._rebuild_tensor_v2, torch.zeros(4)._typed_storage(), offset, shape, stride, False, {})
    with pytest.raises(UserError, match="tensor"):
        _read(tmp_path, _dump({"G": _module("G", {"weight": tensor})}))


def test_a_storage_that_claims_more_than_it_holds_is_refused(tmp_path):
    data = _dump({"G": _module("G", {"weight": torch.zeros(1003)})})
    with pytest.raises(UserError, match="storage"):
        _read(tmp_path, data.replace(struct.pack("<H", 1003), struct.pack("<H", 65001), 1))


# ---- Networks of other code bases

STYLEGAN3_SOURCE = "class SynthesisBlock:\n    def __init__(self, fused_modconv_default=True): ..."


def _persistent(module, source="", **init_kwargs):
    """A module with its tensors and submodules as persistent objects, with the given constructor arguments."""
    children = {name: _persistent(child, source) for name, child in module._modules.items()}
    described = _module(type(module).__name__, dict(module._parameters), dict(module._buffers), children, **init_kwargs)
    described.meta["module_src"] = source
    described.meta["state"] |= {"training": False, "act_gain": np.float64(1.5), "name": np.str_("x")}
    return described


def _stylegan3_pickle(tmp_path, names=("G", "D", "G_ema"), source=STYLEGAN3_SOURCE, **arguments):
    """(path, G, D) of a pickle as StyleGAN3's code base writes with --cfg=stylegan2: synthesis arguments are flat."""
    torch.manual_seed(0)
    channels = {"channel_base": 128, "channel_max": np.int64(16)}
    defaults = {"num_fp16_res": 4, "conv_clamp": 256}
    G = Generator(8, 0, 8, 8, 3, {"num_layers": 2}, {**channels, **defaults}).eval()
    D = Discriminator(0, 8, 3, **channels, **defaults).eval()
    flat = {
        "z_dim": 8,
        "c_dim": 0,
        "w_dim": 8,
        "img_resolution": np.int64(8),
        "img_channels": 3,
        **channels,
    }
    flat |= {"mapping_kwargs": {"num_layers": 2}} | arguments
    of_d = {"c_dim": 0, "img_resolution": 8, "img_channels": 3, "block_kwargs": {"freeze_layers": 0}, **channels}
    persistent = {"G": _persistent(G, source, **flat), "D": _persistent(D, source, **of_d)}
    persistent["G_ema"] = persistent["G"]
    path = tmp_path / "stylegan3.pkl"
    path.write_bytes(_dump({name: persistent[name] for name in names} | {"training_set_kwargs": None}))
    return path, G, D


@pytest.mark.parametrize("arguments", [{}, {"fused_modconv_default": "inference_only"}])
@pytest.mark.parametrize("source", [STYLEGAN3_SOURCE, ""])
def test_stylegan2_networks_from_stylegan3s_code_base_give_the_same_images(tmp_path, arguments, source):
    path, G, D = _stylegan3_pickle(tmp_path, source=source, **arguments)
    loaded = load_networks(path)
    z, c = torch.randn(2, 8), torch.zeros(2, 0)
    img = G(z, c, noise_mode="const")
    assert torch.equal(loaded["G_ema"](z, c, noise_mode="const"), img)
    assert torch.equal(loaded["D"](img, c), D(img, c))
    blocks = [loaded["G_ema"].synthesis.b8] + ([loaded["D"].b8] if source else [])
    assert all(block.conv1.conv_clamp == 256 and block.use_fp16 for block in blocks)  # the defaults of that code base
    assert loaded["G"].mapping.w_avg_beta == 0.998


def test_arguments_of_forks_for_freezing_are_ignored(tmp_path):
    mapping = {"num_layers": 2, "freeze_layers": 1, "freeze_embed": True}
    path, G, _ = _stylegan3_pickle(tmp_path, mapping_kwargs=mapping)
    assert torch.equal(load_generator(path)["G_ema"].mapping.fc1.weight, G.mapping.fc1.weight)


def test_arguments_in_such_a_file_override_the_defaults(tmp_path):
    path, _, _ = _stylegan3_pickle(tmp_path, num_fp16_res=0, conv_clamp=None)
    block = load_generator(path)["G_ema"].synthesis.b8
    assert block.conv1.conv_clamp is None and not block.use_fp16


def test_a_pickle_of_stylegan2_ada_keeps_its_own_defaults():
    assert load_generator(SNAPSHOT)["G_ema"].mapping.w_avg_beta == 0.995


def test_a_file_with_only_g_ema_can_draw_but_not_train(tmp_path):
    path, G, _ = _stylegan3_pickle(tmp_path, names=["G_ema"])
    assert torch.equal(load_generator(path)["G_ema"].synthesis.b4.const, G.synthesis.b4.const)
    assert load_networks(path, needed=["G_ema"]).keys() == {"G_ema", "options", "kimg"}
    with pytest.raises(UserError, match="has no G, only G_ema"):
        load_networks(path)


def test_a_file_without_g_ema_draws_with_g_and_says_so(tmp_path, capsys):
    path, G, _ = _stylegan3_pickle(tmp_path, names=["G", "D"])
    assert torch.equal(load_generator(path)["G_ema"].synthesis.b4.const, G.synthesis.b4.const)
    assert "has no G_ema" in capsys.readouterr().err


def test_a_generator_that_is_pickled_alone_is_g_ema(tmp_path):
    G, D = tiny_networks()
    (tmp_path / "G.pkl").write_bytes(_dump(_persistent(G, **G.init_kwargs)))
    assert torch.equal(load_generator(tmp_path / "G.pkl")["G_ema"].synthesis.b4.const, G.synthesis.b4.const)
    (tmp_path / "D.pkl").write_bytes(_dump(_persistent(D, **D.init_kwargs)))
    with pytest.raises(UserError, match="has no generator"):
        load_generator(tmp_path / "D.pkl")


def test_a_discriminator_of_another_kind_does_not_prevent_drawing(tmp_path, capsys):
    G, D = tiny_networks()
    other = _persistent(D, **D.init_kwargs)
    other.meta["class_name"] = "ProjectedDiscriminator"
    path = tmp_path / "a.pkl"
    path.write_bytes(
        _dump({"G": _persistent(G, **G.init_kwargs), "D": other, "G_ema": _persistent(G, **G.init_kwargs)})
    )
    load_generator(path)
    assert capsys.readouterr().err == ""
    assert "D" not in load_networks(path, needed=["G_ema"])
    assert "skipped" in capsys.readouterr().err
    with pytest.raises(UserError, match="its D is a ProjectedDiscriminator"):
        load_networks(path)


def _pickle_of_objects(names, protocol=4):
    """A pickle of a tuple of objects of the named classes, "module name", each with a state."""
    text = "".join(f"c{name.replace(' ', chr(10))}\n)\x81}}X\x07\x00\x00\x00versionK\x04sb" for name in names)
    return b"\x80" + bytes([protocol]) + b"(" + text.encode("latin1") + b"t."


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (_pickle_of_objects(["dnnlib.tflib.network Network"] * 3), "a TensorFlow pickle: .*legacy.py"),
        (_pickle_of_objects(["tfutil Network"] * 3), "a TensorFlow pickle"),
        (_pickle_of_objects(["training.networks Generator"]), "training.networks.Generator objects, .* rebuild"),
        (pickle.dumps({"epoch": 3, "model": [1]}), "holds epoch, model, not the networks"),
        (pickle.dumps({}), "holds nothing, not the networks"),
        (pickle.dumps({"G_ema": {"mapping.w_avg": 1}}), "tensors without the networks' constructor arguments"),
        (pickle.dumps(np.zeros(3)), "it holds no table of networks"),
        (pickle.dumps([collections.Counter("aab"), struct.Struct], 2)[:-1], "do not trust it"),
    ],
)  # fmt: skip
def test_pickles_of_other_objects_are_described_in_one_line(tmp_path, content, expected):
    path = tmp_path / "other.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=expected) as caught:
        load_networks(path)
    assert "other.pkl" in str(caught.value) and "\n" not in str(caught.value)
    assert ("trust" in str(caught.value)) == ("trust" in expected)


def test_a_generator_of_stylegan3_is_refused_by_name(tmp_path):
    G, _ = tiny_networks()
    of_sg3 = _persistent(G, channel_base=128, magnitude_ema_beta=0.999)
    of_sg3.meta["state"]["_modules"]["synthesis"].meta["state"]["_modules"]["input"] = _module(
        "SynthesisInput", {"weight": torch.zeros(2, 2)}, {"freqs": torch.zeros(2, 2)}
    )
    (tmp_path / "sg3.pkl").write_bytes(_dump({"G_ema": of_sg3}))
    with pytest.raises(UserError, match="its G_ema is a StyleGAN3 generator .*--cfg=stylegan2"):
        load_generator(tmp_path / "sg3.pkl")


def test_a_pickle_of_a_code_base_inside_another_package_is_read(tmp_path):
    path, G, _ = _stylegan3_pickle(tmp_path)
    data = path.read_bytes()
    inner = b"ctorch_utils.persistence\n"
    assert inner in data
    path.write_bytes(data.replace(inner, b"cthird_party.stylegan3.torch_utils.persistence\n"))
    assert torch.equal(load_generator(path)["G_ema"].synthesis.b4.const, G.synthesis.b4.const)


def test_unneeded_objects_do_not_prevent_reading(tmp_path):
    G, _ = tiny_networks()
    extra = {"counts": collections.Counter("aab"), "rng": np.random.RandomState(0), "when": collections.deque([1])}
    extra |= {"text": np.str_("é"), "big": np.array([1.5], ">f8")[0], "complex": np.complex64(1j)}
    (tmp_path / "a.pkl").write_bytes(_dump({"G_ema": _persistent(G, **G.init_kwargs), "extra": extra}, 4))
    assert torch.equal(load_generator(tmp_path / "a.pkl")["G_ema"].synthesis.b4.const, G.synthesis.b4.const)
