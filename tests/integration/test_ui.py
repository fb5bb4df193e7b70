"""What ``tuner ui`` opens, beside MLflow, on a made-up search."""

import contextlib
import http.server
import json
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import TUNER, clean_environment
from made_up import make_up

from tuner.cli.ui_command import _served
from tuner.errors import RunError
from tuner.track.board import Board
from tuner.track.dashboard_main import open_view


@contextlib.contextmanager
def opened(folder: Path, cache: Path, *arguments: str) -> Iterator[str]:
    """``tuner ui`` in a folder, ended as ctrl-C does; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [TUNER, "ui", *arguments, "--port", str(port)],
        cwd=folder,
        env=clean_environment(cache),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert f"http://127.0.0.1:{port}" in line
        children = psutil.Process(process.pid).children(recursive=True)
        listening = {c.laddr.ip for child in children for c in child.net_connections("inet") if c.status == "LISTEN"}
        assert listening == {"127.0.0.1"}
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        assert process.stdout is not None
        process.stdout.close()
    left = [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not left, "the server ends with the command"


class Other(http.server.BaseHTTPRequestHandler):
    """Somebody else's server, which answers every page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def ask(address: str, content: Any = None) -> Any:
    """The JSON at an address."""
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_tensorboard_compares_the_trials(tmp_path: Path, cache: Path) -> None:
    ledger = make_up(tmp_path / "results/made-up", 6, "coarse")
    Board(ledger, tmp_path / "results/made-up").sync()
    with opened(tmp_path, cache, "made-up", "--tensorboard") as address:
        asked = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS", "STATUS_FAILURE"]}
        order = {"colParams": [{"metric": {"tag": "best_val_accuracy", "group": ""}}], "startIndex": 0, "sliceSize": 99}
        found = ask(f"{address}/data/plugin/hparams/session_groups", asked | order)["sessionGroups"]
        reached = {group["name"]: group["metricValues"][0]["value"] for group in found}
    trials = ledger.stages()[0].trials()
    assert set(reached) == {trial.name for trial in trials}
    for trial in trials:
        assert abs(reached[trial.name] - trial.value) < 1e-6


def test_optunas_dashboard_shows_the_ledger_and_cannot_change_it(tmp_path: Path, cache: Path) -> None:
    ledger = make_up(tmp_path / "results/made-up", 6, "coarse")
    (stage,) = ledger.stages()
    with opened(tmp_path, cache, "made-up", "--optuna") as address:
        (study,) = ask(f"{address}/api/studies")["study_summaries"]
        assert study["study_name"] == "made-up/coarse"
        page = f"{address}/api/studies/{study['study_id']}"
        assert ask(page)["objective_names"] == ["val_accuracy"]
        for trial, shown in zip(stage.trials(), ask(page)["trials"], strict=True):
            searched = {parameter.name for parameter in stage.space.parameters if parameter.name in trial.config}
            assert {one["name"] for one in shown["params"]} == searched
            assert [float(one["value"]) for one in shown["intermediate_values"]] == list(trial.values)
            assert shown["state"] == {"complete": "Complete", "stopped": "Pruned", "diverged": "Fail"}[trial.state]
            attributes = {one["key"]: one["value"] for one in shown["user_attrs"]}
            assert attributes["reason"] == "so it was made up"
            assert float(attributes["val_loss"]) == trial.epochs[-1]["val_loss"]
        before = (tmp_path / "results/made-up/ledger.journal").read_bytes()
        refused = urllib.request.Request(page, method="DELETE")
        with pytest.raises(urllib.error.HTTPError, match="500"):
            urllib.request.urlopen(refused, timeout=60)
    assert (tmp_path / "results/made-up/ledger.journal").read_bytes() == before


def test_what_optunas_dashboard_reads_grows_with_the_ledger(tmp_path: Path) -> None:
    (stage,) = make_up(tmp_path / "made-up", 2, "coarse").stages()
    view = open_view(tmp_path / "made-up")
    for number in (2, 3):
        assert len(view.get_all_trials(0)) == number
        stage.start(stage.space, stage.trials()[0].config, 0)
    stage.record_epoch(3, 1, {"epoch": 1, "val_accuracy": 0.5}, 0.5)
    running = view.get_all_trials(0)[3]
    assert running.intermediate_values == {1: 0.5}
    assert (running.user_attrs["state"], running.user_attrs["val_accuracy"]) == ("running", 0.5)


def test_a_port_that_another_server_has_is_refused(
    tuner: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    make_up(tmp_path / "results/made-up", 2, "coarse")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever).start()
        try:
            done = tuner("ui", "made-up", "--optuna", "--port", f"{other.server_port}", timeout_s=60)
        finally:
            other.shutdown()
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"does not start at http://127.0.0.1:{other.server_port}; is the port taken?" in done.stderr
    assert done.stdout == ""


def test_a_port_that_was_given_back_a_moment_ago_is_taken_and_a_server_that_fails_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()  # whoever closes first leaves the port waiting
            assert client.recv(1) == b""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def fail() -> None:
        with _served("A", ["http.server", str(port), "--bind", "127.0.0.1"], port, "/", {}) as own:
            own.kill()
            own.wait()

    with pytest.raises(RunError, match="ended by itself, with exit code -9; start it again"):
        fail()
