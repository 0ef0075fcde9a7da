"""Where to compute."""

from dnnlib.util import UserError


def pick_device(name):
    """cpu, cuda or mps: what `name` says, or the best that this machine has for `auto`."""
    import torch  # slow to import, and --help should not wait for it

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available[name]:
        raise UserError(f"--device {name}: this machine has none; give --device cpu, or leave it out")
    return name
