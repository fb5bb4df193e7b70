"""A check in MLflow: a run of its own beside the search's trials."""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from tuner.errors import TrackingError
from tuner.track.address import hide_password
from tuner.track.mirror import create_experiment


def record_check(tracking_uri: str, search: str, findings: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Record what a check found, and its files.

    Parameters
    ----------
    tracking_uri : str
        MLflow's store or server.
    search : str
        The search's name.
    findings : sequence of mappings
        Each with ``subject``, ``check``, ``status`` and ``value``.
    folder : Path
        Its files.

    Raises
    ------
    TrackingError
        If MLflow is away or refuses.
    """
    states = [finding["status"] for finding in findings]
    worst = "fail" if "fail" in states else "warn" if "warn" in states else "pass"
    metrics = [
        Metric(re.sub(r"[^\w. /-]", "", f"{one['check']}/{one['subject']}"), one["value"], 0, 0)
        for one in findings
        if math.isfinite(one["value"])
    ]
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # a store that is made is not news
    try:
        client = MlflowClient(tracking_uri)
        found = client.get_experiment_by_name(search)
        experiment_id = found.experiment_id if found else create_experiment(client, tracking_uri, search)
        run = client.create_run(experiment_id, tags={"mlflow.runName": "check", "tuner.check": worst})
        counts = [RunTag(f"tuner.check.{state}", str(states.count(state))) for state in ("pass", "warn", "fail")]
        client.log_batch(run.info.run_id, metrics=metrics, tags=counts)
        client.log_artifacts(run.info.run_id, str(folder))
        client.set_terminated(run.info.run_id, "FAILED" if worst == "fail" else "FINISHED")
    except Exception as error:  # a store is SQL, HTTP or a plugin, each with errors of its own
        said = f"MLflow at {tracking_uri} does not take the check: {error}"
        raise TrackingError(hide_password(said)) from error
