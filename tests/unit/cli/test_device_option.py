"""The device that some commands take."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import SPEC

from tuner.cli import cli
from tuner.errors import InputError
from tuner.train.run import require_device

CONFIG = "name: one\ndata: digits\nconfig: {architecture: lenet}\nepochs: 1\nseed: 0\n"


@pytest.mark.parametrize("device", ["cuda", "cuda:9", "mps", "foo", ""])
@pytest.mark.parametrize("command", ["train", "check", "predict", "reproduce"])
def test_a_device_that_is_not_there_is_refused(
    command: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    Path("config").write_text({"train": CONFIG, "check": SPEC}.get(command, ""))
    done = CliRunner().invoke(cli, [command, "config", *(["image.png"] * (command == "predict")), "--device", device])
    assert isinstance(done.exception, InputError)
    assert f"--device: must be cpu, for torch finds no GPU on this machine; found {device!r}" in str(done.exception)


def test_a_gpu_is_named_with_or_without_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("cpu", "cuda", "cuda:0", "cuda:1"):
        require_device(name)
    with pytest.raises(InputError, match=r"--device: must be cpu, cuda, cuda:0, cuda:1; found 'cuda:2'; name one of"):
        require_device("cuda:2")
