"""The reader of upstream pickles: golden values, and files that try to run something or to eat the machine."""

import collections
import io
import pickle
import struct

import numpy as np
import pytest
import torch
from places import GOLDEN

from dnnlib.util import UserError
from training.legacy_pickle import read_pickle
from training.snapshot import load_networks

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
def test_a_strength_above_one_is_read_and_what_is_no_strength_is_refused(tmp_path, golden, p):
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
def test_tensors_parameters_and_shared_modules_of_every_protocol(tmp_path, protocol):
    weight = torch.nn.Parameter(torch.randn(3, 2).half())
    network = _module("Generator", {"weight": weight}, {"w_avg": torch.arange(4.0)[1:], "none": None}, z_dim=4)
    networks, options = _read(tmp_path, _dump({"G": network, "G_ema": network, "D": None}, protocol))
    assert networks.keys() == {"G", "G_ema"} and options == {}
    assert networks["G"].init_kwargs == {"z_dim": 4}
    assert torch.equal(networks["G"].tensors["weight"], weight.detach())
    assert networks["G_ema"].tensors["w_avg"].tolist() == [1, 2, 3]


def test_what_else_upstream_modules_hold(tmp_path, monkeypatch):
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
    with pytest.raises(UserError, match=rf"refused, it asks for .*{function.__name__}"):
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
    "list that is no snapshot": pickle.dumps([1, 2]),
    "protocol 0 text": pickle.dumps({"G": 1}, 0),
    "empty file": b"",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_in_one_line(tmp_path, name):
    with pytest.raises(UserError) as caught:
        _read(tmp_path, BOMBS[name])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_module_that_is_shared_without_end_is_refused(tmp_path):
    node = _module("Leaf", {})
    for _ in range(40):
        node = _module("Node", {}, modules={"a": node, "b": node})
    with pytest.raises(UserError, match="without end"):
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
