"""The mirror in a process of its own, so that MLflow's work never takes the search's time.

MLflow takes seconds to import and tens of milliseconds a call. The process runs at low priority, imports what it needs
while Ray starts, and reads the ledger's file once it is told that something is there. It lives as long as its standard
input is open: when the search ends, or its process is killed, it sends what is left and goes. A lock keeps a second
one, of the same search resumed, waiting until then.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_MLFLOW = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # MLflow's own patience is four minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class NoMirror:
    """Stands where the mirror would, when no image is kept."""

    def notice(self) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


class MirrorProcess:
    """Starts the mirror, tells it when there is something to send, and lets it finish.

    Parameters
    ----------
    folder : Path
        The search's folder.
    tracking_uri : str or None
        MLflow's store or server; None if only other images are kept.
    say : function
        Told when MLflow goes away and comes back.
    """

    def __init__(self, folder: Path, tracking_uri: str | None, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._uri = tracking_uri
        self._say = say
        self._process = self._start()
        self.has_begun = False

    def notice(self) -> None:
        """Be told that something was recorded: tell the mirror, and pass on what it says."""
        if not self.has_begun:
            self.has_begun = True
            assert self._process.stdin is not None, "a pipe was asked for"
            with contextlib.suppress(BrokenPipeError):  # it has died, which its exit code says
                self._process.stdin.write("begin\n")
                self._process.stdin.flush()
        self._listen()

    def finish(self) -> None:
        """Let the mirror send what is left while others tidy up; nothing more is recorded after this."""
        self.notice()
        assert self._process.stdin is not None, "a pipe was asked for"
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def close(self) -> bool:
        """Wait until the mirror is done.

        Returns
        -------
        bool
            Whether all images have everything now.
        """
        assert self._process.stdin is not None and self._process.stdout is not None, "pipes were asked for"
        if not self._process.stdin.closed:
            self.finish()
        complete = self._process.wait() == 0
        self._listen()
        self._process.stdout.close()
        return complete

    def cancel(self) -> None:
        """End the mirror, of which nothing was wanted."""
        self._process.kill()
        self._process.communicate()

    def _start(self) -> "subprocess.Popen[str]":
        tracking = {} if self._uri is None else {"MLFLOW_TRACKING_URI": self._uri}
        others = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        with (self._folder / "mirror.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tuner.track.mirror_main", str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_MLFLOW | others | tracking,
                text=True,
                start_new_session=True,  # ctrl-C is meant for the search
            )
        assert process.stdout is not None, "a pipe was asked for"
        os.set_blocking(process.stdout.fileno(), False)
        return process

    def _listen(self) -> None:
        assert self._process.stdout is not None, "a pipe was asked for"
        for line in self._process.stdout:
            self._say(line.strip())
