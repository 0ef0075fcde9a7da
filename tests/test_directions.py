"""Directions in w: SeFA and principal components compared with SciPy, their file, and their effect."""

import numpy as np
import pytest
import scipy.linalg
import torch
from tiny import tiny_networks

from dnnlib.util import UserError
from tools.sampling import directions
from tools.sampling.directions import apply_directions, load_directions, pca, sample_w, save_directions, sefa
from training.networks import Generator


@pytest.fixture(scope="module")
def G():
    return tiny_networks()[0].eval()


@pytest.fixture(scope="module")
def w(G):
    return sample_w(G, torch.zeros(1, 0), 500)


def test_sample_w_is_the_output_of_the_mapping(G, w):
    z = torch.from_numpy(np.random.RandomState(0).randn(500, 8)).float()
    torch.testing.assert_close(w.float(), G.mapping(z, torch.zeros(500, 0))[:, 0])


def test_sefa_finds_the_right_singular_vectors_of_the_stacked_affines(G, w):
    state = G.state_dict()
    names = ["b4.conv1", "b4.torgb", "b8.conv0", "b8.conv1", "b8.torgb"]
    stacked = np.concatenate([state[f"synthesis.{name}.affine.weight"].double().numpy() for name in names])
    expected = scipy.linalg.svd(stacked)[2]
    found = sefa(G, range(G.num_ws), 8, w)
    assert list(found) == [f"sefa{i}" for i in range(8)]
    lengths = {direction.vector.norm().item() for direction in found.values()}
    assert max(lengths) == pytest.approx(min(lengths), rel=1e-5)
    for i, direction in enumerate(found.values()):
        cosine = direction.vector.double().numpy() @ expected[i] / np.linalg.norm(direction.vector)
        assert abs(cosine) == pytest.approx(1, abs=1e-5)


def test_sefa_of_some_layers_uses_only_their_affines(G, w):
    weight = G.synthesis.b8.conv0.affine.weight.double().numpy()
    rgb = G.synthesis.b4.torgb.affine.weight.double().numpy()  # reads the same entry of ws
    expected = scipy.linalg.svd(np.concatenate([weight, rgb]))[2][0]
    vector, layers = sefa(G, [1], 1, w)["sefa0"]
    assert layers == (1,) and abs(vector.double().numpy() @ expected) == pytest.approx(vector.norm().item(), rel=1e-5)


def test_official_sefa_matches_the_public_code(w):
    """In NumPy: the convolutions' affines and the last torgb's, every row of length 1, eigenvectors of AᵀA."""
    torch.manual_seed(0)
    G = Generator(8, 0, 8, 16, 3, {"num_layers": 2}, {"channel_base": 128, "channel_max": 16}).requires_grad_(False)
    state = {name: value.double().numpy() for name, value in G.state_dict().items()}
    order = ["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1", "b16.torgb"]  # layer i of the public code
    for layers in (range(6), [0, 1, 2], [4, 5]):
        rows = np.concatenate([state[f"synthesis.{order[i]}.affine.weight"] for i in layers])
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        values, vectors = np.linalg.eigh(rows.T @ rows)
        expected = vectors[:, values.argmax()]
        found = sefa(G, layers, 1, w, "official")["sefa0"].vector.double().numpy()
        assert abs(found @ expected) == pytest.approx(np.linalg.norm(found), rel=1e-4)
        assert abs(sefa(G, layers, 1, w)["sefa0"].vector.double().numpy() @ expected) < 0.999 * np.linalg.norm(found)


def test_principal_components_match_an_svd_scaled_to_standard_deviations(w):
    centred = (w - w.mean(dim=0)).numpy()
    _, singular, rows = scipy.linalg.svd(centred, full_matrices=False)
    for i, direction in enumerate(pca(range(3), 4, w).values()):
        expected = rows[i] * singular[i] / np.sqrt(len(w) - 1)
        sign = np.sign(expected[np.abs(expected).argmax()])
        np.testing.assert_allclose(direction.vector.numpy(), expected * sign, atol=1e-5)


def test_directions_add_up_and_change_only_their_layers(G):
    a, b = torch.arange(8.0), torch.ones(8)
    found = {"a": directions.Direction(a, (0, 2)), "b": directions.Direction(b, (2,))}
    ws = torch.randn(2, G.num_ws, 8)
    moved = apply_directions(ws, found, {"a": 2.0, "b": -1.0})
    expected = ws.clone()
    expected[:, 0] += 2 * a
    expected[:, 2] += 2 * a - b
    torch.testing.assert_close(moved, expected)
    with pytest.raises(UserError, match="unknown direction c: give one of a, b"):
        apply_directions(ws, found, {"c": 1})


def test_a_strip_goes_from_minus_to_plus_with_the_sample_in_the_middle(G):
    ws = torch.randn(2, G.num_ws, 8)
    direction = directions.Direction(torch.ones(8), (1,))
    moved = directions.strip(ws, direction, 3, 5).reshape(2, 5, G.num_ws, 8)
    torch.testing.assert_close(moved[:, 2], ws)
    for i, strength in enumerate((-3, -1.5, 0, 1.5, 3)):
        torch.testing.assert_close(moved[:, i], apply_directions(ws, {"d": direction}, {"d": strength}))


def test_a_file_keeps_the_directions(G, w, tmp_path):
    found = sefa(G, [0, 1], 2, w) | pca([2], 3, w)
    save_directions(tmp_path / "directions.npz", found)
    loaded = load_directions(tmp_path / "directions.npz", G)
    assert list(loaded) == ["sefa0", "sefa1", "pca0", "pca1", "pca2"]
    for name, (vector, layers) in found.items():
        assert torch.equal(loaded[name].vector, vector) and loaded[name].layers == layers


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"names": np.array(["a"])},
        {"names": np.array(["a"]), "a/vector": np.zeros(7, np.float32), "a/layers": np.array([0])},
        {"names": np.array(["a"]), "a/vector": np.full(8, np.nan), "a/layers": np.array([0])},
        {"names": np.array(["a"]), "a/vector": np.zeros(8), "a/layers": np.array([99])},
        {"names": np.array([{}], dtype=object)},
    ],
)
def test_the_error_names_a_wrong_file(G, tmp_path, arrays):
    path = tmp_path / "wrong.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="wrong.npz"):
        load_directions(path, G)
    with pytest.raises(UserError, match="missing.npz"):
        load_directions(tmp_path / "missing.npz", G)


def test_the_middle_step_of_a_strip_is_exactly_0():
    steps = directions.steps(3, 21).tolist()
    assert steps[10] == 0 and steps[0] == -3 and steps[20] == 3
    assert [f"{step:.3g}" for step in steps[7:14]] == ["-0.9", "-0.6", "-0.3", "0", "0.3", "0.6", "0.9"]
