"""``tuner ui``."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from tuner.cli.options import choose_tracking_uri, find_tracking_uri, need_package, results_option
from tuner.errors import InputError, RunError, SearchNotFoundError

_STARTS_WITHIN_S = 120.0
_PORTS = {"mlflow": 5000, "tensorboard": 6006, "optuna": 8080}


@click.command()
@click.argument("search", required=False)
@click.option("--tensorboard", "view", flag_value="tensorboard", help="Open TensorBoard, and not MLflow.")
@click.option("--optuna", "view", flag_value="optuna", help="Open Optuna's dashboard on SEARCH, and not MLflow.")
@click.option(
    "--port",
    default=None,
    type=click.IntRange(1, 65535),
    help="The port, on loopback.  [default: 5000, TensorBoard's 6006, Optuna's 8080]",
)
@results_option
def ui(search: str | None, view: str | None, port: int | None, results: Path) -> None:
    r"""Open MLflow, TensorBoard or Optuna's dashboard on the recorded searches, on this machine's loopback only.

    With SEARCH, MLflow's page that compares its best trials is named too. With MLFLOW_TRACKING_URI set to a server,
    none is started and its address is printed. TensorBoard, whose page HParams compares all trials, comes with
    pip install 'tuner[tensorboard]'; Optuna's dashboard, which shows the ledger as it grows and changes nothing, with
    'tuner[dashboard]'. Ctrl-C ends the server; nothing is lost.

    \b
    Examples:
        tuner ui
        tuner ui digits
        tuner ui digits --tensorboard
        tuner ui digits --optuna
        tuner ui --port 5001
    """
    view = view or "mlflow"
    port = port or _PORTS[view]
    if view == "tensorboard":
        open_tensorboard(search, results.absolute(), port)
    elif view == "optuna":
        open_dashboard(search, results.absolute(), port)
    else:
        open_mlflow(search, results.absolute(), port)


def open_mlflow(search: str | None, results: Path, port: int) -> None:
    """Serve MLflow until ctrl-C, or name the server that there is.

    Raises
    ------
    InputError
        If nothing is recorded here.
    """
    uri = choose_tracking_uri("auto") if search is None else find_tracking_uri(results / search)
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
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # the address may hold a password, and arguments stand in the list of processes
    own = {"MLFLOW_BACKEND_STORE_URI": uri}
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ, **own}
    with _served("MLflow", command, port, "/health", environment) as server:
        _print_page(search, uri, f"http://127.0.0.1:{port}")
        server.wait()


def open_tensorboard(search: str | None, results: Path, port: int) -> None:
    """Serve TensorBoard until ctrl-C.

    Raises
    ------
    InputError
        If it is not installed.
    SearchNotFoundError
        If nothing was written for it.
    """
    need_package("TensorBoard", "tensorboard", "tensorboard")
    from tuner.track.ledger import TENSORBOARD

    folder = results if search is None else results / search / TENSORBOARD
    if not any(results.glob(f"{search or '*'}/{TENSORBOARD}")):
        raise SearchNotFoundError(
            f"{results / (search or '*') / TENSORBOARD}: nothing was written for TensorBoard; "
            + ("start a search with tuner run SPEC" if search is None else f"write it now with: tuner sync {search}")
        )
    # files of one trial are written by several, which TensorBoard follows only if it is told so
    command = ["tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with _served("TensorBoard", [*command, "--reload_multifile=true"], port, "/", os.environ) as server:
        click.echo(f"all trials compared: http://127.0.0.1:{port}/#hparams")
        server.wait()


def open_dashboard(search: str | None, results: Path, port: int) -> None:
    """Serve Optuna's dashboard until ctrl-C.

    Raises
    ------
    InputError
        If it is not installed, or no search is named.
    """
    need_package("Optuna's dashboard", "optuna_dashboard", "dashboard")
    from tuner.track.ledger import Ledger

    if search is None:
        raise InputError("Optuna's dashboard shows one search; name it: tuner ui SEARCH --optuna (tuner ls lists them)")
    folder = results / search
    Ledger.open(folder)  # says which searches there are, if this is none
    command = ["tuner.track.dashboard_main", str(folder), str(port)]
    with _served("Optuna's dashboard", command, port, "/dashboard", os.environ) as server:
        server.wait()


@contextlib.contextmanager
def _served(
    name: str, command: Sequence[str], port: int, page: str, environment: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server of Python's for as long as the block lasts, which ctrl-C ends; say where it is once it answers.

    Raises
    ------
    RunError
        If it does not start, or fails later.
    """
    address = f"http://127.0.0.1:{port}"
    fault = f"{name}'s server does not start at {address}; is the port taken? choose another with --port"
    try:
        socket.create_server(("127.0.0.1", port)).close()  # whoever has the port would answer in the server's place
    except OSError as error:
        raise RunError(fault) from error
    server = subprocess.Popen(
        [sys.executable, "-m", *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if not _answers(address + page, server):
            raise RunError(fault)
        click.echo(f"{name}: {address}  (ctrl-C ends it)")
        yield server
        if server.returncode:
            raise RunError(
                f"{name}'s server at {address} ended by itself, with exit code {server.returncode}; start it again, or "
                "choose another port with --port"
            )
    except KeyboardInterrupt:
        pass
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)  # its group: the server has a worker process
            server.wait()


def _answers(page: str, server: "subprocess.Popen[bytes]") -> bool:
    """Wait until a server answers; False if it does not."""
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(page, timeout=2).close()  # noqa: S310 an http address of ours
            return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


def _print_page(search: str | None, uri: str, address: str) -> None:
    if search is not None:
        from tuner.track.mirror import find_comparison

        click.echo(f"the best trials of {search!r} side by side: {address}/{find_comparison(uri, search)}")
