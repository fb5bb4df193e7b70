"""What dies and comes back: nodes and workers of a real Ray, and searches stopped, resumed and extended by name."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from cluster_head import Head, running_head, running_node
from conftest import TUNER, clean_environment
from redis_server import running_redis
from small_disk import mounted_disk
from test_lanes import SPEC, Watched
from test_search import assert_mirrored, wait_for

from tuner.execute.experiment import Surroundings, run_search
from tuner.execute.task import MODEL, TrainFunction, TrialTask
from tuner.spec import load_text
from tuner.track.ledger import Ledger, TrialRecord

Tuner = Callable[..., "subprocess.CompletedProcess[str]"]


def read(folder: Path) -> dict[str, TrialRecord]:
    """Every trial of a search by its name."""
    return {trial.name: trial for stage in Ledger.open(folder).stages() for trial in stage.trials()}


def play(folder: Path, cache: Path, train: TrainFunction, address: str | None = None) -> dict[str, TrialRecord]:
    """Run the search with another training, and read its trials."""
    run_search(load_text(SPEC), Surroundings(folder, cache, ray_address=address), Watched(), train=train)
    return read(folder / "played")


def make_mortal(deadly: str) -> TrainFunction:
    """Make a training of which one trial always kills its worker at its second epoch; nested, to go by value."""

    def train(task: TrialTask | None) -> Iterator[dict[str, float]]:
        for epoch in range(1 if task is None else task.epochs_recorded + 1, 1 if task is None else 3):
            assert task is not None
            if epoch == 2 and f"{task.stage}-{task.number}" == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            yield {"epoch": epoch, "train_loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5}

    return train


def test_a_trial_that_always_kills_its_worker_fails_after_a_few_tries_and_alone(
    tmp_path: Path, cache: Path, tuner: Tuner
) -> None:
    trials = play(tmp_path, cache, make_mortal("coarse-4"))
    failed = trials.pop("coarse-4")
    assert failed.state == "failed"
    assert "its worker failed 4 times" in failed.reason
    assert len(failed.epochs) == 1, "what it trained is kept"
    assert {trial.state for trial in trials.values()} == {"complete"}
    shown = tuner("show", "played", "--stage", "coarse", "--trial", "4", "--results", str(tmp_path)).stdout
    assert "trial 4 of stage coarse of search played: failed" in shown
    assert "The actor is dead because its worker process has died" in shown


def test_the_trials_of_a_node_that_is_killed_go_on_on_another(tmp_path: Path, cache: Path) -> None:
    import ray
    from ray.cluster_utils import Cluster

    def train(task: TrialTask | None) -> Iterator[dict[str, float]]:
        import ray

        node = ray.get_runtime_context().get_node_id()
        if task is None:
            return
        for epoch in range(task.epochs_recorded + 1, 3):
            time.sleep(0.3)
            with (task.folder.parent.parent / "begun.log").open("a") as log:
                log.write(f"{node}\n")
            yield {"epoch": epoch, "train_loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5}

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        doomed = cluster.add_node(num_cpus=1)
        begun = tmp_path / "played" / "begun.log"

        class Killer(Watched):
            """Kills a node once it has trained something."""

            def say(self, line: str) -> None:
                super().say(line)
                if doomed in cluster.worker_nodes and begun.exists() and doomed.node_id in begun.read_text():
                    cluster.remove_node(doomed, allow_graceful=False)

        killer = Killer()
        around = Surroundings(tmp_path, cache, ray_address=cluster.address)
        run_search(load_text(SPEC), around, killer, train=train)
        assert doomed not in cluster.worker_nodes, "it was killed"
    finally:
        ray.shutdown()
        cluster.shutdown()
    trials = read(tmp_path / "played")
    assert len(trials) == 18
    assert {trial.state for trial in trials.values()} == {"complete"}
    assert all([epoch["epoch"] for epoch in trial.epochs] == [1, 2] for trial in trials.values())


@contextlib.contextmanager
def network_of_two() -> Iterator[tuple[str, str, str]]:
    """Make a network namespace; yield its name and addresses here and there. Its link here has the same name."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network of its own takes root and the command ip")
    name, here, there = f"cut{os.getpid() % 10**6}", "10.213.57.1", "10.213.57.2"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no network namespaces here: {made.stderr}")
    try:
        for words in (
            f"link add {name} type veth peer name far netns {name}",
            f"address add {here}/24 dev {name}",
            f"link set {name} up",
            f"-netns {name} address add {there}/24 dev far",
            f"-netns {name} link set far up",
            f"-netns {name} link set lo up",
            f"-netns {name} route add default via {here}",  # or Ray does not know which of its addresses is its own
        ):
            subprocess.run(["ip", *words.split()], check=True)
        yield name, here, there
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
        subprocess.run(["ip", "link", "delete", name], stderr=subprocess.DEVNULL, check=False)  # if a process keeps it


def wait_for_nodes(head: Head, count: int) -> Path:
    """Wait until a head has so many nodes, itself among them; return its log."""
    log = head.session / "session_latest/logs/gcs_server.out"
    deadline = time.monotonic() + 120
    while log.read_text().count("Registering new node") < count:
        assert time.monotonic() < deadline, log.read_text() + (head.folder / "node.log").read_text()
        time.sleep(0.2)
    return log


@pytest.mark.slow
def test_a_node_that_is_cut_off_is_missed_in_time_and_does_no_harm_when_it_is_back(
    small: Path, tmp_path: Path, cache: Path
) -> None:
    """Of three nodes one loses its network for real; its worker goes on with the epoch that it was at."""
    folder = tmp_path / "results/small"
    settings = {"period_ms": "1000", "timeout_ms": "1000", "failure_threshold": "3"}
    with contextlib.ExitStack() as stack:
        network, here, there = stack.enter_context(network_of_two())
        health = {f"RAY_health_check_{name}": value for name, value in settings.items()}
        head = stack.enter_context(running_head(cache, {"node-ip-address": here}, **health))
        named = ("unshare", "--uts", "sh", "-c", f'hostname {network} && exec ip netns exec {network} "$@"', "sh")
        stack.enter_context(running_node(head, cache, ip=here))
        wait_for_nodes(head, 2)  # on one machine they share files: two that start at once may wait for each other
        cut = stack.enter_context(running_node(head, cache, *named, ip=there))
        log = wait_for_nodes(head, 3)
        changes = ("resources.trials_at_once=4", "stages.coarse.max_epochs=9", "stages.coarse.halving=none")
        driver = subprocess.Popen(
            [TUNER, "run", str(small), "--ray-address", head.gcs, *(f"--set={change}" for change in changes)],
            cwd=tmp_path,
            env=clean_environment(cache) | head.token,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            wait_for(lambda: any(t.execution.get("host") == network for t in read(folder).values()), driver, folder)
            subprocess.run(["ip", "link", "set", network, "down"], check=True)
            began = time.monotonic()
            wait_for(lambda: "dead because the health check failed" in log.read_text(), driver, folder)
            took_s = time.monotonic() - began
            subprocess.run(["ip", "link", "set", network, "up"], check=True)
            _, errors = driver.communicate(timeout=120)
            cut.wait(timeout=30)
        finally:
            driver.kill()
    assert driver.returncode == 0, errors
    assert took_s < 3 * (1 + 1) + 1.5, "three times a period and a time-out, and a little"
    assert_whole(folder)
    assert {path.name for path in (folder / "checkpoints").glob("*/*")} == {MODEL}, "of no worker anything is left"


def resume(tuner: Tuner, folder: Path) -> None:
    """Go on with the small search; nothing that was recorded is lost or trained again."""
    before = read(folder)
    done = tuner("resume", "small")
    assert done.returncode == 0, done.stderr
    after = read(folder)
    assert all(after[name].epochs[: len(trial.epochs)] == trial.epochs for name, trial in before.items())


def assert_whole(folder: Path) -> None:
    """All trials of the small search have ended, none of their epochs is missing or double, and MLflow has the same."""
    trials = read(folder)
    assert len(trials) == 12
    assert {trial.state for trial in trials.values()} <= {"complete", "stopped"}
    for trial in trials.values():
        assert [epoch["epoch"] for epoch in trial.epochs] == list(range(1, len(trial.epochs) + 1))
    assert_mirrored(folder, folder.parent.parent / "mlflow.db")


@pytest.mark.slow
@pytest.mark.parametrize("has_redis", [True, False])
def test_a_search_survives_the_power_cut_of_the_head(
    has_redis: bool, small: Path, tuner: Tuner, tmp_path: Path, cache: Path
) -> None:
    """With Redis the same driver goes on; without, it ends and says how to go on, and a new cluster finishes."""
    folder = tmp_path / "results/small"
    with contextlib.ExitStack() as stack:
        network, here, there = stack.enter_context(network_of_two())
        options, settings = {"node-ip-address": here}, {}
        if has_redis:
            redis = stack.enter_context(running_redis())
            options["redis-password"] = redis.password
            settings["RAY_REDIS_ADDRESS"] = redis.address
        head = stack.enter_context(running_head(cache, options, **settings))
        # a driver takes its machine's node, known by its process, for its own: so the node's are not seen from outside
        own = ("ip", "netns", "exec", network, "unshare", "--pid", "--fork", "--mount-proc")
        node = stack.enter_context(running_node(head, cache, *own, ip=there))
        wait_for_nodes(head, 2)
        (inside,) = psutil.Process(node.pid).children()
        stack.callback(inside.kill)  # the first process of its kind, which a mere request would not end
        within = ("nsenter", f"--target={inside.pid}", "--net", "--pid", "--mount", f"--wd={tmp_path}")
        changes = ("stages.coarse.max_epochs=9", "stages.coarse.halving=none")
        driver = subprocess.Popen(
            [*within, TUNER, "run", str(small), "--ray-address", head.gcs, *(f"--set={change}" for change in changes)],
            cwd=tmp_path,
            env=clean_environment(cache) | head.token,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            wait_for(lambda: sum(len(trial.epochs) for trial in read(folder).values()) >= 9, driver, folder)
            head.kill()
            if has_redis:
                time.sleep(5)
                head.start()
            output, errors = driver.communicate(timeout=240)
        finally:
            driver.kill()
        assert driver.returncode == (0 if has_redis else 1), errors
    if not has_redis:
        assert b"does not answer any more" in output + errors
        assert b"tuner resume small" in output + errors
        resume(tuner, folder)
    assert_whole(folder)


@pytest.mark.slow
def test_a_ledger_whose_disk_is_full_ends_the_search_and_resume_finishes_it(
    small: Path, tuner: Tuner, tmp_path: Path, cache: Path
) -> None:
    folder = tmp_path / "results/small"
    with mounted_disk(tmp_path / "results", "8m"):
        driver = subprocess.Popen(
            [TUNER, "run", str(small), "--set=resources.trials_at_once=2"],
            cwd=tmp_path,
            env=clean_environment(cache),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            wait_for(lambda: sum(len(trial.epochs) for trial in read(folder).values()) >= 3, driver, folder)
            filled = tmp_path / "results/others"
            with contextlib.suppress(OSError), filled.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            output, errors = driver.communicate(timeout=120)
        finally:
            driver.kill()
        assert driver.returncode == 1, output + errors
        assert b"the ledger cannot be written (No space left on device); free space there, then run the same" in errors
        filled.unlink()
        resume(tuner, folder)
        assert_whole(folder)


def test_a_search_is_stopped_from_elsewhere_gone_on_with_by_name_and_extended(
    tuner: Tuner, small: Path, tmp_path: Path, cache: Path
) -> None:
    folder = tmp_path / "results/small"
    long = "stages.coarse.max_epochs=81"  # so that it does not end before it is stopped
    untracked = ("--set", "tracking.mlflow=off", "--set", "resources.trials_at_once=1", "--set", long)
    driver = subprocess.Popen(
        [TUNER, "run", str(small), *untracked],
        cwd=tmp_path,
        env=clean_environment(cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not ((folder / "ledger.journal").exists() and any(trial.epochs for trial in read(folder).values())):
            assert driver.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        second = tuner("run", str(small), *untracked)
        assert second.returncode == 1
        assert f"process {driver.pid} on " in second.stderr
        stopped = tuner("stop", "small")
        assert stopped.returncode == 0, stopped.stderr
        output, _ = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert driver.returncode == 1
    assert "interrupted; all is recorded" in output
    assert "nobody runs" in tuner("stop", "small").stdout
    finished = {name: trial for name, trial in read(folder).items() if trial.state not in {"running", "paused"}}

    extended = tuner("extend", "small", "--trials", "+2", "--stage", "fine")
    assert extended.returncode == 0, extended.stdout + extended.stderr
    trials = read(folder)
    assert len(trials) == 8 + 6
    assert finished.items() <= trials.items()
    assert all(trial.state not in {"running", "paused"} for trial in trials.values())
    again = tuner("resume", "small")
    assert again.returncode == 0, again.stderr
    assert read(folder) == trials
    refused = tuner("run", str(small))
    assert refused.returncode == 2
    assert "tuner resume small" in refused.stderr


@pytest.mark.parametrize("arguments", [("extend", "small"), ("retry", "small"), ("resume", "small"), ("stop", "small")])
def test_a_search_that_is_not_there_or_is_not_told_what_to_do_is_refused(
    tuner: Tuner, arguments: tuple[str, ...]
) -> None:
    done = tuner(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
