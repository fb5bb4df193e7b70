"""MLflow's registry of models: what is put there, and got back."""

from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tuner.errors import InputError, TrackingError
from tuner.track.address import hide_password

ALIAS = "champion"
PREFIX = "models:/"
MOST_TOLD = 5000  # characters of a description: more fit into MLflow's files, and not into its tables in PostgreSQL


def register(
    client: MlflowClient,
    name: str,
    run_id: str,
    artifact: str,
    tags: Mapping[str, str],
    card: str,
    *,
    is_champion: bool,
) -> None:
    """Make a version of a registered model of a run's artifact, once; the champion gets the alias.

    A card that is too long, as with a thousand classes, is cut: all of it is among the run's artifacts.
    """
    try:
        client.create_registered_model(name, description=f"What the search {name} chose.")
    except MlflowException:  # it is there already, or nothing that follows works either
        client.get_registered_model(name)
    same = [
        version for version in client.search_model_versions(f"name = '{name}'") if tags.items() <= version.tags.items()
    ]
    version = (
        same[0]
        if same
        else client.create_model_version(
            name, f"runs:/{run_id}/{artifact}", run_id=run_id, tags=dict(tags), description=_cut(card)
        )
    )
    if is_champion:
        client.set_registered_model_alias(name, ALIAS, str(version.version))


def _cut(card: str) -> str:
    rest = " ...\n\nAll of it is among the artifacts of the run.\n"
    return card if len(card) <= MOST_TOLD else card[: MOST_TOLD - len(rest)] + rest


def fetch_model(address: str, tracking_uri: str, file: str, folder: Path) -> tuple[Path, str]:
    """Fetch a registered model's file.

    Parameters
    ----------
    address : str
        ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
    tracking_uri : str
        MLflow's store or server.
    file : str
        The file's name in the artifacts of the model's run.
    folder : Path
        Where to put it.

    Returns
    -------
    Path, str
        The file, and its SHA-256 by the registry.

    Raises
    ------
    InputError
        If there is no such model, or it is none of ours.
    TrackingError
        If MLflow is away.
    """
    client = MlflowClient(tracking_uri)
    name, is_alias, alias = address.removeprefix(PREFIX).partition("@")
    try:
        if is_alias:
            version = client.get_model_version_by_alias(name, alias)
        else:
            name, _, number = name.partition("/")
            version = client.get_model_version(name, number)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise InputError(
                f"{address}: MLflow at {hide_password(tracking_uri)} has no such model; write {PREFIX}NAME@{ALIAS} or "
                f"{PREFIX}NAME/VERSION, or a file, or the name of a search that was finalized"
            ) from error
        raise TrackingError(hide_password(f"MLflow at {tracking_uri} does not answer: {error}")) from error
    if "tuner.sha256" not in version.tags:
        raise InputError(f"{address}: a model that tuner finalize registered was expected, this is another")
    return Path(client.download_artifacts(str(version.run_id), file, str(folder))), version.tags["tuner.sha256"]
