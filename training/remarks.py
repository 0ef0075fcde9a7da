"""Remarks of a new run about its data and options before the first step, which are otherwise noticed late or never."""

from torch_utils import precision
from training.data.labels import differ, numbered
from training.presets import PRESETS


def decay_remark(options):
    """A line if a run is longer than the decay of its learning rates; otherwise None."""
    networks, kimg = options.networks, options.run.kimg
    if networks.decay_end_kimg is None or kimg is None or kimg <= networks.decay_end_kimg:
        return None
    factor = networks.decay_factor
    left, learned = (f"{factor:.0%} of their start", "little") if factor else ("0", "nothing")
    return f"the learning rates are {left} from {networks.decay_end_kimg:g} kimg on, so {learned} is learned after that"


def precision_remark(options):
    """A line if a run of `--bf16` continues in float32; otherwise None."""
    if options.run.bf16 and options.run.device == "cpu" and not precision.has_amx():
        return f"{precision.NO_AMX}: the run continues in float32, not in bfloat16"
    return None


def remarks(options, data):
    """Lines about the options of a run (`RunOptions`) and its `Dataset`."""
    if data.class_names:
        yield f"classes: {numbered(data.class_names)}"
    measured = (options.data.metric_data or {}).get("class_names")
    if data.class_names and differ(measured, data.class_names):
        yield f"the images of --metricdata have other classes: {numbered(measured)}"
    if unused := data.unused_labels():
        yield f"{data.path} has {unused}, which are not used; --cond 1 trains with them"
    share = PRESETS[options.run.cfg].holdout
    if share and not data.selection.holdout and not data.selection.can_hold_out(share):
        yield f"no image is held out: the preset's share {share:g} is less than one image"
    if line := decay_remark(options):
        yield line
    if options.networks.D.get("block_kwargs", {}).get("freeze_layers") and not options.run.resume:
        yield "--freezed freezes layers of D at their random initialisation: use it with --resume SNAPSHOT"
