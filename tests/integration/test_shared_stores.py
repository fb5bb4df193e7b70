"""A search whose ledger is in PostgreSQL and whose files are in S3: it goes on whatever dies, on any machine."""

import dataclasses
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import TUNER, clean_environment
from object_store import Bucket
from postgres_server import Server
from test_postgres import read_records
from test_search import ONE_AT_A_TIME, assert_mirrored, read_trials

from tuner.errors import InputError, RunError
from tuner.execute.checkpoints import CHECKPOINTS, OWNER, Checkpoints, reached
from tuner.execute.remote import open_results, read_remote
from tuner.execute.task import LAST, MODEL, TrialTask
from tuner.execute.trial import train_alone
from tuner.spec.search import DataSpec, Objective
from tuner.track.store import find_store

Tuner = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def results(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that stands for the bucket in this process."""
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    return open_results(bucket.address, tmp_path / "own")


def test_a_file_comes_back_as_it_was_sent_and_is_never_there_by_half(results: Path, tmp_path: Path) -> None:
    remote = read_remote(results)
    assert remote is not None
    (tmp_path / "sent").write_bytes(b"whole" * 10**6)
    own = remote.under("files")
    own.send(tmp_path / "sent", "deep/file")
    assert own.list() == {"deep/file": 5 * 10**6}
    assert own.fetch("deep/file", tmp_path / "back/file")
    assert (tmp_path / "back/file").read_bytes() == b"whole" * 10**6
    assert not own.fetch("none", tmp_path / "back/none")
    own.rename("others")
    assert (own.list(), remote.under("others").list()) == ({}, {"deep/file": 5 * 10**6})
    remote.under("others").delete("deep/file", "never/there")
    assert remote.under("others").list() == {}


def test_a_file_that_another_machine_has_sent_anew_is_fetched_though_it_is_no_longer(
    results: Path, tmp_path: Path
) -> None:
    remote = read_remote(results)
    assert remote is not None
    own, here = remote.under("anew"), tmp_path / "here"
    for content in ("first", "later"):
        (tmp_path / "model.pt").write_text(content)
        own.send(tmp_path / "model.pt", "best/model.pt")
        own.fetch_all(here)
        assert (here / "best/model.pt").read_text() == content
        fetched = (here / "best/model.pt").stat()
        own.fetch_all(here)
        assert (here / "best/model.pt").stat().st_ino == fetched.st_ino, "what is the same is left"
        time.sleep(1.1)  # a store tells the time in seconds


def test_a_store_that_is_not_there_is_said_at_once_and_without_its_secrets(
    bucket: Bucket, tuner: Tuner, tmp_path: Path
) -> None:
    away = bucket.environment | {"TUNER_RESULTS": "s3://bucket/runs?endpoint_override=http://127.0.0.1:1"}
    done = tuner("ls", **away)
    assert done.returncode == 2
    assert "the store cannot be read" in done.stderr
    with pytest.raises(InputError, match="credentials come from the environment") as caught:
        open_results(f"s3://bucket/runs?secret_key={bucket.secret}", tmp_path)
    assert bucket.secret not in done.stderr + str(caught.value)


def test_a_file_is_no_ledger_of_results_in_a_store(bucket: Bucket, small: Path, tuner: Tuner) -> None:
    done = tuner("run", str(small), **bucket.environment)
    assert done.returncode == 2
    assert "set TUNER_STORAGE=postgresql://" in done.stderr


def build_task(folder: Path, store: str, cache: Path) -> TrialTask:
    """A trial of four epochs."""
    return TrialTask(
        stage="only",
        number=0,
        config={"architecture": "lenet", "learning_rate": 0.05},
        seed=0,
        max_epochs=4,
        objective=Objective(),
        data=DataSpec(name="digits"),
        folder=folder,
        cache=cache,
        store=store,
    )


def test_a_trial_goes_on_from_its_checkpoint_on_another_machine(results: Path, cache: Path, tmp_path: Path) -> None:
    folder, store = Checkpoints(results / "alone").find_place("only-0")

    def train(epochs_recorded: int, folder: Path, store: str) -> Iterator[Mapping[str, Any]]:
        task = build_task(folder, store, cache)
        return train_alone(dataclasses.replace(task, epochs_recorded=epochs_recorded))

    whole = [(epoch["train_loss"], epoch["val_accuracy"]) for epoch in train(0, tmp_path / "file", "")]
    first = train_alone_until(train(0, folder, store), 2)
    there = Checkpoints(results / "alone")
    assert set(there.list()) == {f"only-0/{name}" for name in (LAST, MODEL, OWNER)}
    assert not folder.exists(), "a machine keeps nothing of a trial that has left it"
    second = list(train(2, folder, store))
    assert [(epoch["train_loss"], epoch["val_accuracy"]) for epoch in [*first, *second]] == whole
    assert [epoch["epoch"] for epoch in second] == [3, 4]
    there.delete("only-0", LAST)
    model = there.fetch_model("only-0")
    assert model.read_bytes()[:2] == b"PK"
    there.drop("only-0")
    assert there.list() == {}
    assert not model.exists()


def test_a_worker_that_was_cut_off_stores_nothing_once_another_has_its_trial(results: Path, cache: Path) -> None:
    place = Checkpoints(results / "cut")
    folder, store = place.find_place("only-0")
    task = build_task(folder, store, cache)
    with reached(task) as (first, send_first):
        (first / LAST).write_text("epoch 1")
        send_first()
        with reached(task) as (second, send_second):
            assert (second / LAST).read_text() == "epoch 1"
            (first / LAST).write_text("too late")
            with pytest.raises(RunError, match="another worker has this trial"):
                send_first()
            (second / MODEL).write_text("epoch 2")
            send_second()
    model = place.fetch_model("only-0")
    assert model.read_text() == "epoch 2"
    remote = read_remote(results)
    assert remote is not None
    remote.under(f"cut/{CHECKPOINTS}/only-0").send(model, f"{LAST}.killed.partial")  # sent, and never named
    place.settle("only-0")
    assert list(place.list()) == [f"only-0/{MODEL}"]


def train_alone_until(epochs: Iterator[Mapping[str, Any]], num_epochs: int) -> list[Mapping[str, Any]]:
    """Train some epochs, then leave the trial."""
    trained = [next(epochs) for _ in range(num_epochs)]
    epochs.close()  # type: ignore[attr-defined]
    return trained


@pytest.mark.timeout(600)
def test_a_search_goes_on_through_a_restart_and_a_kill_on_another_machine_and_shows_no_secret(
    postgres: Server,
    bucket: Bucket,
    results: Path,
    small: Path,
    tuner: Tuner,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """The very search that files would have had; a second driver is refused meanwhile."""
    monkeypatch.setenv("TUNER_STORAGE", postgres.address)
    ray_folder = Path(tempfile.mkdtemp(prefix="ray"))  # short: sockets lie in it
    request.addfinalizer(lambda: shutil.rmtree(ray_folder, ignore_errors=True))
    shared = bucket.environment | {"TUNER_STORAGE": postgres.address, "RAY_TMPDIR": str(ray_folder)}
    fewer = ("--set", "stages.coarse.trials=4", "--set", "stages.fine.trials=2")
    arguments = ["run", str(small), *ONE_AT_A_TIME, *fewer]
    whole = tuner(*arguments, "--set", "name=whole", "--set", "tracking.mlflow=off")
    assert whole.returncode == 0, whole.stderr

    folder, said = results / "small", ""
    driver = subprocess.Popen(
        [TUNER, *arguments],
        cwd=tmp_path,
        env=clean_environment(cache) | shared,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_for(lambda: count_epochs(folder) >= 2, driver)
        second = tuner("resume", "small", **shared)
        assert second.returncode == 1
        assert f"being run already, by process {driver.pid}" in second.stderr
        postgres.control("restart", "-m", "immediate")
        reached = count_epochs(folder)
        wait_for(lambda: count_epochs(folder) > reached + 1, driver)
    finally:
        driver.send_signal(signal.SIGKILL)
        said, _ = driver.communicate()
    finished = {name: t for name, t in read_trials(folder).items() if t["state"] not in {"running", "paused"}}
    assert len(finished) < 6, "it was killed before its end"
    elsewhere = shared | {"TUNER_CACHE": str(tmp_path / "elsewhere")}
    done = tuner("resume", "small", **elsewhere)
    assert done.returncode == 0, done.stderr
    trials = read_trials(folder)
    assert finished.items() <= trials.items(), "no finished trial ran again"
    assert trials == read_trials(tmp_path / "results/whole"), "the search is that of files, never interrupted"
    assert_mirrored(folder, tmp_path / "mlflow.db")
    epochs = [
        (r["trial_id"], *r["user_attr"]) for r in read_records(postgres, "small") if "epoch:" in str(r.get("user_attr"))
    ]
    assert len(epochs) == len(set(epochs)) == count_epochs(folder)

    left = Checkpoints(folder).list()
    assert {Path(name).name for name in left} == {MODEL}, "what ended trials would go on from, and all halves, are gone"
    assert {Path(name).parent.name for name in left} <= trials.keys()
    remote = read_remote(results)
    assert remote is not None
    remote.under("small").fetch_all(tmp_path / "all of it")
    files = {path.relative_to(tmp_path / "all of it").as_posix() for path in (tmp_path / "all of it").rglob("*.*")}
    assert {"ledger.json", "artifacts/coarse/trials.parquet", "artifacts/fine/best/model.pt"} <= files
    shown = said + done.stdout + done.stderr + second.stderr + str(read_records(postgres, "small"))
    for secret in (postgres.password, bucket.secret):
        assert secret not in shown
        assert find_files_with(secret.encode(), tmp_path) == []
        assert find_files_with(secret.encode(), ray_folder) == [], "nor in Ray's logs"
    assert list(ray_folder.glob("ray/session_*/logs/*"))


def count_epochs(folder: Path) -> int:
    """How many epochs the ledger has; none before it is there."""
    if not find_store(folder).has_ledger():
        return 0
    return sum(len(trial["epochs"]) for trial in read_trials(folder).values())


def wait_for(condition: Callable[[], bool], driver: "subprocess.Popen[str]") -> None:
    """Wait until something is in the ledger; fail if the driver ends before."""
    deadline = time.monotonic() + 120
    while not condition():
        assert driver.poll() is None, f"the search ended early: {driver.stdout and driver.stdout.read()}"
        assert time.monotonic() < deadline, "nothing was recorded in two minutes"
        time.sleep(0.02)


def find_files_with(secret: bytes, folder: Path) -> list[Path]:
    """The files under a folder that hold some bytes."""
    return [path for path in folder.rglob("*") if path.is_file() and secret in path.read_bytes()]
