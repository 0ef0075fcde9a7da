"""Accuracy under attack, with the attacks of torchattacks: AdaptiveMix's Tables 7 and 8.

    fgsm              one step of 8/255 (arXiv:1412.6572)
    pgd8  pgd16       8 and 16 steps of 1/255 within 4/255, from a random start (arXiv:1706.06083)
    cw0.01  cw0.05    100 steps of Adam at 0.01 on |change|² + c max(margin, 0), c as named (arXiv:1608.04644)
    autoattack        APGD, APGD-T, FAB-T and Square within 8/255 (arXiv:2003.01690), on demand

The paper does not give PGD's step and start. Logits of a cosine classifier lie in [-1, 1]: its cross entropy stays
away from 0, and CW with a small c hardly changes the image. So each attack uses the logits themselves, and also the
logits times 20, which changes no prediction (`fgsm x20`). Neither is always stronger: times 20, the cross entropy
depends only on the nearest other class.

torchattacks' last release is of October 2023. Its FGSM and PGD are the published ones (a test compares them with
hand-written steps). Its CW uses 0 as the largest other logit if all are negative, does not change pixels that are
exactly 0 or 1, and stops for the whole batch when the sum of costs rises: it is a weak CW.
"""

import torch
import torch.nn.functional as F

from dnnlib.util import UserError
from experiments.recognition.libraries import torchattacks
from experiments.recognition.networks import Scaled, in_batches

FACTOR = 20
SEED = 0  # of the attacks' random numbers, the same for every network
MAX_VANISHED = 0.01  # with a larger share of images without a gradient, gradient attacks are meaningless
CHECKED = 256  # images for the check whether a network can be attacked
ATTACKS = {
    "fgsm": lambda net, _: torchattacks.FGSM(net, eps=8 / 255),
    "pgd8": lambda net, _: torchattacks.PGD(net, eps=4 / 255, alpha=1 / 255, steps=8),
    "pgd16": lambda net, _: torchattacks.PGD(net, eps=4 / 255, alpha=1 / 255, steps=16),
    "cw0.01": lambda net, _: torchattacks.CW(net, c=0.01, steps=100, lr=0.01),
    "cw0.05": lambda net, _: torchattacks.CW(net, c=0.05, steps=100, lr=0.01),
    "autoattack": lambda net, classes: torchattacks.AutoAttack(net, eps=8 / 255, n_classes=classes, seed=SEED),
}
AVERAGED = ("fgsm", "pgd8", "pgd16", "cw0.01", "cw0.05")  # the paper reports their mean: `attacked`


def figures(net, images, labels, counts, between=lambda: None):
    """{attack: accuracy in percent, attack x20: ...} on uint8 images [N, C, H, W] with classes [N].

    counts: {attack: number of images for it, 0 for none}. `between` is called between attacks.
    Raises UserError for a network that cannot be attacked (`check`). If the gradients of the logits times 20 vanish,
    as for large logits, these results are omitted.
    """
    classes = net(images[:2].float() / 255).shape[1]
    if counts.get("autoattack") and classes < 4:
        raise UserError(f"AutoAttack compares four classes, and there are {classes}: leave --autoattack out")
    check(net, images, labels)
    scaled = Scaled(net, FACTOR).eval()
    targets = {"": net} | ({f" x{FACTOR}": scaled} if vanished(scaled, images, labels) <= MAX_VANISHED else {})
    found = {}
    for suffix, target in targets.items():
        for name, count in counts.items():
            if count:
                between()
                attack = ATTACKS[name](target, classes)
                found[name + suffix] = 100 * accuracy_under(attack, net, images[:count], labels[:count])
        if all(counts.get(name) for name in AVERAGED):
            found[f"attacked{suffix}"] = sum(found[name + suffix] for name in AVERAGED) / len(AVERAGED)
    return found


def accuracy_under(attack, net, images, labels, batch=128):
    """Share of attacked images that `net` still classifies correctly."""
    torch.manual_seed(SEED)
    right = 0
    for x, y in zip(images.split(batch), labels.split(batch)):
        attacked = attack(x.float() / 255, y)
        with torch.no_grad():
            right += int((net(attacked).argmax(dim=1) == y).sum())
    return right / len(labels)


def check(net, images, labels):
    """Raise UserError if robust accuracy would be meaningless: a random forward pass, or no gradients."""
    with torch.no_grad():
        once, twice = (in_batches(net, images[:64]) for _ in range(2))
    if not torch.equal(once, twice):
        raise UserError("no robust accuracy for a network with a random forward pass: switch its noise off")
    if (share := vanished(net, images, labels)) > MAX_VANISHED:
        raise UserError(
            f"no robust accuracy: {100 * share:.0f}% of the images have no gradient: scale the network's logits"
        )


def vanished(net, images, labels, count=CHECKED):
    """Share of the first `count` images at which the cross entropy's gradient is zero in every pixel."""
    x = (images[:count].float() / 255).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(net(x), labels[:count], reduction="sum"), x)
    return float((gradient.flatten(1) == 0).all(dim=1).float().mean())
