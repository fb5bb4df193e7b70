"""``tuner refine``."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tuner.cli import cli, main
from tuner.spec import Space, dump_spec, load_text
from tuner.strategy.draws import draw
from tuner.track.ledger import Ledger

SPEC = """\
name: digits
data: digits
space: {architecture: lenet, learning_rate: {loguniform: [1e-3, 1.0]}, dropout: {uniform: [0.0, 0.6]}}
stages: {only: {trials: 30, max_epochs: 1, halving: none}}
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a search in which small learning rates are good."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "digits").mkdir()
    spec = load_text(SPEC)
    assert isinstance(spec.space, Space)
    written = dump_spec(spec)
    stage = Ledger.open(folder / "digits", create=True).begin_stage("only", maximize=True, spec=written, asked=written)
    rng = np.random.default_rng(0)
    for _ in range(30):
        config = draw(spec.space, rng)
        value = 1 - float(config["learning_rate"])
        number = stage.start(spec.space, config, seed=0)
        stage.record_epoch(number, 1, {"val_accuracy": value}, value)
        stage.end(number, "complete", "because", value)
    return folder


def call(results: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["refine", *arguments, "--results", str(results)])


def test_what_is_printed_is_a_search_file_with_nothing_to_warn_of(results: Path, tmp_path: Path) -> None:
    done = call(results, "digits")
    assert (done.exit_code, done.stderr) == (0, "")
    (tmp_path / "next.yaml").write_text(done.stdout)
    checked = CliRunner().invoke(cli, ["validate", str(tmp_path / "next.yaml")])
    assert (checked.exit_code, checked.stderr) == (0, "")
    assert "search 'digits-refined' on digits, stages only (30 trials of up to 1 epochs)" in checked.stdout
    assert "\n  # learning_rate: widened, from 30 trials: loguniform [0.001, 1] -> loguniform [" in done.stdout
    assert "\n  # dropout: kept, from 30 trials: uniform [0, 0.6]; " in done.stdout


def test_it_can_be_written_to_a_file_and_says_what_was_done(results: Path, tmp_path: Path) -> None:
    path = tmp_path / "next.yaml"
    done = call(results, "digits", "--name", "finer", "--keep", "0.1", "--margin", "0", "--output", str(path))
    assert done.stdout == f"{path}: search 'finer'; hyperparameters 1 fixed, 1 widened, 1 kept\n"
    assert path.read_text() == call(results, "digits", "--name", "finer", "--keep", "0.1", "--margin", "0").stdout
    assert "(keep 0.1, margin 0)" in path.read_text().replace("\n#  ", "")


def test_a_name_that_is_taken_is_told(results: Path, tmp_path: Path) -> None:
    (results / "taken").mkdir()
    done = call(results, "digits", "--name", "taken")
    assert done.exit_code == 0
    assert "has a search 'taken' already; choose another name with --name" in done.stderr


def test_the_name_of_a_search_with_a_long_name_still_fits(results: Path) -> None:
    (results / ("x" * 64)).symlink_to(results / "digits")
    done = call(results, "x" * 64)
    assert load_text(done.stdout).name == f"{'x' * 56}-refined"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digist"], ["no search is called 'digist'", "there are: digits"]),
        (["digits", "--keep", "0"], ["--keep", "a number above 0 and at most 1", "found 0"]),
        (["digits", "--keep", "nan"], ["--keep", "found nan"]),
        (["digits", "--margin", "-0.1"], ["--margin", "from 0 to 1", "found -0.1"]),
        (["digits", "--margin", "a lot"], ["--margin", "'a lot' is not a valid float"]),
        (["digits", "--name", "../digits"], ["--name", "letters, digits, dots", "'../digits'"]),
        (["digits", "--name", "x" * 65], ["--name", "at most 64"]),
        (["digits", "--name", "digits"], ["--name", "learns from 'digits'", "another name"]),
        (["digits", "--stage", "fine"], ["no stage 'fine'", "it has: only"]),
        (["digits", "--output", "/nowhere/next.yaml"], ["/nowhere/next.yaml", "cannot be written", "--output"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_wrong_input_is_refused_with_what_is_allowed(
    results: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["refine", *arguments, "--results", str(results)])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert all(words in error for words in said), error


def test_it_imports_neither_ray_nor_torch_nor_mlflow(results: Path) -> None:
    script = (
        "import sys\nfrom tuner.cli import main\n"
        f"try: main(['refine', 'digits', '--results', {str(results)!r}])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(sorted({'ray', 'torch', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
