"""Options that several commands share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def results_option(command: Command) -> Command:
    """Add ``--results``, the folder of all searches."""
    return click.option(
        "--results",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("results"),
        envvar="TUNER_RESULTS",
        show_default=True,
        show_envvar=True,
        help="The folder of all searches.",
    )(command)


def cache_option(command: Command) -> Command:
    """Add ``--cache``, the folder of decoded images."""
    return click.option(
        "--cache",
        type=click.Path(file_okay=False, path_type=Path),
        default=lambda: Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tuner",
        envvar="TUNER_CACHE",
        show_default="~/.cache/tuner",
        show_envvar=True,
        help="The folder of decoded images.",
    )(command)


def set_option(command: Command) -> Command:
    """Add ``--set``, which changes a value of the spec."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY.PATH=VALUE",
        help="Change a value of the spec, such as stages.coarse.trials=8; may be given again.",
    )(command)


def json_option(command: Command) -> Command:
    """Add ``--json``, for scripts."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)


def choose_tracking_uri(asked: str) -> str | None:
    """Say where MLflow's runs go.

    Parameters
    ----------
    asked : str
        The spec's ``tracking.mlflow``: auto, off or an address.

    Returns
    -------
    str or None
        An address for MLflow's client; None for off.
    """
    if asked == "off":
        return None
    if asked != "auto":
        return asked
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').absolute()}"
