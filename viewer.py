"""Look at a network in the browser: `python viewer.py --network SNAPSHOT`."""

import pathlib
import threading
import webbrowser

import click

from dnnlib.util import UserError, run_command, say


@click.command(context_settings={"max_content_width": 110, "show_default": True})
@click.option(
    "--network", metavar="FILE", required=True, help="Snapshot: a file, an https URL, or ffhq256 and the like."
)
@click.option("--directions", metavar="FILE", help="Directions that directions.py wrote: a slider for each.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="Port on 127.0.0.1; 0: any that is free.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", help="Where to compute.")
def main(network, directions, port, no_browser, device):
    """Open a local page with sliders for seeds, truncation, style mixing, class and directions.

    Only this machine can reach it. Ctrl-C ends it.
    """
    from dnnlib.devices import pick_device
    from latents.directions import load_directions
    from training.snapshot import load_generator
    from viewing.sampler import Sampler
    from viewing.server import ViewerServer

    G = load_generator(network, pick_device(device))["G_ema"]
    sampler = Sampler(G, load_directions(directions, G) if directions else None)
    try:
        server = ViewerServer(port, sampler, title=pathlib.Path(network).name)
    except OSError as error:
        raise UserError(f"--port {port} cannot be used ({error.strerror}): give another, or 0 for a free one") from None
    with server:
        say(f"{server.url} (Ctrl-C ends it)")
        if not no_browser:
            threading.Thread(target=webbrowser.open, args=[server.url], daemon=True).start()
        server.serve_forever()


if __name__ == "__main__":
    run_command(main)
