"""Names of metrics and what they mean.

    fid50k_full   kid50k_full   pr50k3_full   dc50k5_full   is50k      ppl2_wend ppl_{z,w}{end,full}   lipschitz1k
    fd_effnet4k_full   kid_effnet4k_full   pr_effnet4k3_full   dc_effnet4k5_full   is_effnet4k   ppl_effnet_wend

The number is how many images are generated (k: thousands), for pr and dc the neighbour's rank follows. `_full` compares
with all real images, without flips; without it with 50,000 of them, flips kept. `effnet` (EfficientNet-Lite0) or `user`
(the file of --detector) after the first word stands for other features than Inception's.
"""

import dataclasses
import re
import sys

from dnnlib.util import UserError

KNOWN = (
    "fid50k_full, kid50k_full, pr50k3_full, dc50k5_full, is50k, ppl2_wend, ppl_zfull, ppl_wfull, ppl_zend, ppl_wend, "
    "fid50k, kid50k, pr50k3, lipschitz1k, and on EfficientNet features fd_effnet4k_full, kid_effnet4k_full, "
    "pr_effnet4k3_full, dc_effnet4k5_full, is_effnet4k, ppl_effnet_wend; any other count may stand in a name"
)

_COUNT = r"(?P<num>[1-9]\d*k?)"
_FULL = r"(?P<full>_full)?"
_OTHER = r"_(?P<features>effnet|user)"
_PATTERNS = {
    "fid": [f"fid{_COUNT}{_FULL}", f"fd{_OTHER}{_COUNT}{_FULL}"],
    "kid": [f"kid({_OTHER})?{_COUNT}{_FULL}"],
    "pr": [rf"pr({_OTHER})?(?P<num>[1-9]\d*k)(?P<k>[1-9]\d*){_FULL}"],
    "dc": [rf"dc({_OTHER})?(?P<num>[1-9]\d*k)(?P<k>[1-9]\d*){_FULL}"],
    "is": [f"is({_OTHER})?{_COUNT}"],
    "ppl": [rf"(?P<version>ppl2?)(_(?P<features>effnet)?{_COUNT}?)?_(?P<space>[zw])(?P<sampling>end|full)"],
    "lipschitz": [f"lipschitz{_COUNT}"],
}
_REAL_LIMIT = {"kid": 1_000_000, "pr": 200_000, "dc": 200_000}  # of `_full`; the Fréchet distance takes every image


@dataclasses.dataclass(frozen=True)
class Metric:
    """A parsed name. num: images (or pairs) to generate; k: neighbour's rank; the last three are of path lengths."""

    name: str
    kind: str
    features: str  # inception, effnet, user; none for lipschitz
    num: int
    full: bool = False
    k: int = 0
    space: str = ""
    sampling: str = ""
    crop: bool = False

    @property
    def real_limit(self):
        """At most so many real images are used; None for no limit."""
        return _REAL_LIMIT.get(self.kind) if self.full else 50_000

    @property
    def at_least(self):
        """Images that the measure needs of either set."""
        return {"pr": self.k + 1, "dc": self.k + 1, "is": 10, "lipschitz": 1}.get(self.kind, 2)


def parse_metric(name):
    """The `Metric` of a name. Raises UserError with the known names for others."""
    for kind, patterns in _PATTERNS.items():
        for match in filter(None, (re.fullmatch(pattern, name) for pattern in patterns)):
            metric = _metric(name, kind, match.groupdict())
            if metric.num < metric.at_least:
                raise UserError(f"{name} generates {metric.num} images and needs {metric.at_least}: ask for more")
            return metric
    raise UserError(f"unknown metric {name!r}: known are {KNOWN}")


def _metric(name, kind, parts):
    count = parts["num"] or "50k"
    return Metric(
        name=name,
        kind=kind,
        features="none" if kind == "lipschitz" else parts.get("features") or "inception",
        num=int(count.removesuffix("k")) * (1000 if count.endswith("k") else 1),
        full=bool(parts.get("full")),
        k=int(parts.get("k") or 0),
        space=parts.get("space") or "",
        sampling=parts.get("sampling") or "",
        crop=parts.get("version") == "ppl",  # the first version looks at the middle, where aligned faces are
    )


def renamed(name, features):
    """An Inception metric's name on other features: fid50k_full -> fd_effnet50k_full, kid50k -> kid_effnet50k."""
    head, tail = re.fullmatch(r"(fid|kid|pr|dc|is|ppl2?(?=_))_?(.*)", name).groups()
    head = "fd" if head == "fid" else head
    if head.startswith("ppl"):
        joint = "" if tail[0].isdigit() else "_"
        return f"{head}_{features}{joint}{tail}"
    return f"{head}_{features}{tail}"


def better(name, value, than):
    """Whether a figure of this name is better than another: distances and path lengths are small, scores are large."""
    return value > than if parse_metric(name).kind in ("pr", "dc", "is") else value < than


def resolve_metrics(names, detector=None, say=None):
    """Names that this machine can compute, in place of `names` (a list, or text with commas).

    detector: path that the user gave. Where a figure's own network cannot be had, `say` (standard error by default) is
    given one line, and the figure is measured on other features, under another name. Raises UserError for unknown
    names.
    """
    say = say or (lambda line: print(line, file=sys.stderr))
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    metrics = [parse_metric(name) for name in names if name not in ("", "none")]
    substitutes = {}
    for group, networks in (("image", _inception_or), ("path", _vgg16_or)):
        wanted = [m.name for m in metrics if m.features == "inception" and (m.kind == "ppl") == (group == "path")]
        if wanted:
            features, reason = networks(detector)
            if features != "inception":
                substitutes |= {name: renamed(name, features) for name in wanted}
                say(f"{reason}; in place of {', '.join(wanted)}: {', '.join(substitutes[name] for name in wanted)}")
    return [substitutes.get(metric.name, metric.name) for metric in metrics]


def _inception_or(path):
    """("inception", "") or (features to use in its place, why)."""
    from metrics import detectors

    if path is None:
        return _downloadable(detectors.INCEPTION_URL, detectors.INCEPTION_SHA256)
    inception = detectors.INCEPTION_SHA256
    claimed = str(path).endswith(detectors.INCEPTION_URL.rpartition("/")[2])
    if detectors.read_checked(path, inception if claimed else None)[1] == inception:
        return "inception", ""
    return "user", f"{path} is not the Inception file of FID"


def _vgg16_or(_path):
    from metrics import detectors

    return _downloadable(detectors.VGG16_URL, None)


def _downloadable(url, sha256):
    from metrics import detectors

    try:
        detectors.download(url, sha256)
    except UserError as error:
        return "effnet", str(error)
    return "inception", ""
