"""Measure a trained network: python calc_metrics.py --network latest"""

from dnnlib.installed import click
from dnnlib.util import UserError, run_command, say
from tools import arguments


@arguments.command()
@arguments.network()
@click.option(
    "--metrics", default="fd_vgg1k_full,pr_vgg1k3_full", metavar="LIST",
    help="Comma-separated names; docs/metrics.md lists them. FID is fid50k_full.",
)  # fmt: skip
@click.option("--data", metavar="PATH", help="Images to compare with.  [default: what the network was trained on]")
@click.option("--metricdata", metavar="PATH", help="Images to compare with; takes precedence over --data.")
@click.option(
    "--accept-data", type=bool, default=False, metavar="BOOL",
    help="Accept that the images which the snapshot names have changed.",
)  # fmt: skip
@click.option("--mirror", type=bool, metavar="BOOL", help="Add flipped images, for names without _full.")
@arguments.device()
@click.option("--detector", metavar="PATH", help="TorchScript file to use for features. It is executed: trust it.")
@arguments.seed(help="Seed of the generated images.")
def main(network, metrics, data, metricdata, accept_data, mirror, device, detector, seed):
    """Measure a trained network and print one JSON record a metric.

    If the network is in a run's directory and the images are the run's, the records are added to its metric files. To
    share the work among processes, start it with: torchrun --nproc-per-node N calc_metrics.py ...
    """
    from dnnlib.devices import keep_freed_memory, pick_device
    from metrics.compute import require_use
    from metrics.registry import listed, resolve_metrics
    from torch_utils import distributed
    from training.network_files import network_file
    from training.run_data import is_own_data, reopen_snapshot_data
    from training.snapshot import load_networks

    keep_freed_memory()
    device = distributed.init(pick_device(device))
    rank, num_processes = distributed.rank(), distributed.world_size()
    names = resolve_metrics(metrics, detector, say=lambda line: rank == 0 and say(line, err=True))
    if not names:
        raise UserError("--metrics has no name: docs/metrics.md lists the names")
    require_use(detector, listed(metrics))
    network = network_file(network, note=lambda line: rank == 0 and say(line, err=True))
    network = distributed.broadcast(network)  # a run may write a better one meanwhile
    networks = load_networks(network, needed=("G_ema",))
    dataset = reopen_snapshot_data(network, networks, metricdata or data, mirror, accept_data)
    if rank == 0:
        say(*(f"{dataset.name}: {line}" for line in dataset.remarks()), err=True)
    G, D = (networks[key].to(device) if networks.get(key) is not None else None for key in ("G_ema", "D"))
    options = {"device": device, "seed": seed, "rank": rank, "num_processes": num_processes, "detector": detector}
    own = rank == 0 and is_own_data(networks["options"], dataset, metricdata or data)
    _measure(names, G, D, dataset, network, own, **options)
    distributed.finish()


def _report(record, snapshot, own):
    """Add the record to the run's records, unless it was measured on other images than those, or the first one on
    images that are not the run's `own`."""
    from metrics.compute import data_of_run, report_metric

    try:
        known = data_of_run(snapshot.parent, record["metric"])
        if known == record["data"]["content_hash"] or (known is None and own):
            report_metric(record, snapshot.parent, snapshot)
        else:
            what = f"{record['metric']} is not added to {snapshot.parent}"
            say(f"{what}: it is of other images than the run's", err=True)
    except OSError as error:
        raise UserError(
            f"cannot write to {snapshot.parent} ({error.strerror}): the result above was not saved"
        ) from None


def _measure(names, G, D, dataset, snapshot, own, **options):
    import json

    from tqdm import tqdm

    from metrics.compute import compute_metrics

    first = options["rank"] == 0
    with tqdm(unit="img", leave=False, disable=None if first else True) as bar:

        def progress(done, total):
            bar.total, bar.n = total, done
            bar.refresh()

        for record in compute_metrics(names, G, D, dataset, progress=progress, **options):
            if first:
                say(json.dumps(record))
            if first and (snapshot.parent / "training_options.json").is_file():
                _report(record, snapshot, own)


if __name__ == "__main__":
    run_command(main)
