"""Look at a network, or follow a run, in the browser: `python viewer.py --network SNAPSHOT`, `viewer.py --run DIR`."""

import os
import socket
import threading
import webbrowser

from dnnlib.installed import click
from dnnlib.util import UserError, run_command, say
from tools import arguments


@arguments.command()
@arguments.network(required=False)
@click.option("--run", metavar="DIR", help="Follow this run, also after its end: its directory, or latest.")
@arguments.directions(help="Directions that directions.py wrote: a slider for each.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="Port on 127.0.0.1; 0: any that is free.")
@click.option(
    "--host-name",
    "host_names",
    multiple=True,
    metavar="NAME[:PORT]",
    help="Answer under this name as well, as through a tunnel or a proxy: the name and port in the browser's address.",
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@arguments.device()
def main(network, run, directions, port, host_names, no_browser, device):
    """Open a local page with sliders for seeds, truncation, style mixing, class and directions.

    With --run the page shows a run as it trains: newest samples, curves, figures, the log's last lines.
    Only this machine can reach it. Ctrl-C ends it.
    """
    from tools.viewer.server import HOST_NAME, ViewerServer

    if bool(network) == bool(run):
        raise UserError("give either --network FILE to draw samples or --run DIR to follow a run")
    if run and directions:
        raise UserError("--directions belongs to --network: leave it out")
    host_names = [name.lower() for name in host_names]
    for name in host_names:
        if not HOST_NAME.fullmatch(name):
            raise UserError(f"--host-name {name}: give a name and a port as in the browser's address, localhost:9000")
    shown = follow(run) if run else sampler(network, directions, device)
    try:
        server = ViewerServer(port, shown, host_names)
    except OSError as error:
        raise UserError(f"--port {port} cannot be used ({error.strerror}): give another, or 0 for a free one") from None
    with server:
        say(f"{server.url} (Ctrl-C ends it)")
        if "SSH_CONNECTION" in os.environ:
            say(f"on the machine of your browser: {server.forward} {socket.gethostname()}, then open that address")
        if not no_browser:
            threading.Thread(target=webbrowser.open, args=[server.url], daemon=True).start()
        server.serve_forever()


def follow(run):
    from tools.viewer.run_page import RunPage

    return RunPage(run)


def sampler(network, directions, device):
    """The page with the sliders."""
    from dnnlib.devices import pick_device
    from tools.sampling.directions import load_directions
    from tools.viewer.sampler import Sampler
    from training.network_files import network_file
    from training.snapshot import load_generator

    network = network_file(network)
    G = load_generator(network, pick_device(device))["G_ema"]
    return Sampler(G, load_directions(directions, G) if directions else None, network.name)


if __name__ == "__main__":
    run_command(main)
