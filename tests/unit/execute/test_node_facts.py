"""What is said of a folder that this user may not enter."""

import errno
from pathlib import Path

import pytest

from tuner.execute.doctor import _look_at_storage
from tuner.execute.node_facts import NodeFacts


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in one that lets nobody in."""
    folder = tmp_path / "closed/results"

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    for name in ("exists", "mkdir", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    return folder


def test_results_that_are_not_reached_are_a_finding(closed: Path) -> None:
    finding = _look_at_storage([], closed)
    assert (finding.check, finding.verdict) == ("storage", "fail")
    assert finding.found == f"{closed}: Permission denied"
    assert "--results" in finding.remedy


def test_a_machine_tells_its_facts_where_a_folder_cannot_be_reached(closed: Path) -> None:
    facts = NodeFacts().look(str(closed), "", "")
    assert facts["versions"]["tuner"]
    assert facts["disks"] == {"results": None}
