"""Train a StyleGAN2 on images: `python train.py --data photos --cfg fewshot`."""

import dataclasses
import json
import os

from dnnlib.installed import click
from dnnlib.options import command
from dnnlib.util import run_command, say
from training.arguments import GROUPS, Arguments


@command(GROUPS)
@click.pass_context
def main(context, **values):
    """Train a generative network on images.

    \b
    python train.py --cfg fast                         # the built-in emoji, 7 minutes on a CPU
    python train.py --data photos --cfg fewshot        # a folder of your own pictures
    python train.py --resume latest                    # continue the newest run in runs

    The run directory holds networks, sample images, statistics, metrics and a report.
    """
    from dnnlib.screen import never_failing
    from torch_utils.launch import launch
    from training.continuing import find_run
    from training.run_dir import require_writable
    from training.starting import start

    args = Arguments.of(context)
    run_dir, options = find_run(args)
    if args.dry_run:
        say(*json.dumps(dataclasses.asdict(options), indent=2).splitlines())
        return
    require_writable(run_dir or args.outdir)
    if options.run.gpus > 1 and "RANK" not in os.environ:
        if run_dir is None and options.run.device == "cpu" and "device" not in args.given:
            say(f"no GPU was found: --gpus {options.run.gpus} starts that many processes on the CPU", err=True)
        launch(options.run.gpus, options.run.device)
    with never_failing("stdout"):
        start(run_dir, args.outdir, options)


if __name__ == "__main__":
    run_command(main)
