"""APA: which reals are replaced, by what, and how often."""

import torch

from stylegan2_adamix.apa import PseudoAugmentation

REAL, REAL_C = torch.zeros(1000, 1, 2, 2), torch.tensor([[1.0, 0.0]]).expand(1000, 2)
FAKE, FAKE_C = torch.ones(1000, 1, 2, 2), torch.tensor([[0.0, 1.0]]).expand(1000, 2)


def with_pool(p, *pools):
    apa = PseudoAugmentation(torch.tensor(float(p)))
    apa.begin(generator=True)
    for fake, fake_c in pools:
        apa.remember(fake, fake_c)
    apa.begin(generator=False)
    return apa


def test_images_are_replaced_together_with_their_labels():
    torch.manual_seed(0)
    img, c, stayed = with_pool(0.3, (FAKE, FAKE_C)).replace(REAL, REAL_C)
    assert torch.equal(img[:, 0, 0, 0], (~stayed).float())
    assert torch.equal(c, torch.where(stayed[:, None], REAL_C, FAKE_C))
    assert abs((~stayed).float().mean() - 0.3) < 0.06


def test_p_is_the_share_of_replaced_images_and_can_change():
    apa = with_pool(0, (FAKE, FAKE_C))
    assert apa.replace(REAL, REAL_C)[2].all()
    apa.p.fill_(1)
    assert not apa.replace(REAL, REAL_C)[2].any()


def test_no_real_is_replaced_before_images_are_generated():
    img, c, stayed = with_pool(1).replace(REAL, REAL_C)
    assert torch.equal(img, REAL) and torch.equal(c, REAL_C) and stayed.all()


def test_points_are_replaced_like_images():
    apa = with_pool(1, (torch.ones(5, 2), torch.zeros(5, 0)))
    assert torch.equal(apa.replace(torch.zeros(5, 2), torch.zeros(5, 0))[0], torch.ones(5, 2))


def test_call_i_takes_the_images_of_generator_call_i():
    apa = with_pool(1, *((FAKE * i, FAKE_C) for i in (1, 2, 3)))
    for _ in ("Dmain", "Dreg"):
        assert [apa.replace(REAL, REAL_C)[0].mean().item() for _ in range(3)] == [1, 2, 3]
        apa.begin(generator=False)


def test_a_generator_phase_forgets_the_images_of_the_phase_before():
    apa = with_pool(1, (FAKE, FAKE_C))
    apa.begin(generator=True)
    apa.remember(FAKE * 5, FAKE_C)
    apa.begin(generator=False)
    assert apa.replace(REAL, REAL_C)[0].mean() == 5


def test_no_gradient_reaches_the_generator():
    fake = FAKE.clone().requires_grad_()
    assert not with_pool(1, (fake * 2, FAKE_C)).replace(REAL, REAL_C)[0].requires_grad


def test_p_stays_at_1_also_where_a_host_raises_it_above():
    """StyleGAN2-ADA bounds p only from below. At 1.3, images would stay replaced while p falls from 1.3 to 1."""
    apa = with_pool(1.3, (FAKE, FAKE_C))
    apa.p -= 0.25
    assert 0.2 < apa.replace(REAL, REAL_C)[2].float().mean() < 0.3
