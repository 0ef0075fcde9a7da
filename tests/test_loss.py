"""StyleGAN2Loss: its phases, with every term, compared with the losses written out."""

import copy
import re
import sys

import pytest
import torch
from covering import covering_set
from tiny import (
    Batch,
    HostStatistics,
    assert_close,
    assert_equal,
    clone,
    gradients,
    literal_gradients,
    tiny_batch,
    tiny_networks,
    total,
)

from stylegan2_adamix.adaptivemix import Mixture
from stylegan2_adamix.finite import STREAK
from stylegan2_adamix.host import mix_styles
from stylegan2_adamix.loss import StyleGAN2Loss
from stylegan2_adamix.objectives import OBJECTIVES
from training.augment import AugmentPipe

PHASES = ("Gmain", "Greg", "Dmain", "Dreg")
PLAIN = {"adamix": None, "style_mixing_prob": 0}
MIXTURE = Mixture(torch.tensor([2, 0, 3, 1]), torch.tensor(0.3))


def make_loss(G, D, pipe=None, **kwargs):
    return StyleGAN2Loss("cpu", G.mapping, G.synthesis, D, pipe, **{**PLAIN, **kwargs})


def phase_gradients(networks, phase, batch, microbatches=1, pipe=None, mixture=None, **kwargs):
    """Gradients of one phase of a new loss."""
    G, D = networks
    loss = make_loss(G, D, pipe, **kwargs)
    if mixture is not None:
        loss.core.terms["adamix"].draw = lambda n, device: mixture
    return gradients(loss, G if phase[0] == "G" else D, phase, batch, microbatches)


@pytest.fixture
def statistics(monkeypatch):
    """What the loss reports to its host."""
    host = HostStatistics()
    monkeypatch.setitem(sys.modules, "torch_utils.training_stats", host)
    return host


# ---------------------------------------------------------------------- StyleGAN2, written out


def log_loss(x):
    """-log sigmoid(x)"""
    return torch.log(1 + torch.exp(-x)).mean()


def generate(G, z, c):
    return G.synthesis(G.mapping(z, c, skip_w_avg_update=True))


def squared_gradient_norms(logits, img):
    (gradient,) = torch.autograd.grad(logits.sum(), img, create_graph=True)
    return torch.stack([(g * g).sum() for g in gradient])


def path_length_loss(G, batch):
    half = len(batch.gen_z) // 2
    ws = G.mapping(batch.gen_z[:half], batch.gen_c[:half], skip_w_avg_update=True)
    img = G.synthesis(ws)
    y = torch.randn_like(img) / (img.shape[2] * img.shape[3]) ** 0.5
    (Jty,) = torch.autograd.grad((img * y).sum(), ws, create_graph=True)
    lengths = torch.stack([torch.stack([(row * row).sum() for row in sample]).mean().sqrt() for sample in Jty])
    pl_mean = 0.99 * 0 + 0.01 * lengths.mean()
    return 2 * torch.stack([(length - pl_mean) ** 2 for length in lengths]).mean()


def r1_loss(D, batch, gamma, judge=None, augment=lambda x: x):
    img = batch.real_img.clone().requires_grad_()
    logits = (judge or D)(augment(img), batch.real_c)
    return gamma / 2 * squared_gradient_norms(logits, img).mean()


def discriminator_loss(G, D, batch, judge=None):
    judge = judge or D
    with torch.no_grad():
        fake = generate(G, batch.gen_z, batch.gen_c)
    return log_loss(-judge(fake, batch.gen_c)) + log_loss(judge(batch.real_img, batch.real_c))


@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("phase", PHASES)
def test_plain_phases_match_the_formulas(phase, c_dim):
    G, D = tiny_networks(c_dim)
    batch = tiny_batch(c_dim=c_dim)
    formulas = {
        "Gmain": lambda: log_loss(D(generate(G, batch.gen_z, batch.gen_c), batch.gen_c)),
        "Greg": lambda: path_length_loss(G, batch),
        "Dmain": lambda: discriminator_loss(G, D, batch),
        "Dreg": lambda: r1_loss(D, batch, gamma=3),
    }
    expected = literal_gradients(G if phase[0] == "G" else D, formulas[phase])
    assert any(g.abs().max() > 1e-3 for g in expected.values())
    assert_close(phase_gradients((G, D), phase, batch, r1_gamma=3), expected)


def test_r1_differentiates_through_the_augmentation():
    G, D = tiny_networks()
    pipe = AugmentPipe(scale=1, brightness=1, contrast=1).train()
    pipe.p.fill_(0.8)
    batch = tiny_batch()
    expected = literal_gradients(D, lambda: r1_loss(D, batch, 3, augment=pipe))
    assert_close(phase_gradients((G, D), "Dreg", batch, pipe=pipe, r1_gamma=3), expected)


def test_styles_are_mixed_from_a_random_layer_on():
    G, _ = tiny_networks()
    ws, other = torch.zeros(2, G.num_ws, 8), torch.ones(2, G.num_ws, 8)
    seen = set()
    for _ in range(50):
        layers = mix_styles(ws, other, probability=1)[:, :, 0]
        assert torch.equal(layers[0], layers[1]) and layers[0].diff().ge(0).all()
        seen.add(int(layers[0].sum()))
    assert seen == set(range(1, G.num_ws))


# ---------------------------------------------------------------------- AdaptiveMix


def official_judge(D, mixture=MIXTURE):
    """The authors' logits: of the mixed features, plus of the features of the mixed images."""

    def judge(img, c):
        mix = [mixture.lam * x + (1 - mixture.lam) * x[mixture.permutation] for x in (D.features(img), img)]
        return D.head(mix[0], c) + D.head(D.features(mix[1]), c)

    return judge


def mean_distance(D, img, official=False, other=None):
    """AdaptiveMix's distance without noise, written out for one batch."""
    lam, partner = MIXTURE.lam, img[MIXTURE.permutation] if other is None else other
    target = (lam * D.features(img) + (1 - lam) * D.features(partner)).flatten(1)
    hard = D.features(lam * img + (1 - lam) * partner).flatten(1)
    if official:
        target = target.detach()
        return -((hard * target).sum(1) / (hard.norm(dim=1) * target.norm(dim=1))).mean()
    return (target - hard).square().mean()


def test_paper_variant_adds_the_distance_only_to_d():
    G, D = tiny_networks()
    batch = tiny_batch()
    term = {"adamix": {"noise_std": 0, "weight": 2.5}, "mixture": MIXTURE}

    def literal():
        fake = generate(G, batch.gen_z, batch.gen_c).detach()
        torch.manual_seed(0)
        plain = discriminator_loss(G, D, batch)
        return plain + 2.5 * (mean_distance(D, fake) + mean_distance(D, batch.real_img))

    assert_close(phase_gradients((G, D), "Dmain", batch, **term), literal_gradients(D, literal))
    for phase in ("Gmain", "Greg", "Dreg"):
        assert_equal(phase_gradients((G, D), phase, batch, **term), phase_gradients((G, D), phase, batch))


def test_official_variant_replaces_the_logits_everywhere_and_adds_to_g():
    G, D = tiny_networks()
    batch, judge = tiny_batch(), official_judge(D)

    def d_main():
        fake = generate(G, batch.gen_z, batch.gen_c).detach()
        torch.manual_seed(0)
        terms = mean_distance(D, fake, official=True) + mean_distance(D, batch.real_img, official=True)
        return discriminator_loss(G, D, batch, judge) + terms

    def g_main():
        fake = generate(G, batch.gen_z, batch.gen_c)
        return log_loss(judge(fake, batch.gen_c)) + mean_distance(D, fake, official=True)

    literal = {"Dmain": (D, d_main), "Dreg": (D, lambda: r1_loss(D, batch, 3, judge)), "Gmain": (G, g_main)}
    for phase, (module, loss) in literal.items():
        actual = phase_gradients(
            (G, D), phase, batch, r1_gamma=3, adamix={"variant": "official", "noise_std": 0}, mixture=MIXTURE
        )
        assert_close(actual, literal_gradients(module, loss))


def test_the_head_of_a_skip_d_gets_the_image_that_belongs_to_its_features():
    G, D = tiny_networks(architecture="skip")
    batch = tiny_batch()

    def judge(img, c):
        features, hard = D.features(img), D.features(MIXTURE.blend(img))
        return D.head((MIXTURE.blend(features.x), features.img), c) + D.head(hard, c)

    actual = phase_gradients(
        (G, D), "Dreg", batch, r1_gamma=3, adamix={"variant": "official", "noise_std": 0}, mixture=MIXTURE
    )
    assert_close(actual, literal_gradients(D, lambda: r1_loss(D, batch, 3, judge)))


def test_cross_pairs_mix_real_with_generated_once():
    G, D = tiny_networks()
    batch = tiny_batch()

    def literal():
        fake = generate(G, batch.gen_z, batch.gen_c).detach()
        torch.manual_seed(0)
        return discriminator_loss(G, D, batch) + mean_distance(D, batch.real_img, other=fake)

    actual = phase_gradients(
        (G, D), "Dmain", batch, adamix={"pairs": "cross", "noise_std": 0}, mixture=Mixture(None, MIXTURE.lam)
    )
    assert_close(actual, literal_gradients(D, literal))


def test_with_part_the_term_is_the_mean_over_that_part_of_the_batch():
    G, D = tiny_networks()
    batch = tiny_batch()
    few = Mixture(MIXTURE.permutation[:2], MIXTURE.lam, 2)

    def distances(img):
        mix = [few.lam * x[:2] + (1 - few.lam) * x[few.permutation] for x in (D.features(img), img)]
        return (mix[0] - D.features(mix[1])).square().mean(dim=[1, 2, 3]).mean()

    def literal():
        fake = generate(G, batch.gen_z, batch.gen_c).detach()
        torch.manual_seed(0)
        return discriminator_loss(G, D, batch) + distances(batch.real_img) + distances(fake)

    actual = phase_gradients((G, D), "Dmain", batch, adamix={"part": 0.5, "noise_std": 0}, mixture=few)
    assert_close(actual, literal_gradients(D, literal))


def test_the_lazy_term_is_applied_every_nth_step_scaled_by_n(statistics):
    G, D = tiny_networks()
    batch = tiny_batch()
    loss = make_loss(G, D, adamix={"interval": 3, "noise_std": 0})
    loss.core.terms["adamix"].draw = lambda n, device: MIXTURE
    plain = phase_gradients((G, D), "Dmain", batch)
    eager = phase_gradients((G, D), "Dmain", batch, adamix={"weight": 3, "noise_std": 0}, mixture=MIXTURE)
    for expected in (plain, plain, eager, plain, plain, eager):
        assert_equal(gradients(loss, D, "Dmain", batch), expected)


def test_a_microbatch_of_one_image_is_refused_with_advice():
    networks, batch = tiny_networks(), tiny_batch(1)
    with pytest.raises(ValueError, match="--batch-gpu 2.*--adamix-pairs cross"):
        phase_gradients(networks, "Dmain", batch, adamix=True)
    phase_gradients(networks, "Dmain", batch, adamix={"pairs": "cross"})


# ---------------------------------------------------------------------- R2 and relativistic pairs


def test_r2_is_r1_on_generated_images():
    G, D = tiny_networks(3)
    batch = tiny_batch(c_dim=3)

    def literal():
        fake = generate(G, batch.gen_z, batch.gen_c).detach()
        return r1_loss(D, batch._replace(real_img=fake, real_c=batch.gen_c), gamma=5)

    both = literal_gradients(D, lambda: literal() + r1_loss(D, batch, gamma=3))
    assert_close(phase_gradients((G, D), "Dreg", batch, r1_gamma=0, r2=5), literal_gradients(D, literal))
    assert_close(phase_gradients((G, D), "Dreg", batch, r1_gamma=3, r2=5), both)


def test_rpgan_compares_each_real_image_with_one_generated_image():
    """arXiv:1807.00734 and arXiv:2501.05441, Eq. 2: D's loss is f(-(D(x) - D(g))), G's f(D(x) - D(g)), f softplus."""
    G, D = tiny_networks(3)
    batch = tiny_batch(c_dim=3)

    def difference():
        return D(batch.real_img, batch.real_c) - D(generate(G, batch.gen_z, batch.gen_c), batch.gen_c)

    expected = literal_gradients(D, lambda: log_loss(difference()))
    assert_close(phase_gradients((G, D), "Dmain", batch, objective_name="rpgan"), expected)
    expected = literal_gradients(G, lambda: log_loss(-difference()))
    assert_close(phase_gradients((G, D), "Gmain", batch, objective_name="rpgan"), expected)


def test_with_rpgan_ada_reads_the_signs_of_differences(statistics):
    """ADA and APA of every host read Loss/signs/real; R1 and R2 do not report it."""
    G, D = tiny_networks()
    batch = tiny_batch(16)
    loss = make_loss(G, D, objective_name="rpgan", r2=1)
    for phase in PHASES:
        gradients(loss, G if phase[0] == "G" else D, phase, batch, microbatches=2)
    scores = D(batch.real_img, batch.real_c), D(generate(G, batch.gen_z, batch.gen_c), batch.gen_c)
    (first, second) = statistics.values["Loss/signs/real"]
    signs = (scores[0] - scores[1]).sign()
    assert 0 < (signs > 0).float().mean() < 1 and torch.equal(torch.cat([first, second]), signs)
    assert len(statistics.values["Loss/scores/real"]) > 2
    assert {"Loss/G/loss", "Loss/D/loss", "Loss/r2_penalty"} <= statistics.values.keys()


# ---------------------------------------------------------------------- APA and Wasserstein


def test_apa_draws_once_if_main_and_r1_are_one_phase():
    """Both parts of Dboth see the same images, and the next microbatch uses the next fakes."""
    G, D = tiny_networks()
    pipe = AugmentPipe().train()
    pipe.p.fill_(0.5)
    loss = make_loss(G, D, pipe, apa=True, r1_gamma=1)
    seen, split = [], loss.core.split.features
    loss.core.split.features = lambda img, *others: seen.append(img.detach()) or split(img, *others)
    gradients(loss, G, "Gmain", tiny_batch(8), microbatches=2)
    seen.clear()
    gradients(loss, D, "Dboth", tiny_batch(8, seed=1), microbatches=2)
    (_, first, first_r1), (_, second, second_r1) = seen[:3], seen[3:]  # fake, real, real again for R1
    assert torch.equal(first, first_r1) and torch.equal(second, second_r1)
    pool = [fake for fake, _ in loss.core.inputs.apa._pool]
    for images, fakes in ((first, pool[0]), (second, pool[1])):
        replaced = [i for i in range(4) if torch.equal(images[i], fakes[i])]
        assert replaced and len(replaced) < 4


def test_the_gradient_penalty_is_that_of_the_trained_critic():
    """With the official variant the critic is the sum of two logits."""
    G, D = tiny_networks(mbstd=0, noise=False)
    batch = tiny_batch()
    setting = {"adamix": {"variant": "official", "noise_std": 0}, "objective_name": "wgan-gp"}

    def penalty(judge, fake):
        torch.manual_seed(0)
        t = torch.rand(4, 1, 1, 1)
        points = (t * batch.real_img + (1 - t) * fake).requires_grad_()
        return 10 * ((squared_gradient_norms(judge(points, batch.real_c), points).sqrt() - 1) ** 2).mean()

    def literal():
        judge = official_judge(D)
        fake = generate(G, batch.gen_z, batch.gen_c).detach()
        loss = judge(fake, batch.gen_c).mean() - judge(batch.real_img, batch.real_c).mean()
        return loss + sum(mean_distance(D, x, official=True) for x in (fake, batch.real_img)) + penalty(judge, fake)

    actual = phase_gradients((G, D), "Dmain", batch, mixture=MIXTURE, **setting)
    assert_close(actual, literal_gradients(D, literal), rtol=1e-3)


# ---------------------------------------------------------------------- SDP


def sdp_loss(D, fake, real, fake_c, real_c, k, constant_reals):
    """0.01/k times the sum over the k best fakes and their nearest reals, pair by pair."""
    best = D(fake, fake_c).flatten().topk(k).indices.tolist()
    loss = 0
    for i in best:
        j = min(range(len(real)), key=lambda j: (fake[i] - real[j]).square().sum().item())
        sides = []
        for img, c, n, constant in ((fake, fake_c, i, False), (real, real_c, j, constant_reals)):
            with torch.set_grad_enabled(not constant):
                vectors = [m[n].amax(dim=(1, 2)) for m in D.features(img, blocks=True)[1]]
                sides.append((D(img, c)[n], [v / (v.square().sum() + 1e-8) for v in vectors]))
        (f, f_maps), (r, r_maps) = sides
        loss = loss + (f - r).square().sum() + sum((a - b).square().sum() for a, b in zip(f_maps, r_maps))
    return 0.01 / k * loss


@pytest.mark.parametrize("mbstd", [0, 1])
@pytest.mark.parametrize("phase", ["Gmain", "Dmain"])
def test_sdp_is_in_both_losses_and_reals_are_constant_for_g(phase, mbstd):
    """With minibatch statistics every real is judged among the reals of its batch."""
    G, D = tiny_networks(c_dim=3, mbstd=mbstd)
    batch = tiny_batch(c_dim=3)

    def literal():
        fake = generate(G, batch.gen_z, batch.gen_c)
        torch.manual_seed(0)
        pair_args = (batch.real_img, batch.gen_c, batch.real_c, 2)
        if phase == "Gmain":
            return log_loss(D(fake, batch.gen_c)) + sdp_loss(D, fake, *pair_args, constant_reals=True)
        return discriminator_loss(G, D, batch) + sdp_loss(D, fake.detach(), *pair_args, constant_reals=False)

    actual = phase_gradients((G, D), phase, batch, sdp={"start_kimg": 0, "k": 32})
    assert_close(actual, literal_gradients(G if phase == "Gmain" else D, literal))


def test_aw_adds_sdp_unweighted_even_if_fakes_share_a_real():
    G, D = tiny_networks(mbstd=0)
    batch = tiny_batch()
    batch.real_img[1:] += 50  # all fakes are nearest to the first real
    sdp = {"sdp": {"start_kimg": 0, "k": 48, "weight": 1}}
    share = [phase_gradients((G, D), "Dmain", batch, **s) for s in ({}, sdp)]
    weighted = [phase_gradients((G, D), "Dmain", batch, aw=True, **s) for s in ({}, sdp)]
    difference = {n: share[1][n] - share[0][n] for n in share[0]}
    assert any(g.abs().max() > 1e-2 for g in difference.values())
    assert_close({n: weighted[1][n] - weighted[0][n] for n in weighted[0]}, difference, rtol=1e-3, atol=1e-5)


def test_sdp_has_no_effect_before_its_start():
    G, D = tiny_networks()
    batch = tiny_batch()
    for phase in ("Gmain", "Dmain"):
        assert_equal(
            phase_gradients((G, D), phase, batch, sdp={"start_kimg": 5, "k": 1}), phase_gradients((G, D), phase, batch)
        )
    loss, module = make_loss(G, D, sdp={"start_kimg": 5, "k": 1}), D
    active = gradients(loss, module, "Dmain", batch, cur_nimg=5000)
    assert any(not torch.equal(active[n], g) for n, g in phase_gradients((G, D), "Dmain", batch).items())


# ---------------------------------------------------------------------- what must change nothing

NOTHING = [
    {"adamix": {"weight": 0}},
    {"adamix": {"weight": 0, "pairs": "cross"}},
    {"adamix": {"weight": 0, "variant": "official"}},
    {"sdp": {"weight": 0, "start_kimg": 0, "k": 1}},
    {"lecam": 0, "instance_noise": 0, "label_smoothing": 0, "blur_init_sigma": 0, "with_dataaug": True},
]


@pytest.mark.parametrize("setting", NOTHING, ids=str)
def test_weight_zero_gives_the_plain_gradients_bit_for_bit(setting):
    networks, batch = tiny_networks(), tiny_batch()
    for phase in PHASES:
        plain = phase_gradients(networks, phase, batch, style_mixing_prob=0.9)
        assert_equal(phase_gradients(networks, phase, batch, style_mixing_prob=0.9, **setting), plain)


@pytest.mark.parametrize(
    "setting", [{}, {"aw": True}, {"objective_name": "hinge"}, {"aw": {"normalize": True}}], ids=str
)
@pytest.mark.parametrize("phase", ["Gmain", "Greg", "Gboth", "Dmain", "Dreg", "Dboth"])
def test_microbatches_give_the_gradients_of_the_whole_batch(phase, setting):
    """Samples must not affect each other: no minibatch statistics, and a constant average of path lengths."""
    networks, batch = tiny_networks(mbstd=0, noise=False), tiny_batch(8)
    setting = {**setting, "pl_batch_shrink": 1, "pl_decay": 0}
    whole = phase_gradients(networks, phase, batch, **setting)
    assert_close(phase_gradients(networks, phase, batch, microbatches=4, **setting), whole)


@pytest.mark.parametrize("setting", [{}, {"aw": True}, {"lecam": 0.1}, {"objective_name": "ls"}], ids=str)
def test_both_is_the_sum_of_main_and_reg(setting):
    networks, batch = tiny_networks(noise=False), tiny_batch()
    for player in "GD":
        both, main, reg = (phase_gradients(networks, player + p, batch, **setting) for p in ("both", "main", "reg"))
        assert_close(both, total(main, reg))


def test_averages_are_updated_once_per_phase_from_the_whole_batch():
    states = []
    for microbatches in (1, 4):
        G, D = tiny_networks(mbstd=0, noise=False)
        loss = make_loss(G, D, lecam=1e-3, pl_batch_shrink=1)
        w = G.mapping(tiny_batch(8).gen_z, tiny_batch(8).gen_c, skip_w_avg_update=True)[:, 0].mean(0)
        for step, phase in enumerate(["Gmain", "Dmain", "Dreg", "Greg", "Dmain"], start=1):
            gradients(loss, G if phase[0] == "G" else D, phase, tiny_batch(8), microbatches)
            generations = step - (step >= 3)  # Dreg generates nothing
            torch.testing.assert_close(G.mapping.w_avg, w * (1 - 0.995**generations), rtol=1e-4, atol=1e-6)
        states.append(
            [
                loss.core.terms["pl"].mean.value,
                loss.core.terms["lecam"].real.value,
                loss.core.terms["lecam"].fake.value,
                G.mapping.w_avg.clone(),
            ]
        )
    torch.testing.assert_close(*states)
    assert states[0][0] > 0


# ---------------------------------------------------------------------- state, errors


def test_a_loss_continues_from_its_state():
    G, D = tiny_networks()
    setting = {"adamix": {"interval": 2}, "lecam": 0.1, "sdp": {"start_kimg": 0.01, "k": 32}, "instance_noise": 0.5}
    loss = make_loss(G, D, style_mixing_prob=0.9, **setting)
    for step, phase in enumerate([*PHASES, *PHASES, "Dmain"]):
        gradients(loss, G if phase[0] == "G" else D, phase, tiny_batch(seed=step), seed=step)
    state = copy.deepcopy(loss.state_dict())
    G2, D2 = clone(G, D)
    other = make_loss(G2, D2, style_mixing_prob=0.9, **setting)
    other.load_state_dict(state)
    for phase in PHASES:
        pair = [gradients(x, g if phase[0] == "G" else d, phase, tiny_batch()) for x, g, d in
                ((loss, G, D), (other, G2, D2))]  # fmt: skip
        assert_equal(*pair)


BAD = [
    ({"adamix": True}, "adamix in Dmain was not finite"),
    ({"sdp": {"start_kimg": 0, "k": 1}}, "sdp in Dmain was not finite"),
    ({"lecam": 0.1}, "lecam in Dmain was not finite"),
    ({"aw": True}, "GAN in Dmain was not finite"),
    ({}, "GAN in Dmain was not finite"),
]


@pytest.mark.parametrize(("setting", "line"), BAD, ids=str)
def test_a_microbatch_that_is_not_finite_adds_nothing_and_is_counted(setting, line, statistics):
    """Two microbatches, the second with a NaN: the gradient is that of the first alone."""
    G, D = tiny_networks(mbstd=0, noise=False)
    good = tiny_batch(4)
    bad = good._replace(real_img=good.real_img.clone(), gen_z=good.gen_z.clone())
    bad.real_img[:], bad.gen_z[:] = float("nan"), float("nan")
    loss, alone = make_loss(G, D, **setting), make_loss(G, D, **setting)
    gradients(loss, D, "Dmain", good)
    gradients(alone, D, "Dmain", good)
    assert loss.core.take_bad_losses() == []
    mixed = Batch(*(torch.cat(pair) for pair in zip(good, bad)))
    statistics.values.clear()
    actual = gradients(loss, D, "Dmain", mixed, microbatches=2)
    expected = gradients(alone, D, "Dmain", good)
    assert_close(actual, {name: g / 2 for name, g in expected.items()}, rtol=0.02)
    assert any(g.abs().max() > 1e-4 for g in actual.values())
    lines = loss.core.take_bad_losses()
    assert any(re.fullmatch(rf"{line} [12] time\(s\), first at step 2", said) for said in lines), lines
    assert loss.core.take_bad_losses() == []
    assert 0 < statistics.mean("Progress/bad_losses") <= 0.5


@pytest.mark.parametrize("phase", PHASES)
def test_no_phase_leaves_nan_in_gradients_or_averages(phase):
    """Neither in the gradients nor in a moving average, which would make every later loss NaN."""
    G, D = tiny_networks()
    loss = make_loss(G, D, lecam=0.1)
    batch = tiny_batch()
    bad = batch._replace(real_img=batch.real_img * float("inf"), gen_z=batch.gen_z * float("nan"))
    module = G if phase[0] == "G" else D
    assert all(g.isfinite().all() for g in gradients(loss, module, phase, bad).values())
    assert len(loss.core.take_bad_losses()) >= 1
    assert all(g.isfinite().all() for g in gradients(loss, module, phase, batch).values())
    assert loss.core.take_bad_losses() == [] and G.mapping.w_avg.isfinite().all()


def test_a_streak_of_bad_updates_ends_the_run_and_a_good_one_ends_the_streak():
    G, D = tiny_networks()
    loss = make_loss(G, D)
    batch = tiny_batch()
    bad = batch._replace(real_img=batch.real_img * float("nan"))
    for _ in range(STREAK - 1):
        gradients(loss, D, "Dmain", bad)
    gradients(loss, D, "Dmain", batch)
    for _ in range(STREAK - 1):
        gradients(loss, D, "Dmain", bad)
    state = copy.deepcopy(loss.state_dict())
    loss = make_loss(G, D)
    loss.load_state_dict(state)  # a resumed run continues the count
    with pytest.raises(FloatingPointError, match=f"not finite for {STREAK} updates, up to Dmain .*GAN in Dmain"):
        gradients(loss, D, "Dmain", bad)


def test_the_error_for_a_discriminator_that_cannot_be_split_says_what_it_needs():
    G, _ = tiny_networks()
    with pytest.raises(TypeError, match=r"Linear cannot be split .*features\(img\).*b4\(x, img, cmap\)"):
        make_loss(G, torch.nn.Linear(2, 1))


def test_sdp_refuses_a_discriminator_that_returns_only_its_last_feature_map():
    G, D = tiny_networks()
    D.features = lambda img: img
    make_loss(G, D)
    with pytest.raises(TypeError, match=r"features\(img, blocks=True\)"):
        make_loss(G, D, sdp=True)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"aw": True, "objective_name": "wgan"}, "aw"),
        ({"aw": True, "objective_name": "rpgan"}, "aw weighs the real and the fake part of a loss, which rpgan"),
        ({"lecam": 0.1, "objective_name": "rpgan"}, "LeCam compares scores .* mean nothing with rpgan"),
        ({"label_smoothing": 0.1, "objective_name": "rpgan"}, "label smoothing"),
        ({"objective_name": "rpgam"}, "the objective is one of logistic, .*rpgan, not 'rpgam'"),
        ({"r2": -1}, "negative"),
        ({"apa": True}, "augment_pipe"),
        ({"r1_gamma": -1}, "negative"),
        ({"pl_weight": float("nan")}, "negative"),
        ({"lecam": -1}, "LeCam"),
        ({"lecam": {"weight": float("nan")}}, "LeCam weight must be finite"),
        ({"sdp": {"k": 65}}, "SDP needs k from 1 to 64"),
        ({"instance_noise": 0.1, "instance_noise_kimg": 0}, "kimg > 0"),
        ({"label_smoothing": 0.1, "objective_name": "hinge"}, "label smoothing"),
    ],
)
def test_invalid_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        make_loss(*tiny_networks(), **setting)


def test_the_error_for_unknown_options_lists_the_known_ones():
    with pytest.raises(TypeError, match="unknown option 'sdb'.*lecam.*sdp"):
        make_loss(*tiny_networks(), sdb=True)
    with pytest.raises(TypeError, match="AdaptiveMix is None, True, a weight, or a dict of variant, dist"):
        make_loss(*tiny_networks(), adamix={"noise": 1})


def test_unknown_phases_are_refused():
    with pytest.raises(ValueError, match="Gmain, Greg, Gboth, Dmain, Dreg, Dboth"):
        phase_gradients(tiny_networks(), "Dmian", tiny_batch())


# ---------------------------------------------------------------------- any combination

FACTORS = {
    "adamix": {"off": None, "on": {}, "official": {"variant": "official"}, "cross": {"pairs": "cross"}},
    "sdp": {"off": None, "on": {"start_kimg": 0, "k": 64}},
    "aw": {"off": None, "on": {}, "normalized": {"normalize": True}},
    "augment": {name: name for name in ("noaug", "ada", "apa", "apa+dataaug")},
    "lecam": {"off": 0, "on": 3e-7},
    "objective_name": {name: name for name in OBJECTIVES},
    "architecture": {name: name for name in ("resnet", "skip", "orig")},
    "c_dim": {"unlabelled": 0, "labelled": 3},
}


def is_allowed(choice):
    row = OBJECTIVES[choice["objective_name"]]
    return (choice["aw"] == "off" or row.probabilities) and not (choice["lecam"] == "on" and row.pairs)


def expected_reports(adamix, sdp, aw, lecam, objective_name):
    names = {"Loss/signs/real", "Loss/scores/fake", "Loss/G/loss", "Loss/D/loss", "Loss/r1_penalty"}
    names |= {"Loss/pl_penalty"} if OBJECTIVES[objective_name].path_length else set()
    if adamix is not None:
        names |= {"Loss/adamix/cross"} if adamix.get("pairs") else {"Loss/adamix/real", "Loss/adamix/fake"}
        names |= {"Loss/adamix/G"} if adamix.get("variant") else set()
    if sdp:
        names |= {"Loss/sdp/k", *(f"Loss/sdp/{player}/{part}" for player in "GD" for part in ("score", "feature"))}
    if aw is not None:
        names |= {"Loss/aw/angle", "Loss/aw/w_real", "Loss/aw/w_fake", "Loss/aw/case/balanced"}
    if lecam:
        names |= {"Loss/lecam/real", "Loss/lecam/fake"}
    return names


def test_every_pair_of_settings_trains_and_reports(statistics):
    for choice in covering_set(FACTORS, is_allowed):
        case = {name: FACTORS[name][level] for name, level in choice.items()}
        kwargs = dict(case)
        architecture, c_dim, augment = (kwargs.pop(key) for key in ("architecture", "c_dim", "augment"))
        G, D = tiny_networks(c_dim, architecture)
        pipe = None if augment == "noaug" else AugmentPipe(xflip=1, scale=1, brightness=1).train()
        if pipe is not None:
            pipe.p.fill_(0.5)
            kwargs |= {"apa": "apa" in augment, "with_dataaug": "dataaug" in augment}
        loss = make_loss(G, D, pipe, style_mixing_prob=0.9, r1_gamma=1, batch_size=4, **kwargs)
        optimizers = {"G": torch.optim.Adam(G.parameters(), 1e-3), "D": torch.optim.Adam(D.parameters(), 1e-3)}
        statistics.values.clear()
        for step in range(2):
            for phase in PHASES if step == 0 else ("Gmain", "Dmain"):
                module = G if phase[0] == "G" else D
                grads = gradients(loss, module, phase, tiny_batch(4, c_dim, seed=step), microbatches=2)
                assert all(g.isfinite().all() for g in grads.values()), (phase, case)
                for name, parameter in module.named_parameters():
                    parameter.grad = grads[name]
                optimizers[phase[0]].step()
        missing = (
            expected_reports(*(case[name] for name in ("adamix", "sdp", "aw", "lecam", "objective_name")))
            - statistics.values.keys()
        )
        assert not missing, (missing, case)
        assert all(v.isfinite().all() for values in statistics.values.values() for v in values), case
