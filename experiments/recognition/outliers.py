"""Out-of-distribution detection: AdaptiveMix's §3.5 and Table 12, and baselines from pytorch-ood.

Scores are larger for stranger images; one score per image:
    angle          Eq. 10: the angle to the nearest of the classes' first singular vectors
    softmax        1 - the largest probability (arXiv:1610.02136), up to a constant
    energy         arXiv:2010.03759
    odin           arXiv:1706.02690, temperature 1000, a step of 0.0014 on images in [0, 1]
    mahalanobis    of the features, with one covariance for all classes (arXiv:1807.03888)
No score is random: dropout, if a network has any, is off (the paper's "without Monte Carlo").

Measures compare equal numbers of known test images and outliers:
    auroc          probability that an outlier has the higher score
    aupr-out, aupr-in    with outliers, or with known images, as the positive class
    fpr95          share of outliers that pass the threshold that 95% of the known images pass
    error          smallest mean of both error rates over thresholds (arXiv:1706.02690, §4.2)
    f1             of detecting outliers, at the best threshold; flagging everything gives 66.7
    f1-macro       mean of F1 over the known classes and `unknown`, as in open-set papers; at the threshold
                   95% of the known images pass; images that pass get their predicted class
All are in percent.
"""

import torch

from experiments.recognition.libraries import detectors, ood_metrics
from experiments.recognition.networks import in_batches

PASS = 0.95  # share of the known images below the threshold of fpr95 and f1-macro
SCORES = ("angle", "softmax", "energy", "odin", "mahalanobis")
FIGURES = ("auroc", "aupr-in", "aupr-out", "fpr95", "error", "f1", "f1-macro")


class Scores:
    """The scores of a classifier, fitted to its training images' features [N, F] and classes [N]."""

    def __init__(self, net, features, labels):
        self.net = net
        self.directions = first_singular_vectors(features, labels)
        self.mahalanobis = detectors.Mahalanobis(None).fit_features(features, labels)
        self.odin = detectors.ODIN(net, eps=0.0014, temperature=1000)

    def __call__(self, images):
        """({score: [N]}, predicted classes [N]) of uint8 images [N, C, H, W]."""
        with torch.no_grad():
            features = in_batches(self.net.features, images)
            logits = self.net.head(features)
        return {
            "angle": angle(features, self.directions),
            "softmax": detectors.MaxSoftmax.score(logits),
            "energy": detectors.EnergyBased.score(logits),
            "odin": in_batches(self.odin.predict, images),
            "mahalanobis": self.mahalanobis.predict_features(features),
        }, logits.argmax(dim=1)


def first_singular_vectors(features, labels):
    """The first right singular vector of each class's features [N, F], not centred: [K, F] (§3.5)."""
    return torch.stack(
        [torch.linalg.svd(features[labels == k], full_matrices=False).Vh[0] for k in range(int(labels.max()) + 1)]
    )


def angle(features, directions):
    """Eq. 10: radians in [0, pi/2] between features [N, F] and the nearest of the lines along `directions` [K, F]."""
    cosine = (torch.nn.functional.normalize(features, dim=1) @ directions.t()).abs().amax(dim=1)
    return torch.arccos(cosine.clamp(max=1))


def figures(known, outliers, labels, predicted):
    """The measures of one score: of known images [N] and outliers [M]; labels: classes of the known images [N];
    predicted: predictions for the known images, then the outliers [N + M]."""
    n = min(len(known), len(outliers))
    predicted = torch.cat([predicted[:n], predicted[len(known) : len(known) + n]])
    scores = torch.cat([known[:n], outliers[:n]]).double()
    is_known = torch.cat([labels[:n], torch.full_like(labels[:n], -1)])  # pytorch-ood: outliers are below 0
    fpr, tpr, _ = ood_metrics.roc_curve(scores, is_known)
    precision, recall, _ = ood_metrics.pr_curve(scores, is_known)
    threshold = scores[:n].quantile(PASS)
    assigned = torch.where(scores > threshold, -1, predicted)
    found = {
        "auroc": ood_metrics.auroc(scores, is_known),
        "aupr-in": ood_metrics.aupr(scores, is_known, "id"),
        "aupr-out": ood_metrics.aupr(scores, is_known, "ood"),
        "fpr95": ood_metrics.fpr_at_tpr(-scores, -1 - is_known.clamp(max=0), PASS),  # known images are the positives
        "error": (fpr + 1 - tpr).min() / 2,
        "f1": (2 * precision * recall / (precision + recall).clamp(min=1e-12)).max(),
        "f1-macro": macro_f1(assigned, is_known),
    }
    return {name: 100 * float(value) for name, value in found.items()}


def macro_f1(predicted, true):
    """Mean over the classes in `true` [N] (the unknown are -1) of F1 = 2 TP / (2 TP + FP + FN)."""
    classes = true.unique()
    is_predicted, is_true = (values[:, None] == classes for values in (predicted, true))
    hits = (is_predicted & is_true).sum(dim=0)
    return (2 * hits / (is_predicted.sum(dim=0) + is_true.sum(dim=0))).double().mean()
