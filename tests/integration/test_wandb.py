"""A search in Weights & Biases' own files, without a network."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up import make_up

wandb = pytest.importorskip("wandb", reason="wandb is not installed here")

from tuner.errors import TrackingError  # noqa: E402
from tuner.track.wandb_runs import WandbRuns  # noqa: E402


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield
    wandb.teardown()  # it keeps the environment's settings until then


def split_log(content: bytes) -> Iterator[bytes]:
    """Yield the records of LevelDB's log format, whose first block begins with seven bytes of W&B's own."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        if 2**15 - at % 2**15 < 7:  # too little is left of the block for a header
            at += 2**15 - at % 2**15
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:  # a whole record, or the last part of one
            yield parts
            parts = b""


def read_offline(folder: Path) -> dict[str, dict[str, Any]]:
    """Every run of the files that ``wandb sync`` would send: its group, config and exit code, and its steps."""
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # as the end of a process does: its files are whole then
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        own: dict[str, Any] = {}
        for data in split_log(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                own = found.setdefault(record.run.run_id, {"steps": [], "values": [], "exits": []})
                own["group"], own["name"] = record.run.run_group, record.run.display_name
                own["config"] = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "history":
                own["steps"].append(record.history.step.num)
                items = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
                own["values"].append(items["val_accuracy"])
            elif kind == "exit":
                own["exits"].append(record.exit.exit_code)
    return found


@pytest.mark.filterwarnings("ignore")  # W&B's own
def test_each_trial_is_a_run_with_every_epoch_once_also_after_a_restart(tmp_path: Path) -> None:
    ledger = make_up(tmp_path / "made-up", 3, "coarse")
    trials = {f"{t.stage}-{t.number}": t for t in ledger.stages()[0].trials()}
    WandbRuns(ledger, tmp_path / "made-up", "tests").sync(settle=True)
    again = WandbRuns(ledger, tmp_path / "made-up", "tests")
    again.sync(settle=True)
    found = {run_id.split("-", 1)[1]: run for run_id, run in read_offline(tmp_path / "made-up").items()}
    assert found.keys() == trials.keys()
    for name, trial in trials.items():
        run = found[name]
        assert run["steps"] == list(range(1, len(trial.epochs) + 1))
        assert run["values"] == pytest.approx([epoch["val_accuracy"] for epoch in trial.epochs])
        assert (run["group"], run["exits"]) == ("made-up", [int(trial.state == "failed")])
        assert {key: run["config"][key] for key in trial.config} == dict(trial.config)


@pytest.mark.filterwarnings("ignore")
def test_without_a_key_it_is_said_what_to_do_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    ledger = make_up(tmp_path / "made-up", 1, "coarse")
    with pytest.raises(TrackingError, match="WANDB_API_KEY"):
        WandbRuns(ledger, tmp_path / "made-up", "tests").sync(settle=True)
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    WandbRuns(ledger, tmp_path / "made-up", "tests").sync(settle=True)
    (run,) = read_offline(tmp_path / "made-up").values()
    assert run["steps"]
