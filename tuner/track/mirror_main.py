"""The mirror's process: ``python -m tuner.track.mirror_main FOLDER``; the end of standard input ends it.

MLflow's address comes in the environment: it may hold a password, and arguments stand in the list of processes.
"""

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import IO

from tuner.errors import TrackingError
from tuner.track.address import hide_password
from tuner.track.ledger import Ledger
from tuner.track.mirror import Mirror, held

_PASS_EVERY_S = 1.0
_PASS_EVERY_WHEN_AWAY_S = 5.0
_PATIENCE_AT_END_S = 15.0


def mirror_until_told(folder: Path, tracking_uri: str, told: IO[str]) -> bool:
    """Keep MLflow like the ledger until ``told`` ends; return whether it has everything then.

    Parameters
    ----------
    folder : Path
        The search's folder.
    tracking_uri : str
        MLflow's store or server.
    told : text file
        Its end is the sign to finish.
    """
    with held(folder):
        return _mirror(Mirror(Ledger.open(folder), folder, tracking_uri), tracking_uri, told)


def _mirror(mirror: Mirror, tracking_uri: str, told: IO[str]) -> bool:
    away, deadline = "", float("inf")
    while True:
        over = deadline < float("inf")
        try:
            mirror.sync(settle=over)
            if away:
                _print(f"MLflow at {hide_password(tracking_uri)} is back")
            away = ""
            if over and (not mirror.is_doubtful or time.monotonic() > deadline):
                return True
        except TrackingError as error:
            if not away:
                print(error, file=sys.stderr)  # noqa: T201 the whole of it goes to mirror.log
                _print(f"{str(error).splitlines()[0]}; the search goes on, and tuner sync sends it later")
            away = str(error)
            if time.monotonic() > deadline:
                return False
        wait = _PASS_EVERY_WHEN_AWAY_S if away else _PASS_EVERY_S
        if over:
            time.sleep(1.0)
        elif select.select([told], [], [], wait)[0]:
            deadline = time.monotonic() + _PATIENCE_AT_END_S


def _print(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # a search that was killed does not listen
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _main() -> int:
    folder, tracking_uri = Path(sys.argv[1]), os.environ["MLFLOW_TRACKING_URI"]
    os.nice(19)  # Ray gives its workers 15, and training goes first
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # whoever stops a search tells all its processes; this one ends last
    return 0 if mirror_until_told(folder, tracking_uri, sys.stdin) else 1


if __name__ == "__main__":
    sys.exit(_main())
