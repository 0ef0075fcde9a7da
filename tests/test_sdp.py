"""SDP compared with its formula, written out pair by pair."""

from math import nan

import pytest
import torch
from torch.autograd import gradcheck

from stylegan2_adamix.sdp import SampleDifferences, take


def literal_choice(scores, fake, real, k, allowed):
    """Indices of the k best fakes and of the nearest real that is allowed, by sorting Python lists."""
    best = sorted(range(len(scores)), key=lambda i: -scores[i].item())[:k]
    nearest = []
    for i in best:
        candidates = [j for j in range(len(real)) if allowed[j]]
        nearest.append(
            min(
                candidates,
                key=lambda j: sum((fake[i] - real[j]).flatten().tolist()[n] ** 2 for n in range(fake[i].numel())),
            )
        )
    return best, nearest


def literal_features(norm, fake_maps, real_maps, pair, epsilon):
    """Sum over blocks of |v_f/|v_f|^2 - v_r/|v_r|^2|^2 for one pair, v the largest value of every channel."""
    total = 0
    for fake_map, real_map in zip(fake_maps, real_maps):
        vectors = []
        for feature_map in (fake_map[pair], real_map[pair]):
            v = [channel.max().item() for channel in feature_map]
            squared = sum(x * x for x in v) + epsilon
            vectors.append([x / (squared if norm == "squared" else squared**0.5) for x in v])
        total += sum((f - r) ** 2 for f, r in zip(*vectors))
    return total


def random_maps(k, **kwargs):
    return [torch.randn(k, channels, size, size, dtype=torch.float64, **kwargs) for channels, size in ((3, 4), (5, 2))]


@pytest.mark.parametrize("norm", ["squared", "unit"])
def test_differences_match_the_formula(norm):
    sdp = SampleDifferences(norm=norm)
    fake_logits, real_logits = torch.randn(2, 4, 1, dtype=torch.float64)
    fake_maps, real_maps = random_maps(4), random_maps(4)
    scores, features = sdp.differences(fake_logits, real_logits, fake_maps, real_maps)
    for i in range(4):
        assert scores[i].item() == pytest.approx((fake_logits[i].item() - real_logits[i].item()) ** 2)
        assert features[i].item() == pytest.approx(literal_features(norm, fake_maps, real_maps, i, sdp.epsilon))


def test_the_best_fakes_are_paired_with_their_nearest_reals():
    torch.manual_seed(1)
    logits, fake, real = torch.randn(8, 1), torch.randn(8, 3, 4, 4), torch.randn(8, 3, 4, 4)
    allowed = torch.tensor([True, False] * 4)
    for mask in (torch.ones(8, dtype=torch.bool), allowed):
        best, nearest, counted = SampleDifferences().choose(logits, fake, real, 3, mask)
        assert (best.tolist(), nearest.tolist()) == literal_choice(logits, fake, real, 3, mask)
        assert counted.tolist() == [1, 1, 1]


def test_pairs_do_not_count_if_no_true_real_is_left():
    none = torch.zeros(4, dtype=torch.bool)
    *_, counted = SampleDifferences().choose(torch.randn(4, 1), torch.randn(4, 2), torch.randn(4, 2), 2, none)
    assert counted.tolist() == [0, 0]


def test_order_of_the_reals_does_not_matter():
    logits, fake, real, order = torch.randn(6, 1), torch.randn(6, 5), torch.randn(6, 5), torch.randperm(6)
    _, nearest, _ = SampleDifferences().choose(logits, fake, real, 4)
    _, shuffled, _ = SampleDifferences().choose(logits, fake, real[order], 4)
    assert torch.equal(real[nearest], real[order][shuffled])


def test_the_choice_has_no_gradient():
    logits = torch.randn(4, 1, requires_grad=True)
    assert not any(x.requires_grad for x in SampleDifferences().choose(logits, torch.randn(4, 2), torch.randn(4, 2), 2))


def test_equal_samples_have_a_difference_of_0():
    logits, maps = torch.randn(3, 1), [torch.randn(3, 4, 2, 2)]
    scores, features = SampleDifferences().differences(logits, logits, maps, maps)
    assert scores.tolist() == features.tolist() == [0, 0, 0]


@pytest.mark.parametrize("norm", ["squared", "unit"])
def test_gradient_matches_finite_differences(norm):
    torch.manual_seed(2)
    sdp = SampleDifferences(norm=norm)
    logits = [torch.randn(2, 1, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    maps = random_maps(2, requires_grad=True) + random_maps(2, requires_grad=True)

    def loss(fake, real, *maps):
        scores, features = sdp.differences(fake, real, maps[:2], maps[2:])
        return (scores + features).mean()

    assert gradcheck(loss, [*logits, *maps])


@pytest.mark.parametrize("norm", ["squared", "unit"])
def test_feature_maps_of_zeros_give_finite_values_and_gradients(norm):
    maps = [torch.zeros(2, 3, 2, 2, requires_grad=True)]
    _, features = SampleDifferences(norm=norm).differences(
        torch.zeros(2, 1), torch.zeros(2, 1), maps, [torch.ones(2, 3, 2, 2)]
    )
    features.sum().backward()
    assert features.isfinite().all() and maps[0].grad.isfinite().all()


def test_k_is_the_papers_share_of_a_batch_and_grows_with_kimg_up_to_25_of_64():
    sdp = SampleDifferences(k=5, start_kimg=192, grow_kimg=320)
    assert not sdp.active(191.9) and sdp.active(192)
    assert [sdp.count(kimg, 64) for kimg in (0, 319, 320, 960, 6400, 1e9)] == [5, 5, 6, 8, 25, 25]
    assert [sdp.count(0, n) for n in (128, 64, 32, 16, 8, 4, 1)] == [10, 5, 2, 1, 1, 1, 1]
    assert [sdp.count(1e9, n) for n in (32, 16, 4)] == [12, 6, 2]
    assert SampleDifferences(k=40).count(1e9, 64) == 40
    assert not SampleDifferences(weight=0, start_kimg=0).active(1000)


@pytest.mark.parametrize(
    "bad",
    [{"weight": -1}, {"k": 0}, {"k": 65}, {"start_kimg": -1}, {"grow_kimg": 0}, {"norm": "cubed"}, {"weight": nan}],
)
def test_bad_arguments_are_refused(bad):
    with pytest.raises(ValueError, match="SDP"):
        SampleDifferences(**bad)


@pytest.mark.parametrize("shape", [(6, 3, 4, 5), (6, 1, 2, 2), (6, 7)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_take_equals_indexing_and_keeps_the_memory_format(shape, layout):
    x = torch.randn(shape, dtype=torch.float64)
    x = (x.to(memory_format=layout) if x.ndim == 4 else x).requires_grad_()
    index, direction = torch.tensor([4, 0, 4]), torch.randn(3, *shape[1:], dtype=torch.float64)
    assert torch.equal(take(x, index), x[index])
    gradients = [torch.autograd.grad(f, x, direction)[0] for f in (take(x, index), x[index])]
    torch.testing.assert_close(*gradients)
    assert x.ndim != 4 or gradients[0].is_contiguous(memory_format=layout)
