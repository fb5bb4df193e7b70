"""What is freed, and above all what is not."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_search_run import measure, open_run

from tuner.cli import cli
from tuner.errors import InputError
from tuner.execute.checkpoints import held
from tuner.execute.garbage import find_garbage
from tuner.execute.task import LAST, MODEL
from tuner.report.leaderboard import format_bytes
from tuner.track.lease import claim_folder
from tuner.track.ledger import Ledger

DAY_S = 86400.0
HOLDER = """
import sys, time
from pathlib import Path
from tuner.execute.checkpoints import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def leave_search(folder: Path) -> None:
    """A search that was killed in the middle of a trial, before it could tidy up."""
    run = open_run(folder, changes=("stages.coarse.halving=none",))
    for number in range(8):
        task = run.next_task()
        assert task is not None
        epoch = 1
        while run.report(task, measure(task, epoch) | {"train_loss": 1.0, "val_loss": 1.0}) and (
            number < 7 or epoch < 2
        ):
            epoch += 1
    for number in range(8):
        checkpoints = folder / "checkpoints" / f"coarse-{number}"
        checkpoints.mkdir(parents=True, exist_ok=True)
        for name in (LAST, MODEL):
            (checkpoints / name).write_text("x" * 1000)
    (folder / "ray" / "tune").mkdir(parents=True)
    (folder / "ray" / "tune" / "state.json").write_text("{}")
    (folder / "checkpoints" / "coarse-7" / "last.pt.17.partial").write_text("x")


def test_a_killed_search_keeps_what_it_needs_to_go_on_and_its_best_models(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    leave_search(folder)
    journal = (folder / "ledger.journal").read_bytes()
    done = CliRunner().invoke(cli, ["gc", "--results", str(tmp_path), "--cache", str(tmp_path / "none")])
    assert done.exit_code == 0, done.output
    assert "nothing was deleted; to free" in done.output
    assert (folder / "ray").exists()

    freed = CliRunner().invoke(cli, ["gc", "--yes", "--results", str(tmp_path), "--cache", str(tmp_path / "none")])
    assert freed.exit_code == 0, freed.output
    trials = {trial.name: trial for trial in Ledger.open(folder).stages()[0].trials()}
    ended = sorted((t for t in trials.values() if t.state != "running"), key=lambda trial: -trial.value)
    assert len(ended) == 7
    left = {path.relative_to(folder / "checkpoints").as_posix() for path in (folder / "checkpoints").rglob("*.p*")}
    assert left == {f"{trial.name}/{MODEL}" for trial in ended[:5]} | {f"coarse-7/{LAST}", f"coarse-7/{MODEL}"}
    assert not (folder / "ray").exists()
    assert (folder / "ledger.journal").read_bytes() == journal
    again = CliRunner().invoke(cli, ["gc", "--results", str(tmp_path), "--cache", str(tmp_path / "none")])
    assert "search" not in again.output


def test_a_search_that_runs_is_not_touched(tmp_path: Path) -> None:
    leave_search(tmp_path / "search")
    assert find_garbage(tmp_path, tmp_path / "none", tmp_path / "none", DAY_S, tmp_path / "none")
    with claim_folder(tmp_path / "search"):
        assert find_garbage(tmp_path, tmp_path / "none", tmp_path / "none", DAY_S, tmp_path / "none") == []


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("ledger.journal", "{}\n" * 3, "restore it from a copy"),
        ("ledger.json", '{"storage": "postgresql://me@127.0.0.1:1/db", "id": "1"}', "127.0.0.1:1"),
    ],
)
def test_a_ledger_that_cannot_be_read_hides_no_other_search(
    tmp_path: Path, file: str, content: str, reason: str
) -> None:
    for name in ("a", "b", "c"):
        leave_search(tmp_path / name)
    (tmp_path / "b" / file).write_text(content)
    places = ["--results", str(tmp_path), "--cache", str(tmp_path / "none")]
    listed = CliRunner().invoke(cli, ["ls", *places[:2]])
    assert listed.exit_code == 1
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["search", "a", "c"]
    assert "not listed: b: " in listed.stderr
    assert reason in listed.stderr
    freed = CliRunner().invoke(cli, ["gc", "--yes", *places])
    assert freed.exit_code == 0
    assert "kept: search 'b': " in freed.stderr
    assert [(tmp_path / name / "ray").exists() for name in ("a", "b", "c")] == [False, True, False]


def test_decoded_images_are_freed_only_when_they_were_not_used_for_long(tmp_path: Path) -> None:
    old, new = tmp_path / "images-a.arrow", tmp_path / "images-b.arrow"
    for path in (old, new):
        path.write_text("x")
    os.utime(old, (time.time() - 40 * DAY_S,) * 2)
    found = find_garbage(tmp_path / "none", tmp_path, tmp_path / "none", 30 * DAY_S, tmp_path / "none")
    assert [garbage.path for garbage in found] == [old]


def test_what_may_not_be_deleted_is_kept_with_its_reason_and_all_else_is_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, results, scratch = (tmp_path / name for name in ("cache", "results", "scratch"))
    for path, content in (
        (cache / "images-a.arrow", "x" * 100_000),
        (cache / "images-b.arrow", "x" * 10_000),
        (results / "theirs/ledger.journal", ""),
        (results / "theirs/ray/state.json", "x" * 100_000),
        (scratch / "ray/session_2026-a/log", "x" * 100_000),
        (scratch / "ray/session_2026-b/log", "x" * 20_000),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        for old in (path, path.parent):
            os.utime(old, (time.time() - 40 * DAY_S,) * 2)
    unlink, rmtree = Path.unlink, shutil.rmtree

    def refuse_file(path: Path, missing_ok: bool = False) -> None:
        if path.name == "images-a.arrow":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        unlink(path, missing_ok=missing_ok)

    def refuse_folder(path: Path, ignore_errors: bool = False) -> None:
        if path.name != "session_2026-a":
            rmtree(path, ignore_errors=ignore_errors)

    def refuse_claim(folder: Path, say: object) -> None:
        raise InputError(f"{folder}: the search's folder cannot be written")

    monkeypatch.setattr(Path, "unlink", refuse_file)
    monkeypatch.setattr(shutil, "rmtree", refuse_folder)
    monkeypatch.setattr("tuner.track.store.claim_folder", refuse_claim)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(scratch))  # where Ray has its sessions then
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    done = CliRunner().invoke(cli, ["gc", "--yes", "--results", str(results), "--cache", str(cache)])
    assert done.exit_code == 0, done.output
    assert [line for line in done.stderr.splitlines() if line.startswith("kept: ")] == [
        f"kept: {results}/theirs: the search's folder cannot be written",
        f"kept: [Errno {errno.EACCES}] Permission denied: '{cache}/images-a.arrow'",
        f"kept: {scratch}/ray/session_2026-a: some of it may not be deleted by this user; let its owner delete it",
    ]
    assert done.stdout.splitlines()[-1] == f"freed {format_bytes(30_000)}"
    assert list(cache.iterdir()) == [cache / "images-a.arrow"]
    assert (results / "theirs/ray/state.json").exists()
    assert list((scratch / "ray").iterdir()) == [scratch / "ray/session_2026-a"]


def test_a_session_of_ray_is_freed_only_when_none_of_its_processes_is_left(tmp_path: Path) -> None:
    dead, young, living = (tmp_path / f"session_2026-{name}" for name in ("dead", "young", "living"))
    for session in (dead, young, living):
        session.mkdir()
        if session != young:
            os.utime(session, (time.time() - DAY_S,) * 2)
    (tmp_path / "session_latest").symlink_to(living)
    code = "import time; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(living)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # a process that has just been made has no command line yet
            found = find_garbage(tmp_path / "none", tmp_path / "none", tmp_path, DAY_S, tmp_path / "none")
        finally:
            process.kill()
    assert [garbage.path for garbage in found] == [dead]


def test_a_worker_s_folder_is_freed_only_when_it_is_dead(tmp_path: Path) -> None:
    dead, young, living = (tmp_path / f"tuner-trial-{name}" for name in ("dead", "young", "living"))
    for desk in (dead, young, living):
        desk.mkdir()
        (desk / LAST).write_text("x" * 1000)
        if desk != young:
            os.utime(desk, (time.time() - DAY_S,) * 2)
    none = tmp_path / "none"
    with held(living):
        found = find_garbage(none, none, none, DAY_S, tmp_path)
    assert [(garbage.path, garbage.size_bytes) for garbage in found] == [(dead, 1000)]
    worker = subprocess.Popen([sys.executable, "-c", HOLDER, str(dead)], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    with worker:
        worker.stdout.readline()
        assert dead not in [garbage.path for garbage in find_garbage(none, none, none, DAY_S, tmp_path)]
        worker.kill()
    assert dead in [garbage.path for garbage in find_garbage(none, none, none, DAY_S, tmp_path)]
