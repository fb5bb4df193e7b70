"""A search whose ledger is in a real PostgreSQL: the same search, one driver at a time, nothing lost or twice."""

import itertools
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from postgres_server import Server

from tuner.errors import AddressError, InputError, LedgerError
from tuner.track import lease as lease_module
from tuner.track import postgres as postgres_module
from tuner.track import session as session_module
from tuner.track.lease import Holder
from tuner.track.ledger import Ledger
from tuner.track.postgres import Database, PostgresKeeper
from tuner.track.store import find_store, list_searches

Tuner = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def server(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A PostgreSQL that the environment of this process names."""
    monkeypatch.setenv("TUNER_STORAGE", postgres.address)
    return postgres


def read_records(server: Server, name: str) -> list[dict[str, Any]]:
    """The records of a search, after a look at their numbers."""
    rows = Database(server.address).ask(
        "SELECT sequence, record FROM tuner_ledger JOIN tuner_search ON id = search WHERE name = %(name)s "
        "ORDER BY sequence",
        {"name": name},
    )
    assert [number for number, _ in rows] == list(range(len(rows)))
    return [json.loads(record) for _, record in rows]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that comes within seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Wire:
    """A way to the server that can be cut once something was sent by it, before the answer comes back."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.cut_after: bytes | None = None
        self.num_cut = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._pass_on, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_question: bool) -> None:
        try:
            while data := source.recv(65536):
                is_last = is_question and self.cut_after is not None and self.cut_after in data
                if is_last:
                    self.cut_after = None
                    self.num_cut += 1
                elif not is_question and self.num_cut % 2:
                    self.num_cut += 1
                    break  # this is the answer that is lost
                target.sendall(data)
                if is_last:
                    time.sleep(0.3)  # the server has done it by now
                    break
        except OSError:
            pass
        for end in (source, target):
            end.close()

    def close(self) -> None:
        """Take no more connections."""
        self._listening.close()


def test_a_record_whose_answer_was_lost_is_written_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(server.port)
    monkeypatch.setenv("TUNER_STORAGE", server.find_address(wire.port))
    stage = Ledger.open(tmp_path / "lost", create=True).begin_stage("only", maximize=True, metric="val_accuracy")
    for i in range(4):
        wire.cut_after = f"answer lost {i}".encode()
        with stage.batch():
            stage.set(note=f"answer lost {i}")
            stage.set(also=f"{i}")
    wire.close()
    assert wire.num_cut >= 4
    records = read_records(server, "lost")
    notes = [record["user_attr"] for record in records if "user_attr" in record]
    assert notes == [
        {"metric": "val_accuracy"},
        *itertools.chain(*([{"note": f"answer lost {i}"}, {"also": f"{i}"}] for i in range(4))),
    ]


def test_a_server_that_stands_still_is_waited_for_and_each_record_is_written_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "SILENT_S", 0.5)
    monkeypatch.setitem(postgres_module._OPTIONS, "connect_timeout", 2)  # the least that libpq takes
    monkeypatch.setattr(lease_module, "BEAT_S", 0.1)
    said = list[str]()
    with find_store(tmp_path / "still").claimed(said.append) as lease:
        stage = Ledger.open(tmp_path / "still", create=True, lease=lease).begin_stage(
            "only", maximize=True, metric="val_accuracy"
        )
        stage.set(note="before")
        writing = threading.Thread(target=lambda: [stage.set(note=f"{i}") for i in range(20)])
        with server.frozen():
            began = time.monotonic()
            writing.start()
            with pytest.raises(AddressError, match="does not answer"):
                Database(server.address).ask("SELECT 1")
            assert time.monotonic() - began < 2 + 1.5
            wait_until(lambda: len(said) == 1, "it says what it waits for")
            assert "does not answer any more" in said[0]
            assert said[0].endswith("; the search waits for it")
            assert writing.is_alive()
        writing.join(10)
        wait_until(lambda: len(said) == 2, "it says that the server is back")
    notes = [record["user_attr"] for record in read_records(server, "still") if "user_attr" in record]
    assert notes == [{"metric": "val_accuracy"}, {"note": "before"}, *({"note": f"{i}"} for i in range(20))]
    assert said[1:] == [f"PostgreSQL at {postgres_module.show_address(server.address)} is back"]


def test_a_driver_whose_lease_was_taken_writes_nothing_however_late(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with find_store(tmp_path / "taken").claimed() as lease:
        stage = Ledger.open(tmp_path / "taken", create=True, lease=lease).begin_stage(
            "only", maximize=True, metric="val_accuracy"
        )
        stage.set(note="mine")
        Database(server.address).ask("UPDATE tuner_search SET token = 'another' WHERE name = 'taken'")
        monkeypatch.setattr(lease, "check", lambda: None)  # as if it had just looked
        with pytest.raises(LedgerError, match="taken over"):
            stage.set(note="too late")
    assert "too late" not in str(read_records(server, "taken"))


def test_a_lease_is_one_s_at_a_time_and_can_be_asked_back(server: Server, tmp_path: Path) -> None:
    store = find_store(tmp_path / "held")
    asked = threading.Event()
    with store.claimed() as lease:
        holder = store.find_holder()
        assert holder is not None and holder.pid == os.getpid()
        said = list[str]()
        refused = pytest.raises(LedgerError, match=f"being run already, by process {os.getpid()}")
        with refused, store.claimed(said.append):
            pytest.fail("two drivers at once")
        assert said == [], "a holder that has just renewed is not waited for"
        lease.check()
        lease.on_stop(asked.set)
        store.ask_to_stop(holder)
        assert asked.wait(10)
    assert store.find_holder() is None
    with store.claimed():
        pass


def test_a_lease_of_a_dead_session_is_taken_over_and_a_silent_one_s_later(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("BEAT_S", 0.1), ("STALE_S", 2.0), ("SILENT_S", 0.5)):
        monkeypatch.setattr(postgres_module, name, seconds)
        monkeypatch.setattr(lease_module, name, seconds, raising=False)
    monkeypatch.setattr(lease_module.Lease, "_beat", lambda _: None)  # no sign of life
    store = find_store(tmp_path / "silent")
    for ends_session, least, most in ((True, 0.3, 1.5), (False, 1.9, 4.0)):
        dead = store.claimed()
        lease = dead.__enter__()
        if ends_session:
            lease._keeper._database.close()  # type: ignore[attr-defined]
        time.sleep(0.25)
        start, said = time.monotonic(), list[str]()
        with store.claimed(said.append) as other:
            assert least - 0.25 <= time.monotonic() - start <= most
            assert "ran this search; waiting" in said[0]
            other.check()
        lease._renewed = -1e9
        with pytest.raises(LedgerError, match="taken over"):
            lease.check()
        dead.__exit__(None, None, None)


def test_a_server_that_was_down_takes_no_holder_for_silent_meanwhile(server: Server, tmp_path: Path) -> None:
    with find_store(tmp_path / "down").claimed():
        pass
    database = Database(server.address)
    rows = database.ask("SELECT id FROM tuner_search WHERE name = 'down'")
    keeper = PostgresKeeper(database, rows[0][0], lambda _: None)
    assert keeper.take(Holder.here(), None)
    keeper.ask("UPDATE tuner_search SET beat = clock_timestamp() - interval '1 hour' WHERE id = %(search)s")
    server.control("restart", "-m", "immediate")
    seen = keeper.look()
    assert seen is not None and seen.silent_s < 60


def test_a_search_is_found_by_its_name_and_its_files_by_its_folder(server: Server, tmp_path: Path) -> None:
    Ledger.open(tmp_path / "here/known", create=True).begin_stage("only", maximize=True, metric="val_accuracy")
    (tmp_path / "there").mkdir()
    assert Ledger.open(tmp_path / "there/known").stages()[0].attributes == {"metric": "val_accuracy"}
    assert "known" in [folder.name for folder in list_searches(tmp_path / "there")]
    with (
        pytest.raises(InputError, match=r"with its files in .*here/known"),
        find_store(tmp_path / "there/known").claimed(),
    ):
        pytest.fail("a driver without the search's files")
    aside = find_store(tmp_path / "there/known").put_aside("known.before")
    assert aside == tmp_path / "there/known.before"
    assert Ledger.open(tmp_path / "here/known").stages()[0].name == "only", "its folder knows its id"
    with find_store(tmp_path / "there/known").claimed():
        assert Ledger.open(tmp_path / "there/known").stages() == []


def test_a_database_that_does_not_answer_is_the_input_s_fault_and_its_password_stays_hidden(
    server: Server, small: Path, tuner: Tuner
) -> None:
    for address, secret, kind, expected in (
        (server.find_address(1), server.password, AddressError, "does not answer"),
        (
            server.address.replace(server.password, "wr0ngWord"),
            "wr0ngWord",
            AddressError,
            "password authentication failed",
        ),
        ("postgresql://tuner:s3/cret#Word@127.0.0.1/postgres", "cret", InputError, "in the password as %XX"),
    ):
        with pytest.raises(kind, match=expected) as caught:
            Database(address).ask("SELECT 1")
        assert secret not in str(caught.value) + repr(caught.value.__cause__)
        assert caught.value.exit_code == 2
    assert server.password not in Database(server.address)._tell(Exception(f"no user has the word {server.password}"))
    done = tuner("run", str(small), TUNER_STORAGE=server.find_address(1))
    assert done.returncode == 2, done.stderr
    assert "does not answer" in done.stderr
    assert server.password not in done.stdout + done.stderr
