"""``tuner ui``."""

import os
import subprocess
import sys
from pathlib import Path

import click

from tuner.cli.options import choose_tracking_uri


@click.command()
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="The port, on loopback.")
def ui(port: int) -> None:
    r"""Open MLflow on the recorded searches, on this machine's loopback only.

    With MLFLOW_TRACKING_URI set to a server, only its address is printed. Ctrl-C ends it; nothing is lost.

    \b
    Examples:
        tuner ui
        tuner ui --port 5001
    """
    from tuner.errors import InputError

    uri = choose_tracking_uri("auto")
    assert uri is not None, "auto is never off"
    if uri.startswith(("http://", "https://")):
        click.echo(f"MLflow runs at {uri}")
        return
    store = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not store.exists():
        raise InputError(
            f"{store}: nothing is recorded here yet; start a search with tuner run SPEC, or go to its folder"
        )
    click.echo(f"MLflow: http://127.0.0.1:{port}  (ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}
    raise SystemExit(subprocess.run(command, env=environment, check=False).returncode)
