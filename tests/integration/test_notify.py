"""Telling of a search: a real program, and a real HTTP server."""

import functools
import json
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tuner.cli.options import find_webhook
from tuner.errors import InputError, RunError
from tuner.execute import notify as notify_module
from tuner.execute.notify import Event, Notifier, find_end, notifying
from tuner.spec import load_text
from tuner.spec.search import Notify
from tuner.track.lease import Holder
from tuner.track.ledger import Ledger

SPEC = """\
name: one
data: digits
space: {architecture: {choice: {lenet: {}, simple_cnn: {depth: 2}}}, learning_rate: {loguniform: [1e-3, 0.3]}}
stages: {only: {trials: 3, max_epochs: 3, halving: none}}
"""
BEST = Event("best", "", "coarse", 3, 0.5, {"architecture": "lenet"})
SECRET = "xoxb-1234567890"


class Hook(BaseHTTPRequestHandler):
    """Takes what is posted."""

    received: list[tuple[str, dict[str, Any]]]
    status = 200
    delay_s = 0.0

    def do_POST(self) -> None:
        """Keep what came, and answer."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        self.received.append((self.path, json.loads(content)))
        time.sleep(self.delay_s)
        self.send_response(self.status, f"what {SECRET} says")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def hook() -> Iterator[tuple[type[Hook], str]]:
    """A server of its own class, and its address with a secret in it."""

    class Own(Hook):
        received: list[tuple[str, dict[str, Any]]] = []  # noqa: RUF012 of this test

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Own, f"http://127.0.0.1:{server.server_port}/{SECRET}"
    server.shutdown()
    server.server_close()
    thread.join()


def save_to(path: Path) -> tuple[str, ...]:
    """A program that adds what it is told to a file."""
    return (sys.executable, "-c", f"import sys; open({str(path)!r}, 'a').write(sys.stdin.read() + '\\n')")


def test_a_program_and_an_address_get_the_same(hook: tuple[type[Hook], str], tmp_path: Path) -> None:
    server, address = hook
    said: list[str] = []
    command = save_to(tmp_path / "told")
    notifier = Notifier(Notify(command=command, events=("best",)), address, "one", "val_accuracy", said.append)
    notifier.tell(Event("failure", "not asked for"))
    notifier.tell(BEST)
    notifier.close()
    ((path, posted),) = server.received
    assert path == f"/{SECRET}"
    assert json.loads((tmp_path / "told").read_text()) == posted
    assert posted == {
        "text": "one: the best trial so far is coarse-3 with val_accuracy 0.5",
        "event": "best",
        "search": "one",
        "reason": "",
        "stage": "coarse",
        "trial": 3,
        "metric": "val_accuracy",
        "value": 0.5,
        "config": {"architecture": "lenet"},
        "failed_trials": None,
        "look": "tuner show one --stage coarse --trial 3",
    }
    assert said == []


def test_of_many_bests_the_first_and_the_last_are_told_and_the_end_comes_last(hook: tuple[type[Hook], str]) -> None:
    server, address = hook
    everything = Notify(webhook="$X", events=("end", "failure", "best"))
    notifier = Notifier(everything, address, "one", "val_accuracy", pytest.fail)
    notifier.tell(BEST)
    while not server.received:
        time.sleep(0.01)
    for number in range(100):
        notifier.tell(Event("best", "", "coarse", number, number / 100))
    notifier.tell(Event("end", "complete"))
    while len(server.received) < 2:
        time.sleep(0.01)
    notifier.close()
    assert [told["event"] for _, told in server.received] == ["best", "best", "end"]
    assert [told["trial"] for _, told in server.received] == [3, 99, None]


def test_a_second_best_within_a_minute_waits(hook: tuple[type[Hook], str]) -> None:
    server, address = hook
    notifier = Notifier(Notify(webhook="$X", events=("best",)), address, "one", "m", pytest.fail)
    notifier.tell(BEST)
    while not server.received:
        time.sleep(0.01)
    notifier.tell(BEST)
    time.sleep(0.3)
    assert len(server.received) == 1
    notifier.close()
    assert len(server.received) == 2


def test_what_goes_wrong_is_said_once_without_the_secret_and_nothing_waits(
    hook: tuple[type[Hook], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, address = hook
    server.status, server.delay_s = 500, 0.3
    monkeypatch.setattr(notify_module, "PATIENCE_S", 0.5)
    said: list[str] = []
    forever = (sys.executable, "-c", "import time; time.sleep(60)")
    notifier = Notifier(Notify(command=forever, events=("best",)), address, "one", "m", said.append, quiet_s=0)
    start = time.monotonic()
    notifier.tell(BEST)
    assert time.monotonic() - start < 0.1
    while len(server.received) < 1:
        time.sleep(0.01)
    notifier.tell(BEST)
    notifier.close()
    assert len(server.received) == 2
    assert time.monotonic() - start < 10
    command, webhook = said
    assert "did not end within 0.5 s and was killed" in command
    assert "the webhook at 127.0.0.1 answered 500 Internal Server Error" in webhook


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        (f"http://127.0.0.1:1/{SECRET}", "cannot be reached (Connection refused)"),
        (f"http://127.0.0.1:x/{SECRET}", "cannot be reached (InvalidURL)"),
        (f"http://name.invalid/{SECRET}", "cannot be reached"),
    ],
)
def test_an_address_that_is_away_is_named_by_its_host_alone(address: str, problem: str) -> None:
    told = notify_module.post(address, b"{}")
    assert problem in told
    assert SECRET not in told


def test_a_program_that_is_missing_or_fails_is_named() -> None:
    assert "no-such-program cannot be started (No such file" in notify_module.run_command(("no-such-program",), b"")
    assert notify_module.run_command(("false",), b"x" * 10**6).endswith("ended with exit code 1")


@pytest.mark.parametrize("problem", [None, RunError("the disk is full\nTraceback")])
def test_the_end_is_told_whatever_it_is(tmp_path: Path, problem: RunError | None) -> None:
    spec = load_text(SPEC).model_copy(update={"notify": Notify(command=save_to(tmp_path / "told"))})
    (tmp_path / "one").mkdir()
    ledger = Ledger.open(tmp_path / "one", create=True)
    stage = ledger.begin_stage("only", maximize=True, spec=SPEC, asked=SPEC, metric="val_accuracy")
    number = stage.start(spec.space, {"architecture": "lenet", "learning_rate": 0.1}, seed=0)
    stage.record_epoch(number, 1, {"epoch": 1}, 0.25)

    def search() -> None:
        with notifying(spec, None, functools.partial(find_end, ledger), pytest.fail):
            if problem is not None:
                raise problem

    if problem is None:
        search()
    else:
        with pytest.raises(RunError):
            search()
    told = json.loads((tmp_path / "told").read_text())
    assert told["reason"] == ("interrupted" if problem is None else "failed: the disk is full")
    assert (told["event"], told["stage"], told["trial"], told["value"]) == ("end", "only", 0, 0.25)
    assert told["look"] == "tuner show one"


def test_that_an_earlier_driver_was_killed_is_told_by_the_next(tmp_path: Path) -> None:
    spec = load_text(SPEC).model_copy(update={"notify": Notify(command=save_to(tmp_path / "told"))})
    killed = Holder("node7", 17, "2026-01-02 03:04:05 UTC", "m", "t")
    with notifying(spec, None, lambda _: Event("end", "complete"), pytest.fail, killed):
        pass
    first, last = (json.loads(line) for line in (tmp_path / "told").read_text().splitlines() if line)
    assert first["event"] == "cut_off"
    assert first["text"] == (
        "one was cut off, for process 17 on node7 since 2026-01-02 03:04:05 UTC was killed; it goes on now"
    )
    assert last["text"] == "one has ended: complete"


def test_the_environment_fills_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_KEY", SECRET)
    assert find_webhook(Notify(webhook="https://host/$HOOK_KEY")) == f"https://host/{SECRET}"
    assert find_webhook(Notify(command=("true",))) is None
    monkeypatch.setenv("HOOK", SECRET)
    with pytest.raises(InputError, match="no http or https address") as caught:
        find_webhook(Notify(webhook="$HOOK"))
    assert SECRET not in str(caught.value)
    monkeypatch.delenv("HOOK")
    with pytest.raises(InputError, match="HOOK is not set"):
        find_webhook(Notify(webhook="$HOOK"))
