"""The files in cluster/, without a cloud."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kuberay_schema import RAY_CLUSTER_SPEC, RAY_JOB_SPEC, resource
from ray.autoscaler._private.util import prepare_config, validate_config

from tuner import __version__
from tuner.execute.growth import VARIABLE, place_on_growing
from tuner.execute.jobs import STOP_WITHIN_S
from tuner.spec.search import Resources

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "cluster"
PINNED = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
)


def load(name: str) -> Any:
    return yaml.safe_load((CLUSTER / name).read_text())


@pytest.mark.parametrize("name", ["onprem.yaml", "aws.yaml", "gcp.yaml"])
def test_ray_takes_the_launcher_file_and_every_node_asks_for_the_token(name: str) -> None:
    config = load(name)
    prepared = prepare_config(config)
    validate_config(prepared)
    for kind in ("head", "worker"):
        starts = [command for command in config[f"{kind}_start_ray_commands"] if "ray start" in command]
        assert len(starts) == 1
        assert "RAY_AUTH_MODE=token" in starts[0]
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][1]
    assert f"RAY_JOB_STOP_WAIT_TIME_S={STOP_WITHIN_S}" in config["head_start_ray_commands"][1]
    assert config["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("chmod 600" in command for command in config["setup_commands"])
    assert config["docker"]["image"].endswith(f":{__version__}")


@pytest.mark.parametrize(
    ("name", "kind", "spec"),
    [("raycluster.yaml", "RayCluster", RAY_CLUSTER_SPEC), ("rayjob.yaml", "RayJob", RAY_JOB_SPEC)],
)
def test_kuberay_takes_the_manifest(name: str, kind: str, spec: dict[str, Any]) -> None:
    manifest = load(f"kubernetes/{name}")
    jsonschema.validate(manifest, resource(kind, spec))
    cluster = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    assert cluster["rayVersion"] == PINNED["ray"]
    claim = load("kubernetes/storage.yaml")
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["results"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
            assert container["image"].endswith(f":{__version__}")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert any("nvidia.com/gpu" in str(group) for group in groups)


@pytest.mark.parametrize(
    "name",
    [
        "onprem.yaml",
        "aws.yaml",
        "gcp.yaml",
        "compose.yaml",
        "kubernetes/raycluster.yaml",
        "kubernetes/rayjob.yaml",
        "slurm/search.sh",
    ],
)
def test_every_head_takes_a_node_that_is_cut_off_for_dead_as_soon_as_the_readme_says(name: str) -> None:
    text, readme = (CLUSTER / name).read_text(), (CLUSTER / "README.md").read_text()
    found = re.findall(r"RAY_health_check_(timeout_ms|failure_threshold)\W+(?:value: \")?(\d+)", text)
    timeout_s, times, period_s = int(dict(found)["timeout_ms"]) / 1000, int(dict(found)["failure_threshold"]), 3
    assert len(found) == 2
    assert f"taken for dead after {times * (period_s + timeout_s):.0f} s at most" in readme


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml", "kubernetes/raycluster.yaml", "kubernetes/rayjob.yaml"])
def test_where_machines_come_and_go_a_search_waits_for_the_first(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (patience,) = re.findall(rf"{VARIABLE}\W+(?:value: )?(\w+)", (CLUSTER / name).read_text())
    assert f"`{VARIABLE}={patience}`" in (CLUSTER / "README.md").read_text()
    monkeypatch.setenv(VARIABLE, patience)
    assert place_on_growing(Resources(trials_at_once=8), [{"CPU": 0}, {"CPU": 1}], print).trials_at_once == 8


def test_the_schema_refuses_a_key_that_kuberay_does_not_know() -> None:
    manifest = load("kubernetes/rayjob.yaml")
    manifest["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["container"] = []
    with pytest.raises(jsonschema.ValidationError, match="'container' was unexpected"):
        jsonschema.validate(manifest, resource("RayJob", RAY_JOB_SPEC))


def test_compose_starts_a_head_on_loopback_and_workers_after_it() -> None:
    compose = load("compose.yaml")
    assert set(compose) <= {"name", "services", "volumes", "secrets", "x-node"}
    head, worker = compose["services"]["head"], compose["services"]["worker"]
    assert head["ports"] == ["127.0.0.1:8265:8265"]
    assert worker["depends_on"] == {"head": {"condition": "service_healthy"}}
    for service in (head, worker):
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["secrets"] == list(compose["secrets"])
        named = [volume.split(":")[0] for volume in service["volumes"] if not volume.startswith(("/", ".", "$"))]
        assert set(named) == set(compose["volumes"])
        dockerfile = CLUSTER / service["build"]["context"] / service["build"]["dockerfile"]
        (made,) = re.findall(r"install -d -o ray -g ray (.*)", dockerfile.read_text())
        places = {volume.split(":")[1] for volume in service["volumes"] if volume.split(":")[0] in named}
        assert set(made.split()) == places, "or Docker makes them, and they are root's"


def test_the_image_has_the_pinned_versions_and_no_root() -> None:
    steps = [
        line.partition(" ")[::2]
        for line in (CLUSTER / "Dockerfile").read_text().replace("\\\n", "").splitlines()
        if line and not line.startswith("#")
    ]
    instructions = [name for name, _ in steps]
    assert instructions[0] == "FROM"
    assert set(instructions) <= {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "ENTRYPOINT", "CMD"}
    assert ("USER", "ray") in steps
    assert any("-c constraints.txt" in text for name, text in steps if name == "RUN")
    for text in (text for name, text in steps if name == "COPY"):
        assert all((ROOT / source).exists() for source in text.split()[:-1])


FAKES = {
    "scontrol": 'echo "scontrol $*" >>"$LOG"\n[ "$1" = requeue ] || printf "one\\ntwo\\nthree\\n"\n',
    "srun": 'echo "srun $*" >>"$LOG"\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n',
    "ray": (
        'case "$1" in\nstart) echo "ray pid $$" >>"$LOG"; exec sleep 100 ;;\n'
        'health-check) grep -q "ray pid" "$LOG" ;;\nesac\n'
    ),
    "tuner": (
        'echo "tuner $*" >>"$LOG"\ntrap \'echo "tuner ends cleanly" >>"$LOG"; exit 1\' TERM\n'
        'until [ "$(grep -c "ray pid" "$LOG")" = 3 ]; do sleep 0.1; done\n'
        'if [ -n "$LONG" ]; then for _ in $(seq 300); do sleep 0.1; done; fi\nexit "${CODE:-0}"\n'
    ),
}


@pytest.fixture
def on_slurm(tmp_path: Path) -> dict[str, str]:
    """An environment in which Slurm's commands only write down what they are told, and run it here."""
    (tmp_path / "bin").mkdir()
    for name, text in FAKES.items():
        fake = tmp_path / "bin" / name
        fake.write_text(f"#!/bin/bash\n{text}")
        fake.chmod(0o755)
    (tmp_path / "log").touch()
    return {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LOG": str(tmp_path / "log"),
        "LONG": "",
        "TUNER_RESULTS": "/shared",
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "node[1-3]",
        "SLURM_CPUS_ON_NODE": "8",
        "SLURM_GPUS_ON_NODE": "2",
    }


def run_slurm(environment: dict[str, str], *arguments: str) -> "subprocess.Popen[bytes]":
    with (Path(environment["HOME"]) / "stderr").open("wb") as stderr:
        return subprocess.Popen(["bash", CLUSTER / "slurm/search.sh", *arguments], env=environment, stderr=stderr)


def find_leftovers(log: str) -> list[int]:
    """The fake nodes that still run."""
    pids = [int(line.split()[-1]) for line in log.splitlines() if line.startswith("ray pid")]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_on_slurm_the_first_node_is_the_head_and_the_others_join_it(on_slurm: dict[str, str]) -> None:
    process = run_slurm(on_slurm | {"CODE": "3"}, "spec.yaml", "--set", "name=a b")
    assert process.wait(timeout=60) == 3, Path(on_slurm["HOME"], "stderr").read_text()
    log = Path(on_slurm["LOG"]).read_text()
    started = [line for line in log.splitlines() if line.startswith("srun")]
    assert "--nodelist=one ray start --head --port=24711" in started[0]
    assert all("--num-cpus=8 --num-gpus=2" in line for line in started)
    assert sorted(line.split("--nodelist=")[1].split()[0] for line in started[1:]) == ["three", "two"]
    assert all("--address=one:24711" in line for line in started[1:])
    assert "tuner run spec.yaml --set name=a b --ray-address one:24711 --results /shared" in log
    assert "requeue" not in log, "it was not stopped, so it failed"
    assert not find_leftovers(log)
    assert (Path(on_slurm["HOME"]) / ".ray/auth_token").stat().st_mode & 0o777 == 0o600


def test_on_slurm_a_search_that_is_told_to_stop_ends_cleanly_and_is_queued_again(on_slurm: dict[str, str]) -> None:
    process = run_slurm(on_slurm | {"LONG": "yes"}, "spec.yaml")
    deadline = time.monotonic() + 60
    while "tuner run" not in Path(on_slurm["LOG"]).read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.3)  # for its trap
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 1, Path(on_slurm["HOME"], "stderr").read_text()
    log = Path(on_slurm["LOG"]).read_text()
    assert "tuner ends cleanly\nscontrol requeue 4711" in log
    assert not find_leftovers(log)


def test_on_slurm_what_is_missing_is_said(on_slurm: dict[str, str]) -> None:
    process = run_slurm(on_slurm)
    assert process.wait(timeout=60) == 2
    process = run_slurm({key: value for key, value in on_slurm.items() if key != "TUNER_RESULTS"}, "spec.yaml")
    assert process.wait(timeout=60) != 0
    assert "folder that every node sees" in Path(on_slurm["HOME"], "stderr").read_text()


def test_every_shell_script_is_shell() -> None:
    for script in [*CLUSTER.rglob("*.sh")]:
        subprocess.run(["bash", "-n", script], check=True)
        assert os.access(script, os.X_OK)


def test_the_files_speak_of_options_that_the_command_has() -> None:
    done = subprocess.run([sys.executable, "-m", "tuner", "run", "--help"], capture_output=True, text=True, check=True)
    for path in (CLUSTER / "slurm/search.sh", CLUSTER / "kubernetes/rayjob.yaml"):
        used = {
            word
            for line in path.read_text().splitlines()
            if "tuner run" in line and not line.startswith("#")
            for word in line.split()
            if word.startswith("--")
        }
        assert used, path
        assert all(option in done.stdout for option in used), used
