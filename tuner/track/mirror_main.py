"""The mirror's process: ``python -m tuner.track.mirror_main FOLDER``.

A line of standard input says that the ledger has something, and its end ends the process.

It keeps every image of the ledger that the search asks for: MLflow's, if it is given an address, TensorBoard's, and
that in Weights & Biases. One that is away holds up no other. MLflow's address comes in the environment: it may hold a
password, and arguments stand in the list of processes.
"""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from tuner.errors import TrackingError
from tuner.spec import load_text
from tuner.track.ledger import Ledger
from tuner.track.mirror_lock import held

_PASS_EVERY_S = 1.0
_PASS_EVERY_WHEN_AWAY_S = 5.0
_PATIENCE_AT_END_S = 15.0


class Image(Protocol):
    """An image of the ledger, kept by passes that send what is missing."""

    @property
    def name(self) -> str:
        """What people know it as."""

    @property
    def is_doubtful(self) -> bool:
        """Whether something that was sent may still be on its way."""

    def sync(self, *, settle: bool = False) -> None:
        """Send what is missing; a TrackingError leaves the rest to the next pass."""


class Keeper:
    """Keeps one image, and says when it goes away and comes back."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.is_away = False
        self.is_done = False
        self._next_at = 0.0

    def pass_over(self, *, settle: bool, is_last: bool) -> None:
        """Send what is missing, if it is time to; once nobody trains any more, until nothing is in doubt, or enough."""
        if self.is_done or (not settle and time.monotonic() < self._next_at):
            return
        try:
            self.image.sync(settle=settle)
            if self.is_away:
                _print(f"{self.image.name} is back")
            self.is_away = False
            self.is_done = settle and (is_last or not self.image.is_doubtful)
        except TrackingError as error:
            if not self.is_away:
                print(error, file=sys.stderr)  # noqa: T201 the whole of it goes to mirror.log
                _print(f"{str(error).splitlines()[0]}; the search goes on, and tuner sync sends it later")
            self.is_away = True
            self._next_at = time.monotonic() + _PASS_EVERY_WHEN_AWAY_S


def mirror_until_told(folder: Path, tracking_uri: str | None, told: IO[str]) -> bool:
    """Keep the images like the ledger until ``told`` ends; return whether they have everything then.

    Parameters
    ----------
    folder : Path
        The search's folder.
    tracking_uri : str or None
        MLflow's store or server; None for none.
    told : text file
        Its end is the sign to finish.

    Notes
    -----
    What goes away at the end is waited for a little; what was away already is asked once more.
    """
    with held(folder):
        ledger = Ledger.open(folder)
        keepers = [Keeper(image) for image in open_images(ledger, folder, tracking_uri)]
        deadline = float("inf")
        away: list[Keeper] = []  # when the sign came
        while True:
            over, is_last = deadline < float("inf"), time.monotonic() > deadline
            for keeper in keepers:
                keeper.pass_over(settle=over, is_last=is_last)
            if is_last or all(keeper.is_done or (keeper.is_away and keeper in away) for keeper in keepers):
                break
            if over:
                time.sleep(1.0)
            elif select.select([told], [], [], _PASS_EVERY_S)[0]:
                deadline = time.monotonic() + _PATIENCE_AT_END_S
                away = [keeper for keeper in keepers if keeper.is_away]
        for keeper in keepers:
            if not keeper.is_done:
                _print(f"{keeper.image.name} has not got everything")
        return all(keeper.is_done for keeper in keepers)


def open_images(ledger: Ledger, folder: Path, tracking_uri: str | None) -> Iterator[Image]:
    """Open the images that a search asks for.

    Parameters
    ----------
    ledger : Ledger
        The search's record, which has what was asked.
    folder : Path
        Its folder.
    tracking_uri : str or None
        MLflow's store or server; None for none.
    """
    stages = ledger.everything()
    asked = load_text(stages[-1].attributes["asked"], "the ledger") if stages else None
    if tracking_uri is not None:
        from tuner.track.mirror import Mirror

        yield Mirror(ledger, folder, tracking_uri)
    if asked is not None and asked.tensorboard.scalars:
        yield _open_board(ledger, folder)
    if asked is not None and asked.tracking.wandb != "off":
        from tuner.track.wandb_runs import WandbRuns

        yield WandbRuns(ledger, folder, asked.tracking.wandb)


def _open_board(ledger: Ledger, folder: Path) -> Image:
    """Open TensorBoard's image without torch, which its library takes if it can: 400 MB to write numbers."""
    is_loaded = "torch" in sys.modules
    if not is_loaded:
        sys.modules["torch"] = None  # type: ignore[assignment] # so that its import fails
    try:
        from tuner.track.board import Board
    finally:
        if not is_loaded:
            del sys.modules["torch"]
    return Board(ledger, folder)


def _print(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # a search that was killed does not listen
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _main() -> int:
    folder, tracking_uri = Path(sys.argv[1]), os.environ.get("MLFLOW_TRACKING_URI")
    os.nice(19)  # Ray gives its workers 15, and training goes first
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # whoever stops a search tells all its processes; this one ends last
    if tracking_uri is not None:
        import tuner.track.mirror  # noqa: F401 takes seconds, which Ray takes to start
    if not sys.stdin.readline():
        return 0  # the search was not begun
    return 0 if mirror_until_told(folder, tracking_uri, sys.stdin) else 1


if __name__ == "__main__":
    sys.exit(_main())
