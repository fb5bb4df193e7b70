"""Is anything lost, whatever is killed and whenever?

Runs many small searches with real training, tracked by a real ``mlflow server``, and kills, at random moments and
without warning, the driver, a worker, Ray's raylet or the tracking server; starts again what died; and compares the
ledger, MLflow and what was really trained at the end of each search.

    python benchmarks/chaos.py --kills 60 --minutes 4 --output benchmarks/results/chaos.json

What is there already is gone on from, so that it may be run in pieces; ``--minutes`` begins no search later than that.
Round ``r`` draws its kills from the seed ``(--seed, r)``; searches take turns at one trial and at two at a time.

A moment is drawn as a number of epochs that are recorded since the last kill, plus up to half a second; one in four is
up to 8 s after a driver was started. Every epoch that is begun is written down by its worker, apart from the ledger.
"""

import argparse
import dataclasses
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

KINDS = ("driver", "worker", "raylet", "server")
KILLS_A_SEARCH = 6
SEARCH_SEEDS = 3
UNTOLD = {"seconds", "images_per_second", "timestamp", "peak_memory_bytes"}  # differ from run to run
GIVE_UP_S = 480.0  # a driver that takes longer hangs
SPEC = """
name: {name}
data: digits
seed: {seed}
space:
  architecture:
    choice:
      simple_cnn: {{depth: {{int: [1, 2]}}, width: {{logint: [8, 16]}}}}
      lenet: {{}}
  learning_rate: {{loguniform: [1e-3, 1.0]}}
  l2: {{loguniform: [1e-7, 1e-3]}}
stages:
  coarse: {{trials: 18, max_epochs: 9, halving: {{reduction: 3, min_epochs: 1}}}}
  fine: {{trials: 9, max_epochs: 27, halving: {{reduction: 3, min_epochs: 3}}}}
resources: {{gpus: 0, trials_at_once: {at_once}}}
"""


def train_and_tell(task: Any) -> Iterator[Any]:
    """Train as always, and write down each epoch before it begins."""
    import time

    from tuner.execute.trial import train_trial

    if task is not None:
        from tuner.train.loop import Trainer

        plain = getattr(Trainer, "plain_train_epoch", Trainer._train_epoch)

        def train_epoch(trainer: Any) -> Any:
            with (task.folder.parent.parent / "begun.log").open("a") as log:
                log.write(f"{task.stage}-{task.number} {trainer.epoch + 1} {time.time()}\n")
            return plain(trainer)

        Trainer.plain_train_epoch, Trainer._train_epoch = plain, train_epoch
    yield from train_trial(task)


def drive(folder: Path, name: str, seed: int, at_once: int, uri: str | None) -> None:
    """Be the driver of a search."""
    from tuner.cli.watch import PlainLines
    from tuner.execute.experiment import Surroundings, run_search
    from tuner.spec import load_text
    from tuner.track.provenance import read_provenance

    spec = load_text(SPEC.format(name=name, seed=seed, at_once=at_once))
    around = Surroundings(folder, folder / "cache", uri, None, read_provenance(folder))
    print(run_search(spec, around, PlainLines(), train=train_and_tell))


@dataclasses.dataclass
class Server:
    """A real tracking server, killed and started again."""

    folder: Path
    process: "subprocess.Popen[bytes] | None" = None
    back_at: float = 0.0

    def __post_init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def uri(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}", "--workers", "1"]
        command += ["--default-artifact-root", str(self.folder / "mlartifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def wait(self) -> None:
        """Wait until it answers."""
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except OSError:
                time.sleep(0.3)

    def kill(self) -> None:
        """Kill it and all that it started."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def tend(self) -> None:
        """Start it again when its time has come."""
        if self.process is None and time.monotonic() >= self.back_at:
            self.start()


def list_descendants(pid: int) -> dict[int, str]:
    """Every process below another, with its command line."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found and child not in found}:
        found |= more
    lines = {}
    for child in found - {pid}:
        try:
            lines[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return lines


def find_target(kind: str, driver: int) -> int | None:
    """Find the process to kill; None if there is none of its kind yet."""
    if kind == "driver":
        return driver
    mark = {"worker": ".train", "raylet": "raylet/raylet"}[kind]  # a worker that has a trial is ray::CLASS.train
    return min((p for p, line in list_descendants(driver).items() if mark in line.split(" --")[0]), default=None)


def read_trials(folder: Path) -> dict[str, dict[str, Any]]:
    """Every trial by its name, without what differs from run to run."""
    from tuner.track.ledger import Ledger
    from tuner.track.store import JOURNAL

    if not (folder / JOURNAL).exists():
        return {}
    return {
        trial.name: {
            "config": dict(trial.config),
            "state": trial.state,
            "reason": trial.reason,
            "epochs": [
                {k: v for k, v in epoch.items() if k not in UNTOLD and not k.startswith("system/")}
                for epoch in trial.epochs
            ],
            "ended": None if trial.ended is None else trial.ended.timestamp(),
        }
        for stage in Ledger.open(folder).stages()
        for trial in stage.trials()
    }


def count_epochs(folder: Path) -> int:
    """How many epochs the ledger has, without parsing it."""
    journal = folder / "ledger.journal"
    return journal.read_bytes().count(b'"epoch:') if journal.exists() else 0


def begin_driver(folder: Path, name: str, seed: int, at_once: int, uri: str | None) -> "subprocess.Popen[bytes]":
    """Start a driver."""
    command = [sys.executable, __file__, "--drive", str(folder), name, str(seed), str(at_once), uri or ""]
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def end_leftovers(pids: dict[int, str], within_s: float = 30.0) -> int:
    """Wait until the processes of a driver that died are gone too; end those that stay, and count them."""
    deadline = time.monotonic() + within_s
    left = {pid for pid, line in pids.items() if "mirror_main" not in line}
    while left and time.monotonic() < deadline:
        left = {pid for pid in left if is_same(pid, pids[pid])}
        time.sleep(0.2)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return len(left)


def is_same(pid: int, line: str) -> bool:
    """Whether a process still runs; a number may be another's by now."""
    try:
        now = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return False
    return bool(now) and (now == line or ("ray::" in now and "ray::" in line))


def play_round(work: Path, server: Server, base_seed: int, number: int) -> dict[str, Any]:
    """Run one search under fire and check what is left."""
    rng = np.random.default_rng((base_seed, number))
    at_once, seed, name = 1 + number % 2, number // 2 % SEARCH_SEEDS, f"chaos-{number}"
    folder = work / name
    planned = [str(kind) for kind in rng.choice(KINDS, size=KILLS_A_SEARCH)]
    kills: list[dict[str, Any]] = []
    before: dict[str, dict[str, Any]] = {}  # the trials that had ended when something was killed
    own_ends, leftovers, sittings = 0, 0, 0
    start = time.monotonic()
    while True:
        sittings += 1
        driver, begun = begin_driver(work, name, seed, at_once, server.uri), time.monotonic()
        while planned and driver.poll() is None:
            kind = planned[0]
            if rng.random() < 0.25 and time.monotonic() - begun < 8:
                moment = begun + rng.uniform(0, 8)
                reached = wait_until(lambda at=moment: time.monotonic() >= at, driver, server)
            else:
                wanted = count_epochs(folder) + int(rng.integers(1, 20))
                reached = wait_until(lambda w=wanted: count_epochs(folder) >= w, driver, server)
                time.sleep(rng.uniform(0, 0.5))
            if not reached or driver.poll() is not None:
                break
            children = list_descendants(driver.pid)
            target = None if kind == "server" else find_target(kind, driver.pid)
            if (server.process if kind == "server" else target) is None:
                time.sleep(0.2)
                continue  # there is none of its kind at this moment: another moment
            planned.pop(0)
            at = {"kind": kind, "after_s": round(time.monotonic() - begun, 2), "epochs": count_epochs(folder)}
            if kind == "server":
                server.kill()
                server.back_at = time.monotonic() + rng.uniform(0, 8)
            else:
                assert target is not None
                os.kill(target, signal.SIGKILL)
            kills.append(at)
            before |= {name: t for name, t in read_trials(folder).items() if t["ended"] is not None}
            if kind in {"driver", "raylet"}:
                wait_until(lambda: False, driver, server)
                leftovers += end_leftovers(children)
        wait_until(lambda: False, driver, server)
        own_ends += driver.returncode not in {0, -signal.SIGKILL}
        if driver.returncode == 0:
            break
        if sittings > 3 * KILLS_A_SEARCH:
            raise SystemExit(f"{name} does not end; see {work / f'{name}.log'}")
    server.tend()
    server.wait()
    subprocess.run(
        [sys.executable, "-c", "from tuner.cli import main; main()", "sync", name, "--results", str(work)],
        env={**os.environ, "MLFLOW_TRACKING_URI": server.uri},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    found = compare(work, folder, before, at_once, kills)
    if at_once == 1:
        found["differs_from_uninterrupted"] = count_differences(read_trials(folder), read_reference(work, seed))
    return {
        "round": number,
        "trials_at_once": at_once,
        "search_seed": seed,
        "kills": kills,
        "sittings": sittings,
        "drivers_that_ended_by_themselves": own_ends,
        "processes_left_behind": leftovers,
        "seconds": round(time.monotonic() - start, 1),
        **found,
    }


def wait_until(condition: Any, driver: "subprocess.Popen[bytes]", server: Server) -> bool:
    """Wait for a condition while a driver runs; False if it ended before."""
    deadline = time.monotonic() + GIVE_UP_S
    while driver.poll() is None:
        server.tend()
        if condition():
            return True
        if time.monotonic() > deadline:
            os.killpg(driver.pid, signal.SIGKILL)
            raise SystemExit("a driver hangs")
        time.sleep(0.02)
    return False


def compare(
    work: Path, folder: Path, before: dict[str, dict[str, Any]], at_once: int, kills: list[dict[str, Any]]
) -> dict[str, int]:
    """Count what is lost or double: every number but the first three and ``points`` must be 0."""
    trials, found = read_trials(folder), compare_points(work, folder)
    begun = [line.split() for line in (folder / "begun.log").read_text().splitlines()]
    recorded = sum(len(trial["epochs"]) for trial in trials.values())
    return {
        "trials": len(trials),
        "epochs_recorded": recorded,
        "epochs_begun_above_recorded": len(begun) - recorded,
        "epochs_begun_too_many": max(0, len(begun) - recorded - at_once * sum(k["kind"] != "server" for k in kills)),
        "trials_open": sum(trial["ended"] is None for trial in trials.values()),
        "trials_failed": sum(trial["state"] == "failed" for trial in trials.values()),
        "finished_trials_changed": sum(trials.get(name) != trial for name, trial in before.items()),
        "finished_trials_trained_again": sum(
            (ended := trials[name]["ended"]) is not None and float(at) > ended for name, _, at in begun
        ),
        **found,
    }


def compare_points(work: Path, folder: Path) -> dict[str, int]:
    """Count what MLflow lacks of a search, or has twice: every number but the first must be 0."""
    trials = read_trials(folder)
    with sqlite3.connect(work / "mlflow.db") as connection:
        tag = "(select value from tags where tags.run_uuid = runs.run_uuid and key = '{}')"
        runs = connection.execute(
            f"select run_uuid, status, {tag.format('tuner.stage')}, {tag.format('tuner.trial')} from runs "
            "join experiments using (experiment_id) where experiments.name = ? and runs.lifecycle_stage = 'active'",
            (folder.name,),
        ).fetchall()
        held = {
            run: Counter(connection.execute("select key, step from metrics where run_uuid = ?", (run,)).fetchall())
            for run, *_ in runs
        }
    by_trial = Counter(f"{stage}-{trial}" for _, _, stage, trial in runs if trial is not None)
    missing = double = 0
    for run, _, stage, trial in runs:
        if trial is not None:
            wanted = Counter(
                (key, epoch)
                for epoch, measured in enumerate(read_measured(folder, f"{stage}-{trial}"), start=1)
                for key in measured
            )
            missing += (wanted - held[run]).total()
            double += (held[run] - wanted).total()
    return {
        "points": sum(counter.total() for counter in held.values()),
        "trials_without_run": sum(by_trial[name] == 0 for name in trials),
        "runs_too_many": sum(max(0, count - 1) for count in by_trial.values())
        + max(0, sum(trial is None for *_, trial in runs) - len({name.partition("-")[0] for name in trials})),
        "runs_still_running": sum(status in {"RUNNING", "SCHEDULED"} for _, status, *_ in runs),
        "points_missing": missing,
        "points_double": double,
    }


def read_measured(folder: Path, name: str) -> list[set[str]]:
    """Read what a trial's MLflow run must have of each epoch."""
    from tuner.track.ledger import Ledger

    for stage in Ledger.open(folder).stages():
        for trial in stage.trials():
            if trial.name == name:
                return [{*epoch, "best_val_accuracy"} - {"epoch", "timestamp"} for epoch in trial.epochs]
    return []


def read_reference(work: Path, seed: int) -> dict[str, dict[str, Any]]:
    """Read the search that is never interrupted; run it if it has not been."""
    name = f"whole-{seed}"
    from tuner.track.ledger import Ledger

    folder = work / name
    if not folder.exists() or any(stage.attributes.get("ended") is None for stage in Ledger.open(folder).stages()):
        assert begin_driver(work, name, seed, 1, None).wait() == 0
    return read_trials(folder)


def count_differences(trials: dict[str, dict[str, Any]], whole: dict[str, dict[str, Any]]) -> int:
    """Count the trials whose configuration, epochs, end or reason differ."""

    def tell(trial: dict[str, Any] | None) -> Any:
        return trial and {key: value for key, value in trial.items() if key != "ended"}

    return sum(tell(trials.get(name)) != tell(whole.get(name)) for name in trials.keys() | whole.keys())


def summarise(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up the rounds."""
    counted = [key for key, value in rounds[0].items() if isinstance(value, int)] if rounds else []
    skipped = {"round", "trials_at_once", "search_seed"}
    kills = Counter(kill["kind"] for played in rounds for kill in played["kills"])
    keys = [*dict.fromkeys([*counted, "differs_from_uninterrupted"])]
    return {
        "searches": len(rounds),
        "kills": kills.total(),
        "kills_by_kind": dict(sorted(kills.items())),
        **{key: sum(played.get(key, 0) for played in rounds) for key in keys if key not in skipped},
    }


def main() -> None:
    """Run rounds until there were enough kills or the time is up."""
    if sys.argv[1:2] == ["--drive"]:
        folder, name, seed, at_once, uri = sys.argv[2:]
        drive(Path(folder), name, int(seed), int(at_once), uri or None)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=Path, default=Path("chaos"), help="a folder for the searches; kept between pieces"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/chaos.json"))
    given = parser.parse_args()
    work = given.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    rounds = json.loads(given.output.read_text())["rounds"] if given.output.exists() else []
    server = Server(work)
    server.start()
    server.wait()
    end = time.monotonic() + 60 * given.minutes
    try:
        while sum(len(played["kills"]) for played in rounds) < given.kills and time.monotonic() < end:
            rounds.append(play_round(work, server, given.seed, len(rounds)))
            result = {"seed": given.seed, "summary": summarise(rounds), "rounds": rounds}
            given.output.write_text(json.dumps(result, indent=1) + "\n")
            print(json.dumps(rounds[-1]), flush=True)
    finally:
        if server.process is not None:
            server.kill()
    print(json.dumps(summarise(rounds), indent=1))


if __name__ == "__main__":
    main()
