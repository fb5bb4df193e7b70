"""The command's own help."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from made_up import make_up

from tuner.cli import COMMANDS, cli, main


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom tuner.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "print(sorted({'ray', 'torch', 'mlflow', 'optuna', 'pyarrow', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself_with_an_example(name: str) -> None:
    done = CliRunner().invoke(cli, [name, "--help"])
    assert done.exit_code == 0
    assert f"\n      tuner {name}" in done.output.split("Example")[1], "an example has a line of its own"
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.help is not None
    assert command.help.split("\n\n")[0].replace("\n", " ").startswith(COMMANDS[name][1].rstrip(".")), "one text, twice"


def test_checking_a_spec_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom tuner.cli import main\n"
        "try: main(['validate', 'nowhere.yaml'])\nexcept SystemExit as end: assert end.code == 2\n"
        "print(sorted({'ray', 'torch', 'mlflow', 'optuna', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_showing_a_search_imports_nothing_heavy(tmp_path: Path) -> None:
    make_up(tmp_path / "made-up", 12, "coarse")
    script = (
        "import sys\nfrom tuner.cli import main\n"
        f"try: main(['show', 'made-up', '--results', {str(tmp_path)!r}])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(sorted({'ray', 'torch', 'mlflow', 'scipy.stats'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_command_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serach"])
    assert ended.value.code == 2
