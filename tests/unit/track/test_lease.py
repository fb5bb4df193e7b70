"""Who runs a search: one at a time, also where several machines share its folder."""

import dataclasses
import json
import os
import threading
import time
from pathlib import Path

import pytest

from tuner.errors import LedgerError
from tuner.track import lease as lease_module
from tuner.track.journal import open_journal
from tuner.track.lease import LEASE, Holder, Lease, ask_folder_to_stop, claim_folder, find_folder_holder
from tuner.track.ledger import Ledger


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("BEAT_S", 0.05), ("STALE_S", 0.4), ("_SETTLE_S", 0.1)):
        monkeypatch.setattr(lease_module, name, seconds)


def leave_lease(folder: Path, **changes: object) -> Holder:
    """The lease of a driver that is, or was, on another machine."""
    holder = dataclasses.replace(Holder.here(), host="node7", pid=17, machine="another", **changes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LEASE).write_text(json.dumps(dataclasses.asdict(holder)))
    return holder


def test_a_lease_is_given_back_and_can_be_had_again(tmp_path: Path) -> None:
    for _ in range(2):
        with claim_folder(tmp_path):
            holder = find_folder_holder(tmp_path)
            assert holder is not None
            assert holder.pid == os.getpid()
        assert find_folder_holder(tmp_path) is None


def test_a_lease_that_another_machine_renews_is_refused_with_its_holder(tmp_path: Path) -> None:
    leave_lease(tmp_path, since="2026-01-02 03:04:05 UTC")
    over = threading.Event()

    def renew() -> None:
        while not over.wait(0.05):
            os.utime(tmp_path / LEASE)

    other = threading.Thread(target=renew)
    other.start()
    try:
        with (
            pytest.raises(LedgerError, match="process 17 on node7 since 2026-01-02 03:04:05 UTC"),
            claim_folder(tmp_path),
        ):
            pytest.fail("two drivers at once")
    finally:
        over.set()
        other.join()


def test_a_lease_that_nobody_renews_is_taken_over_after_a_while(tmp_path: Path) -> None:
    leave_lease(tmp_path)
    said: list[str] = []
    start = time.monotonic()
    with claim_folder(tmp_path, said.append):
        assert time.monotonic() - start >= 0.4
        holder = find_folder_holder(tmp_path)
        assert holder is not None
        assert holder.pid == os.getpid()
    assert "process 17 on node7" in said[0]


def test_a_lease_of_a_dead_process_of_this_machine_is_taken_over_at_once(tmp_path: Path) -> None:
    leave_lease(tmp_path)
    holder = dataclasses.replace(Holder.here(), pid=2**22 + 1)
    (tmp_path / LEASE).write_text(json.dumps(dataclasses.asdict(holder)))
    assert find_folder_holder(tmp_path) is None
    said: list[str] = []
    with claim_folder(tmp_path, said.append) as lease:
        assert said == []
        assert lease.left_by == holder, "so that somebody can be told"
    with claim_folder(tmp_path) as lease:
        assert lease.left_by is None, "it was given back"


def test_a_lease_cut_off_while_it_was_written_is_taken_over_like_any_other(tmp_path: Path) -> None:
    (tmp_path / LEASE).write_text('{"host": "no')
    with claim_folder(tmp_path):
        pass


def test_of_many_who_want_a_stale_lease_at_once_one_gets_it(tmp_path: Path) -> None:
    """Each on a machine of its own, as far as the lease knows: the kernel's lock keeps nobody out."""
    leave_lease(tmp_path)
    held: list[Lease] = []

    def take() -> None:
        try:
            held.append(lease_module._take(tmp_path, lambda _: None))
        except LedgerError:
            return

    racers = [threading.Thread(target=take) for _ in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(held) == 1
    held[0].check()
    held[0].release()


def test_a_driver_whose_lease_was_taken_records_nothing_more(tmp_path: Path) -> None:
    with claim_folder(tmp_path) as lease:
        ledger = Ledger.open(tmp_path, create=True, lease=lease)
        stage = ledger.begin_stage("only", maximize=True, metric="val_accuracy")
        other = leave_lease(tmp_path)
        time.sleep(0.3)
        with pytest.raises(LedgerError, match="taken over by process 17 on node7"):
            stage.set(ended="complete")
    assert "ended" not in Ledger.open(tmp_path).stages()[0].attributes
    assert find_folder_holder(tmp_path) == other, "and leaves the other's lease alone"


def test_a_driver_that_was_held_up_looks_before_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "BEAT_S", 60.0)  # its beat has not come to look
    with claim_folder(tmp_path) as lease:
        leave_lease(tmp_path)
        time.sleep(0.3)
        with pytest.raises(LedgerError, match="taken over"):
            lease.check()


def test_a_request_to_stop_reaches_the_holder_and_no_later_one(tmp_path: Path) -> None:
    asked = threading.Event()
    with claim_folder(tmp_path) as lease:
        holder = find_folder_holder(tmp_path)
        assert holder is not None
        ask_folder_to_stop(tmp_path, holder)
        time.sleep(0.3)
        lease.on_stop(asked.set)
        assert asked.is_set(), "also if it was asked before it could"
    ask_folder_to_stop(tmp_path, holder)
    asked.clear()
    with claim_folder(tmp_path) as lease:
        lease.on_stop(asked.set)
        time.sleep(0.3)
        assert not asked.is_set()


def test_a_request_to_stop_interrupts_while_the_lease_is_held(tmp_path: Path) -> None:
    asked = threading.Event()
    with claim_folder(tmp_path) as lease:
        lease.on_stop(asked.set)
        holder = find_folder_holder(tmp_path)
        assert holder is not None
        ask_folder_to_stop(tmp_path, holder)
        assert asked.wait(5)


def test_the_journal_is_written_only_with_leave(tmp_path: Path) -> None:
    storage, backend = open_journal(tmp_path / "journal")
    with claim_folder(tmp_path) as lease:
        backend.lease = lease
        leave_lease(tmp_path)
        time.sleep(0.3)
        with pytest.raises(LedgerError, match="taken over"):
            storage.create_new_study([], "one")
    assert (tmp_path / "journal").read_bytes() == b""
