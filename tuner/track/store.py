"""Where a search's ledger and its lease are: files in its folder, or PostgreSQL.

A search stays where it was begun: what lies in its folder tells where. A new one goes where its file says, or else
where ``TUNER_STORAGE`` in the environment does. That variable may hold a password, so it is read here, where it is
used, and passed through nothing that might show it.
"""

import contextlib
import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from optuna.storages import JournalStorage

from tuner.errors import InputError, LedgerError
from tuner.track.address import ADDRESS, ELSEWHERE
from tuner.track.journal import BatchingBackend, open_journal
from tuner.track.lease import Holder, Lease, ask_folder_to_stop, claim_folder, find_folder_holder, write_whole

JOURNAL = "ledger.journal"
VARIABLE = "TUNER_STORAGE"


class FolderStore:
    """A search with all its files in its folder.

    Parameters
    ----------
    folder : Path
        The search's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has_ledger(self) -> bool:
        """Tell whether there is a ledger."""
        return (self._folder / JOURNAL).exists()

    def begin(self) -> None:
        """Do nothing: the file is made when it is opened."""

    def open(self) -> tuple[JournalStorage, BatchingBackend]:
        """Open the ledger's file, or begin it."""
        return open_journal(self._folder / JOURNAL)

    def claimed(self, say: Callable[[str], None] = lambda _: None) -> contextlib.AbstractContextManager[Lease]:
        """Hold the search's folder, making it if need be, so that no second process runs the same search."""
        return claim_folder(self._folder, say)

    def find_holder(self) -> Holder | None:
        """Say who runs the search."""
        return find_folder_holder(self._folder)

    def ask_to_stop(self, holder: Holder) -> None:
        """Ask whoever runs the search to end it, by a file."""
        ask_folder_to_stop(self._folder, holder)

    def put_aside(self, name: str) -> Path | None:
        """Give the search another name, unless somebody runs it; return its new folder, None if there is none."""
        if not self._folder.exists():
            return None
        with claim_folder(self._folder) as lease:
            lease.release()
            return _rename(self._folder, name)


class PostgresStore:
    """A search whose ledger and lease are in PostgreSQL, and whose other files are in its folder.

    Parameters
    ----------
    folder : Path
        The search's folder.
    address : str
        The database's, with the password if it needs one.
    """

    def __init__(self, folder: Path, address: str) -> None:
        from tuner.track.postgres import Database, show_address  # noqa: PLC0415 most searches need no driver

        self._folder = folder
        self._address = address
        self._shown = show_address(address)
        self._database = Database(address)

    def has_ledger(self) -> bool:
        """Tell whether the database has the search of the folder, or one of its name where there is no folder."""
        return self._find() is not None

    def begin(self) -> None:
        """Make the tables, the search's row and the file that names it, as far as they are not there.

        Raises
        ------
        InputError
            If the folder cannot be written, or the name is that of a search whose files are elsewhere.
        """
        from tuner.track.postgres import TABLES  # noqa: PLC0415 most searches need no driver

        if not self._has_tables():  # to make them takes a right that whoever uses them need not have
            self._database.ask(TABLES)
        own, name = self._read_id(), self._folder.name
        if own is None:
            self._refuse_taken(None)
            own = uuid.uuid4().hex
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                write_whole(self._folder / ELSEWHERE, json.dumps({"storage": self._shown, "id": own}) + "\n")
            except OSError as error:
                raise InputError(
                    f"{self._folder}: the search's folder cannot be written ({error.strerror}); choose another with "
                    "--results"
                ) from error
        try:
            files = (self._folder.parent / ADDRESS).read_text().strip()
        except OSError:
            files = f"{self._folder} on {socket.gethostname()}"
        self._database.ask(
            "INSERT INTO tuner_search (id, name, files) VALUES (%(id)s, %(name)s, %(files)s) ON CONFLICT DO NOTHING",
            {"id": own, "name": name, "files": files},
        )
        if self._find() is None:  # another search has the name
            self._refuse_taken(own)

    def open(self) -> tuple[JournalStorage, BatchingBackend]:
        """Open the ledger, which is there."""
        from tuner.track.postgres import PostgresBackend  # noqa: PLC0415 most searches need no driver

        search_id = self._find()
        assert search_id is not None, "whoever opens it has seen that it is there, or begun it"
        backend = PostgresBackend(self._database, search_id)
        return JournalStorage(backend), backend

    @contextlib.contextmanager
    def claimed(self, say: Callable[[str], None] = lambda _: None) -> Iterator[Lease]:
        """Hold the search's row, making it if need be, so that no second process runs the same search."""
        from tuner.track.postgres import Database, claim_row  # noqa: PLC0415 most searches need no driver

        if self._find() is None or self._read_id() is None:
            self.begin()
        search_id = self._find()
        assert search_id is not None, "it has begun"
        lease = claim_row(Database(self._address), search_id, self._folder.name, say)
        try:
            yield lease
        finally:
            lease.release()

    def find_holder(self) -> Holder | None:
        """Say who runs the search."""
        from tuner.track.postgres import find_row_holder  # noqa: PLC0415 most searches need no driver

        search_id = self._find()
        return None if search_id is None else find_row_holder(self._database, search_id)

    def ask_to_stop(self, holder: Holder) -> None:
        """Ask whoever runs the search to end it, by a word in its row."""
        self._database.ask(
            "UPDATE tuner_search SET stop = %(token)s WHERE id = %(id)s", {"token": holder.token, "id": self._find()}
        )

    def put_aside(self, name: str) -> Path | None:
        """Give the search another name, in the database and here, unless somebody runs it."""
        from tuner.track.postgres import Database, claim_row  # noqa: PLC0415 most searches need no driver

        search_id = self._find()
        if search_id is not None:
            lease = claim_row(Database(self._address), search_id, self._folder.name, lambda _: None)
            try:
                self._database.ask(
                    "UPDATE tuner_search SET name = %(name)s WHERE id = %(id)s", {"name": name, "id": search_id}
                )
            finally:
                lease.release()
        if self._folder.exists():
            return _rename(self._folder, name)
        return None if search_id is None else self._folder.with_name(name)

    def list_names(self) -> list[str]:
        """List all searches of the database."""
        if not self._has_tables():
            return []
        return [name for (name,) in self._database.ask("SELECT name FROM tuner_search ORDER BY name")]

    def _has_tables(self) -> bool:
        ((table,),) = self._database.ask("SELECT to_regclass('tuner_search')::text")
        return table is not None

    def _find(self) -> str | None:
        """Find the id of the search: the one that its folder names, or where that names none, the one of its name."""
        if not self._has_tables():
            return None
        own = self._read_id()
        which = "name = %(name)s" if own is None else "id = %(id)s"
        rows = self._database.ask(
            f"SELECT id FROM tuner_search WHERE {which}",  # noqa: S608 one of two constants
            {"id": own, "name": self._folder.name},
        )
        return rows[0][0] if rows else None

    def _read_id(self) -> str | None:
        elsewhere = read_elsewhere(self._folder)
        return None if elsewhere is None else elsewhere["id"]

    def _refuse_taken(self, own: str | None) -> None:
        """Refuse a name that another search has, whose files are not here.

        Raises
        ------
        InputError
            If one has.
        """
        rows = self._database.ask(
            "SELECT files FROM tuner_search WHERE name = %(name)s AND id IS DISTINCT FROM %(id)s::text",
            {"name": self._folder.name, "id": own},
        )
        if rows:
            raise InputError(
                f"{self._shown} has a search {self._folder.name!r} already, with its files in {rows[0][0]} and not in "
                f"{self._folder}: name that folder with --results, give this search another name with --set "
                "name=NAME, or start over with --fresh, which puts the earlier one aside"
            )


def find_store(folder: Path, asked: str = "auto") -> FolderStore | PostgresStore:
    """Find where a search's ledger is, or would be begun.

    Parameters
    ----------
    folder : Path
        The search's folder.
    asked : str
        The spec's ``storage``, for a search that has not begun.

    Raises
    ------
    InputError
        If an address is none, or the driver that it needs is missing.
    AddressError
        If the database does not answer.
    LedgerError
        If the folder's word of where the ledger is cannot be read.
    """
    elsewhere = read_elsewhere(folder)
    if elsewhere is not None:
        return PostgresStore(folder, _complete(elsewhere["storage"]))
    if (folder / JOURNAL).exists():
        return FolderStore(folder)
    address = os.environ.get(VARIABLE, "") if asked == "auto" else _complete(asked)
    return PostgresStore(folder, address) if address else FolderStore(folder)


def list_searches(results: Path) -> list[Path]:
    """List the folders of all searches: those that are here, and those of the database in the environment."""
    found = {path.parent.name for file in (JOURNAL, ELSEWHERE) for path in results.glob(f"*/{file}")}
    if address := os.environ.get(VARIABLE):
        found |= set(PostgresStore(results, address).list_names())
    return [results / name for name in sorted(found)]


def read_elsewhere(folder: Path) -> dict[str, str] | None:
    """Read where a search's ledger is, if it is not in its folder.

    Raises
    ------
    LedgerError
        If that cannot be read.
    """
    path = folder / ELSEWHERE
    try:
        elsewhere = json.loads(path.read_text())
        return {name: str(elsewhere[name]) for name in ("storage", "id")}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LedgerError(f"{path}: cannot be read ({error}); restore it from a copy") from error


def _rename(folder: Path, name: str) -> Path:
    """Rename a search's folder.

    Raises
    ------
    InputError
        If it cannot be renamed.
    """
    try:
        return folder.rename(folder.with_name(name))
    except OSError as error:
        raise InputError(f"{folder}: cannot be put aside ({error.strerror}); rename or delete it yourself") from error


def _complete(address: str) -> str:
    """Give an address that was written down its password back, if the environment has it."""
    from tuner.track.postgres import is_same_place  # noqa: PLC0415 most searches need no driver

    whole = os.environ.get(VARIABLE)
    return whole if whole and is_same_place(whole, address) else address
