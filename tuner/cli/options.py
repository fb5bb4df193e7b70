"""Options that several commands share."""

import importlib.util
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from tuner.errors import InputError
from tuner.spec.search import Notify

Command = TypeVar("Command", bound=Callable[..., Any])


class ResultsPath(click.Path):
    """A folder, or the address of one in an object store, which becomes the folder that stands for it here."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the folder."""
        if "://" not in str(value):
            return super().convert(value, param, ctx)
        from tuner.execute.remote import open_results

        return open_results(value, Path(os.environ.get("TUNER_CACHE") or find_cache()))


def results_option(command: Command) -> Command:
    """Add ``--results``, the folder of all searches."""
    return click.option(
        "--results",
        type=ResultsPath(file_okay=False, path_type=Path),
        default=Path("results"),
        envvar="TUNER_RESULTS",
        show_default=True,
        show_envvar=True,
        help="The folder of all searches; or s3://BUCKET/FOLDER, with their ledgers in PostgreSQL.",
    )(command)


def repeat_results() -> str:
    """Return the option ``--results`` for a command that is proposed, if this command was given it; else nothing."""
    context = click.get_current_context()
    if context.get_parameter_source("results") is not ParameterSource.COMMANDLINE:
        return ""
    return f" --results {shlex.quote(str(context.params['results']))}"


def find_cache() -> Path:
    """Return where this user's programs keep what they can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tuner"


def cache_option(command: Command) -> Command:
    """Add ``--cache``, the folder of decoded images."""
    return click.option(
        "--cache",
        type=click.Path(file_okay=False, path_type=Path),
        default=find_cache,
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


def address_option(command: Command) -> Command:
    """Add ``--address``, a cluster's dashboard."""
    return click.option(
        "--address",
        default="http://127.0.0.1:8265",
        envvar="RAY_API_SERVER_ADDRESS",
        show_default=True,
        show_envvar=True,
        help="The cluster's dashboard.",
    )(command)


def warn(text: str) -> None:
    """Print a warning, apart from what the command prints."""
    click.echo(f"warning: {text}", err=True)


def hush_mlflow() -> None:
    """Keep MLflow from drawing bars of its own where it copies files."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def find_tracking_uri(folder: Path) -> str:
    """Say where a search's runs go by its ledger; a search that was not tracked goes where a new one would.

    Parameters
    ----------
    folder : Path
        The search's folder.
    """
    from tuner.spec import load_text
    from tuner.track.ledger import Ledger

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # MLflow's own patience is four minutes
    asked = [load_text(stage.attributes["asked"]).tracking.mlflow for stage in Ledger.open(folder).stages()]
    uri = choose_tracking_uri(asked[-1] if asked and asked[-1] != "off" else "auto")
    assert uri is not None, "only off is none"
    return uri


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


def find_webhook(notify: Notify | None) -> str | None:
    """Fill what the environment says into the address that is told of a search; it must not be printed.

    Raises
    ------
    InputError
        If a variable is not set, or the outcome is no address.
    """
    if notify is None or notify.webhook is None:
        return None
    try:
        address = Template(notify.webhook).substitute(os.environ)
    except KeyError as error:
        raise InputError(
            f"notify.webhook: {error.args[0]} is not set in the environment; set it, or search without: "
            "--set notify=null"
        ) from None
    except ValueError:
        raise InputError("notify.webhook: a $ is followed by no name; write $NAME, or $$ for the sign itself") from None
    if not re.fullmatch(r"https?://[^\s/]+\S*", address):
        raise InputError("notify.webhook: what it comes to is no http or https address; set the variable to all of it")
    return address


def need_package(name: str, package: str, extra: str) -> None:
    """See that a package is there.

    Raises
    ------
    InputError
        If it is not.
    """
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{name} is not installed here; install it with: pip install 'tuner[{extra}]'")
