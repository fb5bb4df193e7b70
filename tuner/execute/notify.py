"""Telling people, or their programs, what happens in a search, from a thread that nothing waits for."""

import contextlib
import json
import math
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlsplit

from tuner.errors import LedgerError, TunerError
from tuner.spec.search import Notify, SearchSpec
from tuner.spec.space import Config
from tuner.track.best import rank_trials
from tuner.track.lease import Holder
from tuner.track.ledger import Ledger

PATIENCE_S = 10.0  # with a program, and with an address
QUIET_S = 60.0  # between two words of one kind


@dataclass(frozen=True)
class Event:
    """What happened.

    Attributes
    ----------
    kind : str
        end, failure, best; or cut_off, that an earlier process was killed before it could tell of the end.
    reason : str
        Why the search ended, or the trial failed; or which process it was.
    stage : str or None
        The trial's stage.
    trial : int or None
        Its number; at the end that of the last stage's best trial, None without any.
    value : float or None
        The objective at its best epoch.
    config : mapping
        Its configuration.
    num_failed : int or None
        How many trials have failed so far.
    """

    kind: Literal["end", "failure", "best", "cut_off"]
    reason: str = ""
    stage: str | None = None
    trial: int | None = None
    value: float | None = None
    config: Config = field(default_factory=dict)
    num_failed: int | None = None


class Notifier:
    """Sends events to a program and to an address; ``tell`` never waits.

    Parameters
    ----------
    notify : Notify
        Who is told of what.
    webhook : str or None
        The address with what is secret in it.
    search, metric : str
        What is told of: the search, and what ``value`` is.
    say : function
        Told of the first failure of each way, without what is secret.
    quiet_s : float
        Seconds between two events of one kind; of those that come sooner the latest is sent. The end is never held
        back, and sends what waits before itself.
    """

    def __init__(
        self,
        notify: Notify,
        webhook: str | None,
        search: str,
        metric: str,
        say: Callable[[str], None],
        quiet_s: float = QUIET_S,
    ) -> None:
        self._notify = notify
        self._webhook = webhook
        self._search = search
        self._metric = metric
        self._say = say
        self._quiet_s = quiet_s
        self._waiting: dict[str, Event] = {}
        self._sent_at: dict[str, float] = {}
        self._failed: set[str] = set()
        self._is_closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._send_all, daemon=True)
        self._thread.start()

    def tell(self, event: Event) -> None:
        """Send an event if its kind is asked for, soon; who asked for the end is told that there was one."""
        if ("end" if event.kind == "cut_off" else event.kind) in self._notify.events:
            with self._changed:
                self._waiting[event.kind] = event
                self._changed.notify()

    def close(self) -> None:
        """Send what waits, and wait for that, but not for ever."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(timeout=3 * PATIENCE_S)
        if self._thread.is_alive():
            self._say("notify: not all could be told in time")

    def _send_all(self) -> None:
        while (event := self._wait()) is not None:
            content = json.dumps(describe(event, self._search, self._metric)).encode() + b"\n"
            if self._notify.command:
                self._complain("command", run_command(self._notify.command, content))
            if self._webhook is not None:
                self._complain("webhook", post(self._webhook, content))
            self._sent_at[event.kind] = time.monotonic()

    def _wait(self) -> Event | None:
        """Return the next event once it is due, or None when all are sent and no more will come."""
        with self._changed:
            while True:
                now = time.monotonic()
                due = {kind: self._sent_at.get(kind, -math.inf) + self._quiet_s for kind in self._waiting}
                for kind, at in sorted(due.items(), key=lambda one: (one[0] == "end", one[1])):
                    if self._is_closing or "end" in self._waiting or at <= now:
                        return self._waiting.pop(kind)
                if self._is_closing:
                    return None
                self._changed.wait(min((at - now for at in due.values()), default=None))

    def _complain(self, way: str, problem: str) -> None:
        """Say what went wrong, if anything did, the first time."""
        if problem and way not in self._failed:
            self._failed.add(way)
            self._say(f"notify: the {way} {problem}; the search goes on, and this is not said again")


def describe(event: Event, search: str, metric: str) -> dict[str, Any]:
    """Return what is sent of an event.

    Parameters
    ----------
    event : Event
        What happened.
    search, metric : str
        In which search, and what is optimised.

    Returns
    -------
    dict
        What JSON can hold; ``text`` is a line for people, under the name that many chat services look for.
    """
    name = None if event.trial is None else f"{event.stage}-{event.trial}"
    value = event.value if event.value is not None and math.isfinite(event.value) else None
    reached = "" if name is None or value is None else f"{name} with {metric} {value:.4g}"
    text = {
        "end": f"{search} has ended: {event.reason}" + (f"; the best trial is {reached}" if reached else ""),
        "failure": f"{search}: trial {name} failed: {event.reason}",
        "best": f"{search}: the best trial so far is {reached}",
        "cut_off": f"{search} was cut off, for {event.reason} was killed; it goes on now",
    }[event.kind]
    where = "" if event.trial is None or event.kind == "end" else f" --stage {event.stage} --trial {event.trial}"
    return {
        "text": text,
        "event": event.kind,
        "search": search,
        "reason": event.reason,
        "stage": event.stage,
        "trial": event.trial,
        "metric": metric,
        "value": value,
        "config": dict(event.config),
        "failed_trials": event.num_failed,
        "look": f"tuner show {search}{where}",
    }


def run_command(command: tuple[str, ...], content: bytes) -> str:
    """Start a program, give it the content on standard input and let it run for a while.

    Returns
    -------
    str
        What went wrong; empty if nothing did.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # ctrl-C is meant for the search
        )
    except (OSError, ValueError) as error:
        return f"{command[0]} cannot be started ({error.strerror if isinstance(error, OSError) else error})"
    try:
        process.communicate(content, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"{command[0]} did not end within {PATIENCE_S:g} s and was killed"
    return "" if process.returncode == 0 else f"{command[0]} ended with exit code {process.returncode}"


def post(address: str, content: bytes) -> str:
    """Send content to an address by POST, as JSON.

    Returns
    -------
    str
        What went wrong, without more of the address than its host; empty if nothing did.
    """
    host = urlsplit(address).hostname
    try:
        request = urllib.request.Request(  # noqa: S310 the section takes http and https only
            address, content, {"Content-Type": "application/json", "User-Agent": "tuner"}, method="POST"
        )
        urllib.request.urlopen(request, timeout=PATIENCE_S).close()  # noqa: S310 see above
    except urllib.error.HTTPError as error:
        error.close()
        known = {status.value: status.phrase for status in HTTPStatus}
        return f"at {host} answered {error.code} {known.get(error.code, '')}".rstrip()
    except OSError as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        told = cause.strerror if isinstance(cause, OSError) and cause.strerror else type(cause).__name__
        return f"at {host} cannot be reached ({told})"
    except Exception as error:  # whatever else the address makes of it, its text may hold the address
        return f"at {host} cannot be reached ({type(error).__name__})"
    return ""


@contextlib.contextmanager
def notifying(
    spec: SearchSpec,
    webhook: str | None,
    find_end: Callable[[str], Event],
    say: Callable[[str], None],
    left_by: Holder | None = None,
) -> Iterator[Callable[[Event], None]]:
    """Tell what happens while the block runs a search, and at its end how it ended.

    Parameters
    ----------
    spec : SearchSpec
        The search.
    webhook : str or None
        The address with what is secret in it.
    find_end : function of a text
        Says how it ended; the text is what it failed with, empty if it did not.
    say : function
        Told if somebody cannot be told.
    left_by : Holder or None
        Who ran it before and was killed, so that nobody was told of that end yet.

    Yields
    ------
    function of Event
        Sends an event, soon.
    """
    if spec.notify is None:
        yield lambda _: None
        return
    notifier = Notifier(spec.notify, webhook, spec.name, spec.objective.metric, say)
    problem = ""
    if left_by is not None:
        notifier.tell(Event("cut_off", str(left_by)))
    try:
        yield notifier.tell
    except BaseException as error:
        what = str(error).partition("\n")[0] if isinstance(error, TunerError) else type(error).__name__
        problem = f"failed: {what}"
        raise
    finally:
        notifier.tell(find_end(problem))
        notifier.close()


def find_end(ledger: Ledger, problem: str = "") -> Event:
    """Return how a search stands at its end, with the best trial of its last stage that has one.

    Parameters
    ----------
    ledger : Ledger
        Its record.
    problem : str
        What it failed with; empty if it did not.
    """
    try:
        stages = ledger.stages()
        reason = problem or (stages[-1].attributes.get("ended") if stages else None) or "interrupted"
        for stage in reversed(stages):
            for best in rank_trials(stage.trials(), maximize=stage.maximize)[:1]:
                return Event("end", reason, best.stage, best.number, best.value, best.config)
    except LedgerError:  # that may be what it failed with
        reason = problem or "interrupted"
    return Event("end", reason)
