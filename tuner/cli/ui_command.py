"""``tuner ui``."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import click

from tuner.cli.options import choose_tracking_uri, find_tracking_uri, results_option

_STARTS_WITHIN_S = 120.0


@click.command()
@click.argument("search", required=False)
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="The port, on loopback.")
@results_option
def ui(search: str | None, port: int, results: Path) -> None:
    r"""Open MLflow on the recorded searches, on this machine's loopback only.

    With SEARCH, the page that compares its best trials is named too. With MLFLOW_TRACKING_URI set to a server, none is
    started and its address is printed. Ctrl-C ends the server; nothing is lost.

    \b
    Examples:
        tuner ui
        tuner ui digits
        tuner ui --port 5001
    """
    from tuner.errors import InputError

    uri = choose_tracking_uri("auto") if search is None else find_tracking_uri(results.absolute() / search)
    assert uri is not None, "auto is never off"
    if uri.startswith(("http://", "https://")):
        from tuner.track.address import hide_password

        click.echo(f"MLflow: {hide_password(uri)}")
        _print_page(search, uri, hide_password(uri))
        return
    store = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not store.exists():
        raise InputError(
            f"{store}: nothing is recorded here yet; start a search with tuner run SPEC, or go to its folder"
        )
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # the address may hold a password, and arguments stand in the list of processes
    own = {"MLFLOW_BACKEND_STORE_URI": uri}
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ, **own}
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait_for(address, server)
        click.echo(f"MLflow: {address}  (ctrl-C ends it)")
        _print_page(search, uri, address)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)  # its group: the server has a worker process
            server.wait()


def _wait_for(address: str, server: "subprocess.Popen[bytes]") -> None:
    from tuner.errors import TrackingError

    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).close()  # noqa: S310 an http address of ours
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TrackingError(f"MLflow's server does not start at {address}; is the port taken? choose another with --port")


def _print_page(search: str | None, uri: str, address: str) -> None:
    if search is not None:
        from tuner.track.mirror import find_comparison

        click.echo(f"the best trials of {search!r} side by side: {address}/{find_comparison(uri, search)}")
