"""What a new run says of its data and options before the first step: what else would be noticed after it, if ever."""

from training.data.labels import differ, numbered
from training.presets import PRESETS


def decay_remark(options):
    """A line where a run is longer than a decay of its learning rates to 0; else None."""
    networks, kimg = options.networks, options.run.kimg
    if networks.decay_end_kimg is None or networks.decay_factor or kimg is None or kimg <= networks.decay_end_kimg:
        return None
    return f"the learning rates are 0 from {networks.decay_end_kimg:g} kimg on, so nothing is learned after that"


def remarks(options, data):
    """Lines about the options of a run (`RunOptions`) and its `Dataset`."""
    if data.class_names:
        yield f"classes: {numbered(data.class_names)}"
    measured = (options.data.metric_data or {}).get("class_names")
    if data.class_names and differ(measured, data.class_names):
        yield f"the images to measure against have other classes: {numbered(measured)}"
    if unused := data.unused_labels():
        yield f"{data.path} has {unused}, which are not used; --cond 1 trains with them"
    share = PRESETS[options.run.cfg].holdout
    if share and not data.selection.holdout and not data.selection.can_hold_out(share):
        yield f"no image is held out: the preset's {share:g} of so few is less than one"
    if line := decay_remark(options):
        yield line
    if options.networks.D.get("block_kwargs", {}).get("freeze_layers") and not options.run.resume:
        yield "--freezed holds layers of D at their random start: it is made for --resume SNAPSHOT"
