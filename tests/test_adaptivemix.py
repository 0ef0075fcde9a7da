"""AdaptiveMix against golden data of its authors' code and against its formula, written out sample by sample."""

import itertools
from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch.autograd import gradcheck

from stylegan2_adamix.adaptivemix import AdaptiveMix, Mixture
from stylegan2_adamix.features import Features, SplitDiscriminator
from training.networks import Discriminator

DISTS = ("l1", "l2", "cosine")


def literal_distance(dist, target, hard, noise):
    """The distance of each sample, one feature at a time, as Python floats."""
    values = []
    for t, h, s in zip(target.flatten(1).tolist(), hard.flatten(1).tolist(), noise.flatten(1).tolist()):
        noisy = [a + b for a, b in zip(h, s)]
        if dist == "l1":
            values.append(sum(abs(a - b) for a, b in zip(t, noisy)) / len(t))
        elif dist == "l2":
            values.append(sum((a - b) ** 2 for a, b in zip(t, noisy)) / len(t))
        else:
            norms = sqrt(sum(a * a for a in t)) * sqrt(sum(b * b for b in noisy))
            values.append(1 - sum(a * b for a, b in zip(t, noisy)) / norms)
    return torch.tensor(values, dtype=torch.float64)


def smooth_features(x):
    """A nonlinear F."""
    return torch.stack([x.tanh(), x.square(), x.sin()], dim=1)


def test_official_variant_matches_golden_data(golden):
    data = golden("adaptivemix_official.npz")
    source = golden(data["discriminator"])
    D = Discriminator(**source["config"]).eval()
    D.load_state_dict({k.removeprefix("state/"): v for k, v in source.items() if k.startswith("state/")})
    split, mixture = SplitDiscriminator(D), Mixture(data["perm"], data["lam"])

    features, _ = split.features(source["img"])
    hard, _ = split.features(mixture.blend(source["img"]))
    target = mixture.blend(features.x)
    logits = split.head(Features(target), source["c"]) + split.head(hard, source["c"])
    distance = AdaptiveMix("official").distance(target, hard.x, data["noise"])

    def close(actual, key):
        torch.testing.assert_close(actual, data[key].to(actual.dtype), rtol=1e-4, atol=2e-5)

    close(features.x, "features")
    close(hard.x, "mixed_image_features")
    close(target + data["noise"], "target_features_with_noise")
    close(logits, "logits")
    close(distance, "cosine_loss")
    total = F.softplus(-logits).mean() + distance.mean()
    close(total, "total_loss_with_real_softplus")
    total.backward()
    for name, parameter in D.named_parameters():
        expected = data[f"grad/{name}"]
        assert (parameter.grad - expected).norm() <= 1e-4 * expected.norm(), name


@pytest.mark.parametrize("dist", DISTS)
def test_distance_equals_the_formula(dist):
    target, hard, noise = torch.randn(3, 4, 2, 3, 3, dtype=torch.float64)
    actual = AdaptiveMix(dist=dist).distance(target, hard, noise)
    torch.testing.assert_close(actual, literal_distance(dist, target, hard, noise))


def test_official_distance_compares_hard_features_with_a_noisy_target():
    target, hard, noise = torch.randn(3, 4, 2, 3, 3, dtype=torch.float64)
    actual = AdaptiveMix("official").distance(target, hard, noise)
    torch.testing.assert_close(actual, literal_distance("cosine", hard, target, noise) - 1)


def test_blend_mixes_each_sample_with_its_partner():
    x, permutation, lam = torch.randn(3, 2, 2), torch.tensor([2, 0, 1]), torch.tensor([0.1, 0.6, 1.0])
    blended = Mixture(permutation, lam).blend(x)
    for i in range(3):
        torch.testing.assert_close(blended[i], lam[i] * x[i] + (1 - lam[i]) * x[permutation[i]])


def test_cross_pairs_mix_real_i_with_generated_i():
    real, fake = torch.randn(2, 4, 3, 2, 2)
    mixture = AdaptiveMix(pairs="cross").draw(4)
    assert mixture.permutation is None
    torch.testing.assert_close(mixture.blend(real, fake), mixture.lam * real + (1 - mixture.lam) * fake)


@pytest.mark.parametrize("pairs", ["within", "cross"])
@pytest.mark.parametrize("n, part, count", [(8, 0.5, 4), (8, 0.01, 1), (5, 0.5, 2), (4, 1.0, 4)])
def test_part_mixes_only_the_first_samples(pairs, n, part, count):
    real, fake = torch.randn(2, n, 3, 2, 2)
    mixture = AdaptiveMix(pairs=pairs, part=part, per_sample=True).draw(n)
    blended = mixture.blend(real, fake)
    assert len(blended) == count
    for i in range(count):
        partner = i if pairs == "cross" else mixture.permutation[i]
        torch.testing.assert_close(blended[i], mixture.lam[i] * real[i] + (1 - mixture.lam[i]) * fake[partner])


@pytest.mark.parametrize("dist", DISTS)
@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_distance_is_0_at_lam_0_and_1(dist, lam):
    x, mixture = torch.randn(5, 3, 2, 2, dtype=torch.float64), Mixture(torch.randperm(5), torch.tensor(lam))
    distance = AdaptiveMix(dist=dist, noise_std=0).distance(
        mixture.blend(smooth_features(x)), smooth_features(mixture.blend(x))
    )
    torch.testing.assert_close(distance, torch.zeros_like(distance))


@pytest.mark.parametrize("dist", DISTS)
def test_order_of_the_batch_does_not_matter(dist):
    x, mix = torch.randn(6, 3, 2, 2, dtype=torch.float64), AdaptiveMix(dist=dist, noise_std=0)
    permutation, lam, order = torch.randperm(6), torch.rand(6, dtype=torch.float64), torch.randperm(6)

    def distance(x, mixture):
        return mix.distance(mixture.blend(smooth_features(x)), smooth_features(mixture.blend(x)))

    plain = distance(x, Mixture(permutation, lam))
    # Position i now holds sample order[i]; its partner is where permutation[order[i]] went.
    partners = order.argsort()[permutation[order]]
    torch.testing.assert_close(distance(x[order], Mixture(partners, lam[order])), plain[order])


@pytest.mark.parametrize("dist", DISTS)
def test_gradient_matches_finite_differences(dist):
    mixture = Mixture(torch.tensor([1, 2, 0]), torch.tensor(0.3, dtype=torch.float64))
    noise = torch.randn(3, 3, 4, dtype=torch.float64)
    mix = AdaptiveMix(dist=dist)

    def loss(x, weight):
        features, hard = smooth_features(x * weight), smooth_features(mixture.blend(x) * weight)
        return mix.distance(mixture.blend(features), hard, noise).mean()

    inputs = torch.randn(3, 4, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    assert gradcheck(loss, [x.requires_grad_() for x in inputs])


@pytest.mark.parametrize(("variant", "flows"), [("paper", True), ("official", False)])
def test_only_the_paper_variant_has_a_gradient_through_the_target(variant, flows):
    target, hard = torch.randn(2, 3, 4, 5).unbind()
    target.requires_grad_()
    hard.requires_grad_()
    target_gradient, hard_gradient = torch.autograd.grad(
        AdaptiveMix(variant).distance(target, hard).mean(), [target, hard], allow_unused=True
    )
    assert (target_gradient is not None) == flows
    assert hard_gradient.abs().sum() > 0


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_lam_follows_a_beta_distribution(alpha):
    torch.manual_seed(0)
    lam = AdaptiveMix(alpha=alpha, per_sample=True).draw(20000).lam.double()
    expected = stats.beta(alpha, alpha)
    for moment in (1, 2, 3, 4):
        error = sqrt((expected.moment(2 * moment) - expected.moment(moment) ** 2) / len(lam))
        assert abs(lam.pow(moment).mean() - expected.moment(moment)) < 4 * error


def test_the_batch_shares_one_lam_unless_per_sample():
    assert AdaptiveMix().draw(5).lam.shape == ()
    assert AdaptiveMix(per_sample=True).draw(5).lam.unique().numel() == 5
    assert AdaptiveMix().draw(5).permutation.sort().values.tolist() == list(range(5))


def test_noise_has_the_given_standard_deviation():
    torch.manual_seed(0)
    zeros = torch.zeros(8, 4096)
    assert AdaptiveMix(noise_std=0.2).distance(zeros, zeros).mean() == pytest.approx(0.04, rel=0.05)


@pytest.mark.parametrize(
    "bad",
    [
        {"variant": "theirs"},
        {"dist": "l3"},
        {"pairs": "all"},
        {"alpha": 0},
        {"alpha": float("nan")},
        {"alpha": float("inf")},
        {"noise_std": -1},
        {"weight": -1},
        {"interval": 0},
        *({"variant": "official", **k} for k in ({"dist": "l2"}, {"pairs": "cross"}, {"interval": 2})),
    ],
)
def test_bad_arguments_are_refused(bad):
    with pytest.raises(ValueError, match="AdaptiveMix"):
        AdaptiveMix(**bad)


def test_every_combination_gives_one_value_per_sample():
    for dist, pairs, per_sample in itertools.product(DISTS, ("within", "cross"), (False, True)):
        mix = AdaptiveMix(dist=dist, pairs=pairs, per_sample=per_sample)
        x, other = torch.randn(2, 5, 3, 4, 4)
        mixture = mix.draw(5)
        assert mix.distance(mixture.blend(x, other), x).shape == (5,)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_batch_normalisation_treats_images_and_mixtures_as_two_batches(variant):
    """Each of the two gets the features of a batch of its own."""
    torch.manual_seed(0)
    extract = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.LeakyReLU())
    D = torch.nn.Module()
    D.features, D.head = extract, lambda x, c: x.flatten(1).mean(dim=1, keepdim=True)
    split, mix, img = SplitDiscriminator(D), AdaptiveMix(variant=variant, noise_std=0), torch.randn(8, 3, 6, 6)
    assert split.couples
    torch.manual_seed(1)
    output = split.forward(img, None, guests={"adamix": mix.join_pass(img, None)})
    torch.manual_seed(1)
    mixture = mix.draw(8)
    expected = mix.distance(mixture.blend(extract(img)), extract(mixture.blend(img)))
    torch.testing.assert_close(output.guests["adamix"].distance, expected)
    torch.testing.assert_close(output.features.x, extract(img))


def test_forward_again_repeats_the_logits_with_batch_normalisation():
    extract = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    D = torch.nn.Module()
    D.features = lambda x, blocks=False: (extract(x), [extract(x)]) if blocks else extract(x)
    D.head, D.norm = lambda x, c: x.flatten(1).square().mean(dim=1, keepdim=True), extract[1]
    split, index = SplitDiscriminator(D, blocks=True), torch.tensor([5, 2, 5])
    output = split.forward(torch.randn(8, 3, 6, 6), None, blocks=True)
    logits, maps = split.forward_again(output, index)
    torch.testing.assert_close(logits, output.logits[index])
    torch.testing.assert_close(maps[0], output.block_features[0][index])
