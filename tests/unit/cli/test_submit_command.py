"""What is refused before anything is sent."""

from pathlib import Path

import pytest
from conftest import SPEC

from tuner.cli.submit_command import read_environment, refuse_paths_from_here
from tuner.errors import InputError
from tuner.spec import load_text


def test_folders_of_this_machine_are_refused() -> None:
    on_files = load_text(SPEC.replace("data: digits", "data: {name: parquet, path: images}"))
    with pytest.raises(InputError, match=r"data\.path: 'images'"):
        refuse_paths_from_here(on_files, None)
    with pytest.raises(InputError, match="--results"):
        refuse_paths_from_here(load_text(SPEC), "results")
    on_store = load_text(SPEC.replace("data: digits", "data: {name: parquet, path: 's3://bucket/images'}"))
    refuse_paths_from_here(on_store, "/shared/results")


def test_a_variable_that_is_not_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABSENT", raising=False)
    with pytest.raises(InputError, match="ABSENT is not set here"):
        read_environment(["ABSENT"])
    with pytest.raises(InputError, match="no name of a variable"):
        read_environment(["a b=1"])


def test_the_ledger_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNER_STORAGE", "postgresql://me:word@host/db")
    assert read_environment([]) == {"TUNER_STORAGE": "postgresql://me:word@host/db"}


def test_mlflow_goes_along_unless_it_is_a_file_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "word")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert read_environment(["HOME=/x=y"]) == {"HOME": "/x=y"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow")
    assert read_environment([]) == {"MLFLOW_TRACKING_URI": "https://mlflow", "MLFLOW_TRACKING_PASSWORD": "word"}
