"""The microbatch that fits into a GPU's memory, compared with the memory of a step on the meta device."""

import pytest
from operations import Memory, as_on_a_gpu, meta_step, run_phases
from train_runs import dry_run, write_images

from dnnlib import devices
from training import planning
from training.device_memory import bytes_per_image, largest_microbatch
from training.options import from_values

ALL = ["--adamix", "--sdp", "--aw"]
OFFICIAL = ["--adamix", "--adamix-variant", "official"]


@pytest.mark.parametrize("half_blocks, terms", [(4, []), (4, ALL), (4, OFFICIAL), (0, ["--aug", "ada"])])
def test_memory_per_image_agrees_with_the_table(half_blocks, terms, tmp_path):
    data = write_images(tmp_path / "data", [64] * 2)
    options = ["--cfg", "auto", "--data", data, "--aug", "noaug", *terms]
    peaks = []
    with as_on_a_gpu():
        for batch in (4, 8):
            step = meta_step(tmp_path, *options, "--batch", batch, half_blocks=half_blocks)
            run_phases(step)
            peaks.append(max(run_phases(step, Memory, lambda phase, memory: memory.peak)))
    given = step.options
    table = bytes_per_image(step.networks.G, given.loss, given.augmentation.augpipe)
    assert 0.6 < (peaks[1] - peaks[0]) / 4 / table < 1.1


def options(tmp_path, *args, side=256):
    data = write_images(tmp_path / "data", [side] * 2)
    return from_values(dry_run(tmp_path, "--data", data, "--device", "cpu", "--kimg", "100", *args))


def test_the_microbatch_divides_the_batch_and_grows_with_the_memory(tmp_path):
    given = options(tmp_path, "--cfg", "paper256")
    sizes = [largest_microbatch(16, gib * 2**30, given.networks, given.loss, None) for gib in (3, 4, 5, 7, 80)]
    assert sizes == sorted(sizes) and sizes[0] == 1 and sizes[-1] == 16 and len(set(sizes)) > 3
    assert all(16 % size == 0 for size in sizes)


def test_no_microbatch_is_chosen_for_a_plain_gan(tmp_path):
    given = options(tmp_path, "--cfg", "dcgan", side=32)
    assert largest_microbatch(64, 2**40, given.networks, given.loss, None) is None


def test_a_run_on_a_gpu_chooses_batch_gpu_unless_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(planning.devices, "pick_device", lambda name: "cuda")
    monkeypatch.setattr(devices, "gpu_memory", lambda: 80 * 2**30)
    data = write_images(tmp_path / "data", [256] * 2)
    args = ["--cfg", "paper256", "--data", data, "--metrics", "none"]
    batches = [dry_run(tmp_path, *args, *more)["run"]["batch_gpu"] for more in ([], ["--batch-gpu", "8"])]
    assert batches == [64, 8]
