"""Read `training_options.json` of version 0.1, which is flat: it lacks the groups of `RunOptions`."""

import dataclasses

from training.options import GROUPS, LossGroup

GROUP_OF = {field.name: group for group, cls in GROUPS.items() for field in dataclasses.fields(cls)}


def grouped(values):
    """The content of a `training_options.json` of either version, in the current form.

    Content that is not options of a run is unchanged. TypeError or AttributeError if a nested part is not a dictionary.
    """
    if not isinstance(values, dict) or not {"kimg_per_tick", "data", "loss", "optimizer"} <= values.keys():
        return values
    values = {**values, "dataset": values.get("data"), "loss": _loss(values["loss"])}
    del values["data"]
    optimizer = {"algorithm": "adam", **values.pop("optimizer")}
    values |= {"G_optimizer": optimizer, "D_optimizer": dict(optimizer)}
    if "by_length" in values:
        values["by_length"] = {_path(name): share for name, share in values["by_length"].items()}
    if "fingerprints" in values:
        values["fingerprints"] = {_renamed(name): value for name, value in values["fingerprints"].items()}
    result = {group: {} for group in GROUPS} | {"loss": values.pop("loss")}
    for name, value in values.items():
        result[GROUP_OF.get(name, "run")][name] = value
    return result


def _renamed(name):
    return "dataset" if name == "data" else name


def _loss(values):
    """The arguments of the loss, with its terms separated."""
    fields = {field.name for field in dataclasses.fields(LossGroup)}
    terms = {name: value for name, value in values.items() if name not in {*fields, "batch_size"}}  # it was unused
    return {**{name: value for name, value in values.items() if name in fields}, "terms": terms}


def _path(option):
    """The current path of an option that `by_length` names."""
    if option.startswith("loss."):
        return option.replace("loss.", "loss.terms.") if option.count(".") > 1 else option
    return f"{GROUP_OF.get(option, 'run')}.{option}"
