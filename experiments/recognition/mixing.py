"""Classification losses: cross entropy, plain or of mixed images or features, and AdaptiveMix (§3.4).

Every loss takes the network, images [N, C, H, W] in [0, 1] and classes [N], and returns a scalar and the values to
report. Mixed targets are soft labels [N, K].
"""

import torch
import torch.nn.functional as F

from experiments.recognition.libraries import Mixup
from experiments.recognition.networks import MIXED_LAYERS
from stylegan2_adamix.adaptivemix import AdaptiveMix

MIXED_BY_TIMM = {"mixup": {"mixup_alpha": 1.0}, "cutmix": {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}}
MANIFOLD_ALPHA = 2.0  # arXiv:1806.05236, §4
METHODS = ("none", *MIXED_BY_TIMM, "manifold", "adamix")


def loss_of(method, num_classes, adamix):
    """The loss of a method. adamix: arguments of the package's `AdaptiveMix`."""
    if method == "none":
        return plain
    if method in MIXED_BY_TIMM:
        return mixed_by_timm(Mixup(**MIXED_BY_TIMM[method], label_smoothing=0, num_classes=num_classes))
    if method == "manifold":
        return manifold(AdaptiveMix(alpha=MANIFOLD_ALPHA), num_classes)
    mix = AdaptiveMix(**adamix)
    return (official if mix.official else adaptivemix)(mix, num_classes)


def cross_entropy(logits, targets):
    return F.cross_entropy(logits.float(), targets)


def plain(net, images, labels):
    return cross_entropy(net(images), labels), {}


def mixed_by_timm(mixup):
    """Mixup (arXiv:1710.09412) or CutMix (arXiv:1905.04899): image i with image N - 1 - i of the batch."""

    def loss(net, images, labels):
        mixed, targets = mixup(images, labels)
        return cross_entropy(net(mixed), targets), {}

    return loss


def manifold(mix, num_classes):
    """Manifold Mixup (arXiv:1806.05236): the features of a random layer are mixed; layer 0 is the image."""

    def loss(net, images, labels):
        mixture = mix.draw(len(images), images.device)
        layer = int(torch.randint(MIXED_LAYERS, []))
        logits = net.head(net.features(images, layer, mixture.blend))
        return cross_entropy(logits, mixture.blend(one_hot(labels, num_classes))), {}

    return loss


def adaptivemix(mix, num_classes):
    """AdaptiveMix for classifiers: mixed cross entropy of the mixed image and of the mixed features, and L_ada.

    The images and their mixtures pass through F separately, so that batch normalisation treats each kind separately;
    F(x_j) is F(x_i) in another order.
    """

    def loss(net, images, labels):
        mixture = mix.draw(len(images), images.device)
        targets = mixture.blend(one_hot(labels, num_classes))
        features, hard = net.features(images), net.features(mixture.blend(images))  # v; Eq. 1
        easy = mixture.blend(features)
        of_hard, of_easy = (cross_entropy(net.head(v), targets) for v in (hard, easy))
        distance = mix.distance(easy, hard)  # Eq. 2
        reports = {"Loss/hard": of_hard, "Loss/easy": of_easy, "Loss/adamix": distance}
        return of_hard + of_easy + mix.weight * distance.mean(), reports

    return loss


def official(mix, num_classes):
    """AdaptiveMix as in the authors' public code for classifiers, which differs from the paper.

    Features are normalised to length 1 before mixing and comparison, the target is noisy and detached, the distance
    is the mean square, and the logits of the hard and of the mixed features are added up in one cross entropy. (Its
    logits are |cosines|: `--absolute` of the head.)
    """

    def loss(net, images, labels):
        mixture = mix.draw(len(images), images.device)
        features, hard = (F.normalize(net.features(x).float(), dim=1) for x in (images, mixture.blend(images)))
        easy = mixture.blend(features)
        noisy = (easy + mix.noise_std * torch.randn_like(easy)).detach()
        logits = net.head(easy) + net.head(hard)
        classified = cross_entropy(logits, mixture.blend(one_hot(labels, num_classes)))
        distance = (noisy - hard).square().mean(dim=1)
        return classified + mix.weight * distance.mean(), {"Loss/mixed": classified, "Loss/adamix": distance}

    return loss


def one_hot(labels, num_classes):
    return F.one_hot(labels, num_classes).float()
