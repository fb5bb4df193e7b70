"""The files in mlflow/."""

import configparser
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "mlflow/compose.yaml").read_text())
MLFLOW = COMPOSE["services"]["mlflow"]


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_every_setting_is_one_that_mlflow_reads() -> None:
    from mlflow import environment_variables
    from mlflow.cli import server

    read = {option.envvar for option in server.params if getattr(option, "envvar", None)}
    for name in MLFLOW["environment"]:
        assert name.startswith("AWS_") or name in read or hasattr(environment_variables, name), name
    started = re.search(r"^CMD (\[.*\])$", (ROOT / "mlflow/Dockerfile").read_text(), re.MULTILINE)
    assert started is not None
    options = {option for parameter in server.params for option in parameter.opts}
    assert {word for word in yaml.safe_load(started[1]) if word.startswith("--")} <= options


def test_the_example_names_every_variable_and_holds_no_secret() -> None:
    text = (ROOT / "mlflow/compose.yaml").read_text()
    example = (ROOT / "mlflow/example.env").read_text()
    given = dict(line.split("=", 1) for line in example.splitlines() if line and not line.startswith("#"))
    assert set(re.findall(r"\$\{(\w+)", text)) == set(given)
    assert not [name for name, value in given.items() if value and re.search("PASSWORD|SECRET", name)]
    for name in ("POSTGRES_PASSWORD", "S3_SECRET_KEY", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY"):
        assert all(use.startswith(":?") for use in re.findall(rf"\$\{{{name}([^}}]*)\}}", text)), "no default"
    assert "/mlflow/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_each_service_waits_for_what_it_needs_and_is_looked_after() -> None:
    services = COMPOSE["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services)
        assert "healthcheck" in service or name == "bucket"
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"]
    assert MLFLOW["ports"] == ["${MLFLOW_LISTEN:-127.0.0.1:5000}:5000"]
    assert not [name for name in services if name != "mlflow" and "ports" in services[name]], "nothing else is open"
    assert MLFLOW["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_the_service_of_systemd_is_shut_in_and_passes_no_secret_as_an_argument() -> None:
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "mlflow/mlflow.service")
    service = unit["Service"]
    assert service["EnvironmentFile"] == "/etc/mlflow.env"
    assert "--host 127.0.0.1" in service["ExecStart"]
    assert "--app-name basic-auth" in service["ExecStart"]
    assert "://" not in service["ExecStart"]
    assert (service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "strict")
    (install,) = re.findall(
        r"^#   install -d /etc/mlflow && (sed .*)$", (ROOT / "mlflow/mlflow.service").read_text(), re.MULTILINE
    )
    command, _, where = install.partition(" >")
    assert where == MLFLOW["environment"]["MLFLOW_AUTH_CONFIG_PATH"]
    config = configparser.ConfigParser()
    config.read_string(subprocess.run(command.split(), cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert config["mlflow"]["database_uri"] == f"sqlite:///{service['WorkingDirectory']}/users.db", "it may write there"


def test_the_folder_is_no_package() -> None:
    assert not list((ROOT / "mlflow").rglob("*.py"))
