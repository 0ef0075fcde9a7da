"""How many operations a training step dispatches: on a GPU each costs the host some 50 µs, whatever its size."""

import pytest
from operations import as_on_a_gpu, average_step, meta_step
from train_runs import write_images

CELL = ["--cfg", "demo", "--aug", "noaug", "--gamma", "0.1", "--batch", "16"]  # of a run in the studies
PAPER = ["--cfg", "paper256", "--adamix", "--aug", "noaug"]
# Operations of an average step, which may only become fewer. In November 2026 they were 1,870, 5,640 and 5,010.
TABLE = {
    "cell": (CELL, 32, {}, 1255),
    "auto256": (["--cfg", "auto"], 256, {"half_blocks": 4}, 4130),
    "paper256 + AdaptiveMix": (PAPER, 256, {"half_blocks": 4, "one_microbatch": True}, 3300),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_step_dispatches_no_more_operations_than_before(name, tmp_path):
    args, side, kwargs, most = TABLE[name]
    data = write_images(tmp_path / "data", [side] * 2)
    with as_on_a_gpu():
        operations = average_step(meta_step(tmp_path, "--data", data, *args, **kwargs))
    assert most - 100 < operations <= most  # if there are far fewer, write the new number into TABLE
