"""MLflow's address: whether it answers there, and how it may be printed."""

import re

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tuner.errors import TrackingError

_REMEDIES = {
    401: "it wants a name and a password: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    403: "it does not serve this name of itself: start it with mlflow server --allowed-hosts HOST:PORT, or use the "
    "name that it knows",
}
_ELSE = "start it (tuner ui, or mlflow/README.md), mend MLFLOW_TRACKING_URI, or search with --set tracking.mlflow=off"


def hide_password(uri: str) -> str:
    """Return an address as it may be printed: what stands between a user's colon and the at sign is a secret."""
    return re.sub(r"(://[^/@:]*:)[^/@]*@", r"\1***@", uri)


def reach(tracking_uri: str) -> None:
    """Ask MLflow for what every search asks first.

    Parameters
    ----------
    tracking_uri : str
        MLflow's store or server.

    Raises
    ------
    TrackingError
        If it does not answer; the message says what to do.
    """
    try:
        MlflowClient(tracking_uri).search_experiments(max_results=1)
    except Exception as error:  # a store is SQL, HTTP or a plugin, each with errors of its own
        status = error.get_http_status_code() if isinstance(error, MlflowException) else 0  # type: ignore[no-untyped-call]
        said = re.split(r"[\n(]", str(error), maxsplit=1)[0].strip().replace(tracking_uri, hide_password(tracking_uri))
        raise TrackingError(
            f"MLflow at {hide_password(tracking_uri)} does not answer as it should: {said[:200]}; "
            f"{next((text for code, text in _REMEDIES.items() if status == code or str(code) in said), _ELSE)}"
        ) from error
