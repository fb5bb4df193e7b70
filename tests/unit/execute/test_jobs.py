"""What is sent to a cluster."""

import shlex
import subprocess
from pathlib import Path

import pytest

from tuner.errors import InputError
from tuner.execute import jobs
from tuner.execute.jobs import Submission, refuse_large

SECRET = 'it\'s a "secret" $(false) `x`\nof two lines'


def test_the_driver_gets_the_environment_as_it_was_and_deletes_its_file(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    submission = Submission("one", "name: one\n", ("a.b=c d",), str(tmp_path / "shared"), {"SECRET": SECRET})
    submission.write(tmp_path / "work", "one-1")
    assert (tmp_path / "work/environment").stat().st_mode & 0o777 == 0o600
    assert SECRET not in repr(submission)
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$SECRET" "$TUNER_RESULTS" "$MLFLOW_TRACKING_URI" "$@"\n')
    python.chmod(0o755)
    entrypoint = Submission("one", "", ("a.b=c d",), python=str(python)).entrypoint
    done = subprocess.run(
        ["sh", "-c", entrypoint],
        cwd=tmp_path / "work",
        env={"RAY_ADDRESS": "head:6379", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    shared = str(tmp_path / "shared")
    assert done.stdout == "\n".join(
        [
            SECRET,
            shared,
            f"sqlite:///{shared}/mlflow.db",
            *["-m", "tuner", "run", "spec.yaml", "--set"],
            "a.b=c d",
            *(f"--ray-address head:6379 --results {shared}\n").split(" "),
        ]
    )
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["spec.yaml"]


def test_what_is_changed_in_the_file_is_sent_as_it_is() -> None:
    overrides = ("data.path=/data/my  set", "name=it's   $HOME")
    words = shlex.split(Submission("one", "", overrides).entrypoint)
    assert words[words.index("spec.yaml") + 1 : words.index("--ray-address")] == [
        *("--set", overrides[0]),
        *("--set", overrides[1]),
    ]


def test_what_is_too_large_is_refused_before_it_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "UPLOAD_LIMIT_BYTES", 1000)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/code.pyc").write_bytes(bytes(5000))
    (tmp_path / "small").write_bytes(bytes(900))
    refuse_large(tmp_path)
    (tmp_path / "weights").write_bytes(bytes(950))
    with pytest.raises(InputError, match=r"the largest file is .*weights"):
        refuse_large(tmp_path)
