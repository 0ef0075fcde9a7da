"""Pickles of arrays are read without executing code. test_dataset_tool.py tests those of CIFAR-10, from Python 2."""

import os
import pickle

import numpy as np
import pytest

from dnnlib.array_pickle import read_arrays
from dnnlib.util import UserError


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_protocol_3_are_read_and_other_protocols_refused(protocol):
    tree = {"a": {"b": np.arange(6, dtype=np.float32).reshape(2, 3)}, "c": np.array([1.5, -2.5])}
    content = pickle.dumps(tree, protocol)
    if protocol != 3:  # the file's protocol; the others write bytes, frames or arrays differently
        with pytest.raises(UserError):
            read_arrays(content, "x")
        return
    found = read_arrays(content, "x")
    assert found.keys() == {"a/b", "c"}
    np.testing.assert_array_equal(found["a/b"], tree["a"]["b"])
    np.testing.assert_array_equal(found["c"], tree["c"])


class _Runs:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_hostile_and_damaged_pickles_are_refused_and_execute_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sound = pickle.dumps({"a": np.arange(6, dtype=np.float32)}, 3)
    hostile = [
        pickle.dumps({"a": _Runs()}, 3),
        pickle.dumps({"a": np.array([_Runs()], dtype=object)}, 3),
        sound.replace(b"K\x06\x85", b"K\x07\x85"),  # claims seven numbers, holds six
        sound.replace(b"K\x06\x85", b"J\xff\xff\xff\x7f\x85"),  # claims two billion numbers
        pickle.dumps([1], 3),
        pickle.dumps({1: np.zeros(2)}, 3),
        sound[: len(sound) // 2],
        b"",
    ]
    for content in hostile:
        assert content != sound
        with pytest.raises(UserError):
            read_arrays(content, "x")
    assert not list(tmp_path.iterdir())


def test_damaged_bytes_give_a_user_error_or_arrays():
    sound = pickle.dumps({"a": {"b": np.arange(4, dtype=np.float32)}, "c": np.zeros((2, 2))}, 3)
    draws = np.random.RandomState(0)
    for _ in range(2000):
        damaged = bytearray(sound)
        for position in draws.randint(len(sound), size=draws.randint(1, 4)):
            damaged[position] = draws.randint(256)
        try:
            found = read_arrays(bytes(damaged), "x")
        except UserError:
            continue
        assert all(isinstance(array, np.ndarray) for array in found.values())
