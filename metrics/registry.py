"""Names of metrics and their meaning. Each metric's file describes its own names (`KIND`); this registry collects them.

    fid50k_full   kid50k_full   pr50k3_full   dc50k5_full   is50k      ppl2_wend ppl_{z,w}{end,full}   lipschitz1k
    fd_effnet4k_full   kid_effnet4k_full   pr_effnet4k3_full   dc_effnet4k5_full   is_effnet4k   ppl_effnet_wend

The number is how many images are generated (k: thousands); for pr and dc the rank of the neighbour follows. `_full`
compares with all real images, without flips; without `_full`, with 50,000 of them, with flips. `effnet`
(EfficientNet-Lite0), `vgg` (VGG16) or `user` (the file of --detector) after the first word replaces Inception's
features.
"""

import re

from dnnlib import util
from dnnlib.util import UserError
from metrics import density_coverage, fid, inception_score, kid, lipschitz, ppl, precision_recall
from metrics.detectors import find_inception, find_vgg16, is_inception
from metrics.metric import DISCRIMINATOR, FEATURES, PERCEPTUAL, PROBABILITIES, Metric

KINDS = [module.KIND for module in (fid, kid, precision_recall, density_coverage, inception_score, ppl, lipschitz)]


def parse_metric(name):
    """The `Metric` of a name. Raises UserError with the valid names if it is unknown."""
    for kind in KINDS:
        for match in filter(None, (re.fullmatch(pattern, name) for pattern in kind.patterns)):
            metric = _metric(name, kind, match.groupdict())
            if metric.num < metric.at_least:
                raise UserError(
                    f"{name} generates {metric.num} images and needs {metric.at_least}: use a larger number"
                )
            return metric
    raise UserError(f"unknown metric {name!r}: use {_known()}")


def _metric(name, kind, parts):
    count = parts["num"] or "50k"
    return Metric(
        name=name,
        kind=kind,
        features="none" if kind.needs == DISCRIMINATOR else parts.get("features") or "inception",
        num=int(count.removesuffix("k")) * (1000 if count.endswith("k") else 1),
        full=bool(parts.get("full")),
        k=int(parts.get("k") or 0),
        space=parts.get("space") or "",
        sampling=parts.get("sampling") or "",
        crop=parts.get("version") == "ppl",  # the first version crops to the middle, where aligned faces are
    )


def _known():
    names = [name for kind in KINDS for name in kind.names]
    others = [renamed(kind.names[0], "effnet") for kind in KINDS if kind.needs != DISCRIMINATOR]
    vgg = [renamed(kind.names[0], "vgg") for kind in KINDS if kind.needs == FEATURES]
    return (
        f"{', '.join(names)}; on EfficientNet features {', '.join(others)}; on VGG16 features {', '.join(vgg)}; "
        "or with other counts (pr, dc: thousands)"
    )


def renamed(name, features):
    """A metric's name on other features: fid50k_full -> fd_effnet50k_full, ppl2_wend -> ppl2_effnet_wend."""
    head, tail = re.fullmatch(r"([a-z]+(?:2(?=_))?)_?(.*)", name).groups()
    joint = "" if tail[0].isdigit() else "_"
    return f"{parse_metric(name).kind.other_head or head}_{features}{joint}{tail}"


def better(name, value, than):
    """Whether `value` is better than `than`: smaller for distances and path lengths, larger for scores."""
    return value > than if parse_metric(name).kind.larger_is_better else value < than


def listed(names):
    """The names in a list, or in a text with commas; "none" and "None" are not names."""
    names = names.split(",") if isinstance(names, str) else names
    return [name.strip() for name in names if name.strip().lower() not in ("", "none")]


def resolve_metrics(names, detector=None, say=None):
    """Replace metrics that this machine cannot compute. `names`: a list, or text with commas.

    detector: path from the user. If the network of a metric is not available, the metric is computed on other features,
    under another name, and `say` (standard error by default) prints one line. Raises UserError for unknown names.
    """
    say = say or (lambda line: util.say(line, err=True))
    metrics = [parse_metric(name) for name in listed(names)]
    substitutes = {}
    for needs in (FEATURES, PROBABILITIES, PERCEPTUAL):
        wanted = [metric.name for metric in metrics if metric.kind.needs == needs and metric.features == "inception"]
        features, reason = _available(needs, detector) if wanted else ("inception", "")
        if features != "inception":
            substitutes |= {name: renamed(name, features) for name in wanted}
            say(f"{reason}; computing {', '.join(substitutes[name] for name in wanted)} instead of {', '.join(wanted)}")
    return [substitutes.get(metric.name, metric.name) for metric in metrics]


def _available(needs, path):
    """("inception", "") if StyleGAN2-ADA's network is available, otherwise (features to use instead, reason)."""
    if needs != PERCEPTUAL and path is not None and not is_inception(path):
        return "user", f"{path} is not the Inception file of FID"
    try:
        find_vgg16() if needs == PERCEPTUAL else find_inception(path, classifier=needs == PROBABILITIES)
    except UserError as error:
        return "effnet", str(error)
    return "inception", ""
