"""The end of a search on a real Ray: who is best over seeds, the test set opened once, the model used."""

import dataclasses
import hashlib
import json
import platform
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TUNER, clean_environment
from made_up import make_up
from PIL import Image

from tuner.errors import RunError
from tuner.execute.experiment import Surroundings, run_search
from tuner.execute.finalize import Request, finalize_search
from tuner.execute.search_run import SearchRun
from tuner.execute.task import TrialTask
from tuner.execute.trial import train_trial
from tuner.spec import load_text
from tuner.spec.search import DataSpec
from tuner.track.ledger import Ledger

Tuner = Callable[..., "subprocess.CompletedProcess[str]"]
QUICK = """\
name: quick
data: digits
space:
  architecture: {choice: {simple_cnn: {depth: {int: [1, 2]}, width: {logint: [8, 16]}}, lenet: {}}}
  learning_rate: {loguniform: [1e-2, 0.2]}
stages:
  coarse: {trials: 4, max_epochs: 3, halving: none, sampler: random}
resources: {gpus: 0, trials_at_once: 1}
"""
SETTINGS = ("--top", "2", "--seeds", "2", "--retrain")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search in it."""
    return tmp_path_factory.mktemp("finalize")


@pytest.fixture(scope="module")
def run(place: Path, cache: Path) -> Tuner:
    """The installed command in that folder."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [TUNER, *arguments]
        environment = clean_environment(cache)
        return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)

    (place / "quick.yaml").write_text(QUICK)
    assert run("run", "quick.yaml").returncode == 0
    return run


@pytest.fixture(scope="module")
def outcome(run: Tuner, place: Path, cache: Path) -> dict[str, Any]:
    """What the test set said, after a finalize that was killed in the middle and asked for again."""
    command = [TUNER, "finalize", "quick", *SETTINGS]
    killed = subprocess.Popen(command, cwd=place, env=clean_environment(cache), stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    for line in killed.stdout:
        if "reached the last epoch" in line:
            break
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = {trial.number: trial for trial in read_final(place).trials() if trial.state == "complete"}
    assert before
    done = run("finalize", "quick", *SETTINGS)
    assert done.returncode == 0, done.stderr
    after = {trial.number: trial for trial in read_final(place).trials()}
    assert before.items() <= after.items(), "what was trained is not trained again"
    assert "Did the search pay?" in done.stdout
    (opening,) = read_final(place).attributes["openings"]
    return dict(opening["outcome"])


def read_final(place: Path) -> Any:
    return Ledger.open(place / "results/quick").finals()[0]


def test_the_best_and_two_that_no_search_chose_are_trained_over_seeds(outcome: dict[str, Any], place: Path) -> None:
    best = [one for one in outcome["contenders"] if one["value"] is not None]
    assert {one["baseline"] for one in outcome["contenders"] if "baseline" in one} == {"random", "middle"}
    baselines = {one["baseline"]: one["name"] for one in outcome["contenders"] if "baseline" in one}
    found = {gain["over"]: gain["is_winner"] for gain in outcome["gains"]}
    assert found == {baseline: name == outcome["winner"] for baseline, name in baselines.items()}
    assert [one["mean"]["estimate"] for one in best] == sorted((o["mean"]["estimate"] for o in best), reverse=True)
    trials = read_final(place).trials()
    assert len(trials) == 2 * len(outcome["contenders"])
    assert len({trial.seed for trial in trials}) == len(trials)
    assert all(len(trial.epochs) == 3 for trial in trials), "nobody is stopped"
    ledger = Ledger.open(place / "results/quick")
    assert [stage.name for stage in ledger.stages()] == ["coarse"], "what follows a search is none of its stages"
    retrained = ledger.stage("final-1-retrained")
    assert retrained is not None
    (trial,) = retrained.trials()
    assert outcome["model"]["trial"] == trial.name
    assert outcome["data"]["num_train"] == 1438


def test_the_test_set_is_opened_once(outcome: dict[str, Any], run: Tuner, place: Path) -> None:
    refused = run("finalize", "quick", *SETTINGS)
    assert refused.returncode == 2
    assert "--again" in refused.stderr
    assert len(read_final(place).attributes["openings"]) == 1
    again = run("finalize", "quick", *SETTINGS, "--again", "--json")
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    assert (told["again"], told["number"]) == (True, 2)
    assert told["outcome"]["test"] == outcome["test"], "the same models, the same images"


def test_the_measures_are_those_of_the_model_on_the_test_images(
    outcome: dict[str, Any], run: Tuner, place: Path
) -> None:
    from tuner.train.data import Opening, open_images, prepare, prepare_test

    cache, data, opening = place / "cache", DataSpec(name="digits"), Opening(lambda: None)
    test = open_images(prepare_test(data, cache, prepare(data, cache), opening), opening)
    (place / "images").mkdir()
    paths = [f"images/{i}.png" for i in range(len(test.labels))]
    for path, pixels in zip(paths, test.images, strict=True):
        Image.fromarray(pixels[:, :, 0]).save(place / path)
    for model in ("quick", "models:/quick@champion"):
        done = run("predict", model, *paths, "--json")
        assert done.returncode == 0, done.stderr
        found = [int(row["classes"][0]["class"]) for row in json.loads(done.stdout)]
        assert np.mean(found == test.labels) == outcome["test"]["accuracy"]


def test_the_registered_model_needs_no_code_of_ours_and_is_no_pickle(outcome: dict[str, Any], place: Path) -> None:
    folder = next((place / "mlartifacts").rglob("MLmodel")).parent
    text = (folder / "MLmodel").read_text()
    assert "signature" in text
    assert (folder / "input_example.json").exists()
    with zipfile.ZipFile(folder / "data/model.pt2") as archive:
        assert not [name for name in archive.namelist() if name.endswith((".pkl", ".pickle"))]
    script = (
        "import sys, numpy as np, mlflow.pyfunc\n"
        "scores = mlflow.pyfunc.load_model(sys.argv[1]).predict(np.zeros((3, 1, 8, 8), np.float32))\n"
        "assert scores.shape == (3, 10) and 'tuner' not in sys.modules, sorted(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert outcome["model"]["sha256"] in (folder / "extra_files/model_card.md").read_text()


def test_wrong_images_and_changed_models_are_refused(outcome: dict[str, Any], run: Tuner, place: Path) -> None:
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(place / "large.png")
    done = run("predict", "quick", "large.png", "nowhere.png")
    assert done.returncode == 2
    for said in ("30x20", "--resize", "nowhere.png: cannot be read"):
        assert said in done.stderr
    model = place / "results/quick/artifacts/final-1/model.pt"
    kept = model.read_bytes()
    assert hashlib.sha256(kept).hexdigest() == outcome["model"]["sha256"]
    model.write_bytes((place / "results/quick/checkpoints/final-1-0/model.pt").read_bytes())
    changed = run("predict", "quick", "large.png")
    assert changed.returncode == 2
    assert "changed since it was chosen" in changed.stderr
    model.write_bytes(kept)


def test_a_trial_is_reproduced_to_the_last_digit(outcome: dict[str, Any], run: Tuner) -> None:
    done = run("reproduce", "quick", "--stage", "final-1-retrained")
    assert done.returncode == 0, done.stderr
    assert "every number of every epoch is the same" in done.stdout
    assert "host was" not in done.stdout + done.stderr


def test_the_report_shows_what_the_test_set_said(outcome: dict[str, Any], run: Tuner, place: Path) -> None:
    done = run("report", "quick")
    assert done.returncode == 0, done.stderr
    page = (place / "results/quick/report.html").read_text()
    assert f"finds {outcome['test']['accuracy']:.2%} of it" in page
    assert "Which class is taken for which" in page
    assert list((place / "mlartifacts").rglob("report.html")), "it is with the stage's run"


def test_too_many_configurations_are_refused(run: Tuner) -> None:
    done = run("finalize", "quick", "--top", "9")
    assert done.returncode == 2
    assert "has 4 configurations with a result, found 9" in done.stderr


class Silent:
    """Watches nothing."""

    def begin(self, run: SearchRun) -> None: ...
    def say(self, line: str) -> None: ...
    def end(self) -> None: ...


class Told(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_models_that_were_trained_with_gpus_are_scored_by_workers_that_have_them(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuner.train import predict
    from tuner.train.checkpoint import load_model
    from tuner.train.data import Opening, open_images, prepare, prepare_test

    def train(task: TrialTask | None) -> Iterator[Any]:
        """Train for real, where Ray counts a GPU that torch does not see."""
        yield from train_trial(None if task is None else dataclasses.replace(task, gpu=False))

    save = f"import sys; open({str(tmp_path / 'told')!r}, 'a').write(sys.stdin.read())"
    notify = json.dumps({"command": [sys.executable, "-c", save], "events": ["end", "best"]})
    changes = (
        "stages.fine.max_epochs=1",
        "resources.gpus=0.5",
        "resources.trials_at_once=2",
        f"notify={notify}",
    )
    make_up(tmp_path / "made-up", 40, "fine", overrides=changes)
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 2, "GPU": 1}')
    watcher = Told()
    with monkeypatch.context() as patch:
        patch.setattr(predict, "predict", None)  # here, and in no worker
        around = Surroundings(tmp_path, cache)
        assert finalize_search("made-up", Request(top=1, seeds=1), around, watcher, train=train) == "complete"
    (final,) = Ledger.open(tmp_path / "made-up").finals()
    assert all(epoch["gpu_seconds"] > 0 for trial in final.trials() for epoch in trial.epochs)
    (opening,) = final.attributes["openings"]
    outcome = opening["outcome"]
    assert outcome["scored_on"] == [f"{socket.gethostname()}, cpu {platform.machine()}"]
    assert watcher.lines[-2:] == [
        "the test set is opened, and the ledger says so",
        f"3 models have scored its 359 images, on {outcome['scored_on'][0]}",
    ]
    (told,) = (json.loads(line) for line in (tmp_path / "told").read_text().splitlines())
    assert told["text"].startswith(f"made-up has ended: finalized, with {outcome['test']['accuracy']:.2%} of 359 test")
    assert f"{told['stage']}-{told['trial']}" == outcome["model"]["trial"]
    data, leave = DataSpec(name="digits"), Opening(lambda: None)
    test = open_images(prepare_test(data, cache, prepare(data, cache), leave), leave)
    classifier, _ = load_model(tmp_path / "made-up/artifacts" / final.name / "model.pt")
    found = predict.predict(classifier, test.images).argmax(axis=1)
    assert outcome["test"]["accuracy"] == np.mean(found == test.labels)


def test_a_trial_that_reads_the_test_split_is_refused(tmp_path: Path, cache: Path) -> None:
    def read(task: TrialTask | None) -> Iterator[dict[str, Any]]:
        from tuner.train.data import prepare, prepare_test

        if task is not None:
            yield {"epoch": prepare_test(task.data, task.cache, prepare(task.data, task.cache), None).num_images}  # type: ignore[arg-type]

    with pytest.raises(RunError, match="the test split is read at the end of a search alone"):
        run_search(load_text(QUICK), Surroundings(tmp_path, cache), Silent(), train=read)
    assert not any(trial.epochs for stage in Ledger.open(tmp_path / "quick").stages() for trial in stage.trials())
