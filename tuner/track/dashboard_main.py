"""Optuna's dashboard on a ledger: ``python -m tuner.track.dashboard_main FOLDER PORT``, on loopback.

What it shows is the ledger as it is at that moment; what a page would change is refused, for the ledger is the record.
"""

import sys
from collections.abc import Container, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from optuna_dashboard import wsgi

from tuner.track.ledger import read_attributes
from tuner.track.store import find_store


class ReadOnlyBackend(BaseJournalBackend):
    """A ledger's records, which are read while others write them.

    Parameters
    ----------
    records : BaseJournalBackend
        The ledger's own.
    """

    def __init__(self, records: BaseJournalBackend) -> None:
        self._records = records

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Read the records from one on."""
        return self._records.read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuse.

        Raises
        ------
        RuntimeError
            Always.
        """
        raise RuntimeError("a search's ledger is only shown here, and cannot be changed")


class LedgerView(JournalStorage):
    """The studies of a ledger, each trial's attributes made plain: numbers and texts, none a record of an epoch."""

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return the studies, the objective by its name."""
        studies = super().get_all_studies()
        for study in studies:
            study.system_attrs["study:metric_names"] = [study.user_attrs.get("metric", "objective")]
        return studies

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials of a study."""
        return [_make_plain(trial) for trial in super().get_all_trials(study_id, deepcopy=False, states=states)]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return one trial."""
        return _make_plain(super().get_trial(trial_id))


def _make_plain(trial: FrozenTrial) -> FrozenTrial:
    return FrozenTrial(
        number=trial.number,
        state=trial.state,
        value=None,
        values=trial.values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=read_attributes(trial),
        system_attrs=trial.system_attrs,
        intermediate_values=trial.intermediate_values,
        trial_id=trial._trial_id,
    )


def open_view(folder: Path) -> LedgerView:
    """Open the ledger in a search's folder to look at it, also while the search runs."""
    return LedgerView(ReadOnlyBackend(find_store(folder).open()[1]))


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


def _main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    app = wsgi(open_view(Path(sys.argv[1])))
    make_server("127.0.0.1", int(sys.argv[2]), app, server_class=_Server, handler_class=_Quiet).serve_forever()


if __name__ == "__main__":
    _main()
