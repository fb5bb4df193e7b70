"""``tuner models``."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from tuner.cli import cli, main
from tuner.spec.hyperparameters import ARCHITECTURES


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["models", *arguments])


def test_every_family_is_listed_with_what_it_is_and_its_defaults() -> None:
    lines = call().output.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(ARCHITECTURES)
    vgg = lines[list(ARCHITECTURES).index("vgg")]
    assert "VGG (Simonyan and Zisserman 2014)" in vgg
    assert vgg.endswith("depth=16 batch_norm=false width=1 head=4096")


def test_listing_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom tuner.cli import main\n"
        "try: main(['models'])\nexcept SystemExit as end: assert end.code == 0\n"
        "print(sorted({'ray', 'torch', 'mlflow', 'optuna', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_layers_of_a_network_and_their_totals() -> None:
    done = call("simple_cnn", "--input", "32x32x3", "--classes", "100")
    assert done.exit_code == 0
    table = [line.split() for line in done.output.splitlines()]
    assert table[0] == ["layer", "kind", "output", "parameters", "multiply-adds", "memory"]
    assert table[2] == ["0", "Conv2d", "3x3", "30x30x32", "896", "777,600", "115.2", "kB"]
    assert ["10", "Linear", "100", "51,300", "51,200", "400", "B"] in table
    assert ["total", "70,692", "2,533,760", "185.0", "kB"] in table
    assert "about 370.0 kB with the backward pass" in done.output
    assert "count none" in done.output


def test_settings_change_the_network_and_are_yaml() -> None:
    done = call("resnet", "--set", "depth=8", "--set", "unit=full_preactivation", "--set", "width=4", "--json")
    layers = json.loads(done.output)
    assert layers[1]["output_shape"] == [32, 32, 4]
    assert sum(layer["kind"].startswith("Conv2d 3x3") for layer in layers) == 7
    plain, wide = (
        sum(x["num_parameters"] for x in json.loads(call("lenet", *a, "--json").output))
        for a in ((), ("--set", "width=2"))
    )
    assert wide > 3 * plain


def test_families_come_as_json_too() -> None:
    families = json.loads(call("--json").output)
    assert families[0]["name"] == "simple_cnn"
    assert families[0]["defaults"]["depth"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resnte"], ["resnte", "did you mean resnet?", "hog_svm"]),
        (["[red]"], ["no family is called [red]"]),
        (["lenet", "--input", "32x32"], ["--input", "HEIGHTxWIDTHxCHANNELS", "'32x32'", "32x32x3"]),
        (["lenet", "--input", "32x32x2"], ["1 or 3 channels"]),
        (["lenet", "--input", "7x32x3"], ["8 to 1024"]),
        (["lenet", "--input", "32x9999x3"], ["8 to 1024"]),
        (["lenet", "--input", ""], ["--input"]),
        (["lenet", "--classes", "1"], ["--classes"]),
        (["resnet", "--set", "depth=51"], ["--set depth", "one of 8, 14", "found 51"]),
        (["resnet", "--set", "dept=50"], ["--set dept", "did you mean depth?"]),
        (["resnet", "--set", "unit=orignal"], ["did you mean original?"]),
        (["resnet", "--set", "depth"], ["--set depth", "a key, = and a value"]),
        (["resnet", "--set", "=3"], ["a key, = and a value"]),
        (["resnet", "--set", "depth="], ["found nothing"]),
        (["resnet", "--set", "depth=[8"], ["--set depth", "]"]),
        (["resnet", "--set", "depth=[8]"], ["--set depth", "[8]"]),
        (["vgg", "--set", "width=-1"], ["above 0", "-1"]),
        (["vgg", "--set", "batch_norm=yes"], ["write true"]),
        (["vgg", "--set", "depth=12", "--set", "widht=2"], ["2 faults", "--set depth", "--set widht"]),
        (["--set", "depth=8"], ["need a family", "resnet"]),
        (["--input", "32x32x3"], ["need a family"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_input_is_refused_with_what_is_allowed(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["models", *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert all(words in error for words in said), error
