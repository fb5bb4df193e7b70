"""The ledger in PostgreSQL: the records of the file, a row each, and the lease beside them.

A search is known by the id in its folder's ``ledger.json``; its name is for people. The number of a record is its key:
who has lost the answer to a write sends it again, and finds it there or writes it now. A write is one statement that
also sees that the lease is still its writer's, so that whoever has lost it writes nothing, however late. A server that
is started again, or has stopped answering, is waited for.
"""

import contextlib
import dataclasses
import json
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, urlencode

from tuner.errors import AddressError, InputError, LedgerError
from tuner.track.address import hide_password
from tuner.track.journal import BatchingBackend
from tuner.track.lease import BEAT_S, STALE_S, Holder, Lease, explain_taken

if TYPE_CHECKING:
    import psycopg

Rows: TypeAlias = list[tuple[Any, ...]]

PATIENCE_S = 300.0  # with a server that was there before
SILENT_S = 6.0  # a holder that has no session and has not renewed its lease for so long is dead
_LONGEST_PAUSE_S = 2.0
_OPTIONS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "tuner",
    "client_encoding": "UTF8",  # a database without an encoding gives bytes otherwise
}
_SECRETS = {"password", "sslpassword"}
_PLACE = {"user", "host", "hostaddr", "port", "dbname"}
TABLES = """
SELECT pg_advisory_xact_lock(7382905114);
CREATE TABLE IF NOT EXISTS tuner_search (
    id text PRIMARY KEY, name text NOT NULL UNIQUE, files text NOT NULL,
    holder text, token text, beat timestamptz, stop text
);
CREATE TABLE IF NOT EXISTS tuner_ledger (
    search text REFERENCES tuner_search (id), sequence bigint, record text NOT NULL, PRIMARY KEY (search, sequence)
);
"""
_APPEND = """
INSERT INTO tuner_ledger (search, sequence, record)
SELECT %(search)s, %(first)s + place - 1, record FROM unnest(%(records)s::text[]) WITH ORDINALITY AS new (record, place)
WHERE %(token)s::text IS NULL
   OR EXISTS (SELECT 1 FROM tuner_search WHERE id = %(search)s AND token = %(token)s FOR SHARE)
"""
_LOOK = """
SELECT (SELECT record FROM tuner_ledger WHERE search = %(search)s AND sequence = %(first)s),
       (SELECT max(sequence) + 1 FROM tuner_ledger WHERE search = %(search)s)
"""
_LOOK_AT_LEASE = """
SELECT holder, token,
       -- a server that was down has heard from no holder meanwhile
       extract(epoch FROM clock_timestamp() - greatest(beat, pg_postmaster_start_time()))::float8
FROM tuner_search WHERE id = %(search)s AND token IS NOT NULL
"""


def read_address(address: str) -> dict[str, str]:
    """Take an address apart as PostgreSQL's own library does.

    Raises
    ------
    InputError
        If it is none, or the driver is not installed. The address is not shown.
    """
    try:
        import psycopg  # noqa: PLC0415 only who keeps a ledger there needs it
    except ImportError as error:
        raise InputError(
            "a ledger in PostgreSQL needs the package psycopg; install it with: pip install 'tuner[postgresql]'"
        ) from error
    try:
        parts = psycopg.conninfo.conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        parts = {}
    host, port, database = (str(parts.get(name) or "") for name in ("host", "port", "dbname"))
    # a sign of the password that is not escaped ends it, and the rest is taken for something that would be shown
    is_whole = bool(database) and "@" not in host + database and "/" not in database
    is_whole &= port.replace(",", "").isdigit() | (not port)
    if not address.startswith(("postgresql://", "postgres://")) or not is_whole:
        raise InputError(
            "the ledger's address must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE, found another (it is not "
            "shown, since it may hold a password); write signs other than letters and digits in the password as %XX, "
            "so @ as %40"
        ) from None
    return {name: str(value) for name, value in parts.items()}


def show_address(address: str) -> str:
    """Return an address as it may be printed and written down: without passwords."""
    parts = {name: value for name, value in read_address(address).items() if name not in _SECRETS}
    user, host, port, database = (parts.pop(name, "") for name in ("user", "host", "port", "dbname"))
    if "/" in host or "," in host:  # a socket's folder, or several hosts
        parts, host = {"host": host} | ({"port": port} if port else {}) | parts, ""
        port = ""
    where = f"{quote(user, safe='')}@" * bool(user) + host + f":{port}" * bool(port)
    return f"postgresql://{where}/{quote(database, safe='')}" + f"?{urlencode(parts)}" * bool(parts)


def is_same_place(first: str, second: str) -> bool:
    """Tell whether two addresses are of one database, whoever asks it."""
    places = [
        {name: value for name, value in read_address(address).items() if name in _PLACE - {"user"}}
        for address in (first, second)
    ]
    return places[0] == places[1]


@dataclasses.dataclass(frozen=True)
class _Seen:
    """A lease as it was at one moment: whose, and for how long it has not been renewed by the server's clock."""

    holder: Holder
    token: str
    silent_s: float


class Database:
    """A connection to PostgreSQL, made again whenever it is lost.

    Parameters
    ----------
    address : str
        ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``; what it leaves out comes from libpq's environment.
    """

    def __init__(self, address: str) -> None:
        self.shown = show_address(address)
        self._parts = read_address(address)
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._was_there = False

    def close(self) -> None:
        """End the session; the next question begins another."""
        if self._connection is not None:
            self._connection = None
            self._end()

    @property
    def session(self) -> object:
        """What tells one session from the next; None for none."""
        return self._connection

    def ask(self, question: str, answers: Mapping[str, Any] | None = None, *, patience_s: float = PATIENCE_S) -> Rows:
        """Execute one statement; one whose answer is lost is executed again, so twice must be as good as once.

        Returns
        -------
        list of tuples
            The rows that it gives; of one that gives none, the number of rows that it changed.

        Raises
        ------
        AddressError
            If the server was never there.
        LedgerError
            If it was, and is away for longer than ``patience_s``, or refuses.
        psycopg.errors.UniqueViolation
            If a row that was to be written is there.
        """
        import psycopg  # noqa: PLC0415 read_address saw that it is there

        deadline, pause = time.monotonic() + patience_s, 0.05
        with self._lock:
            while True:
                try:
                    cursor = self._connect().execute(question, answers)
                    return cursor.fetchall() if cursor.description else [(cursor.rowcount,)]
                except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                    self.close()
                    if not self._was_there:
                        raise AddressError(
                            f"the ledger's PostgreSQL at {self.shown} does not answer: {self._tell(error)}; start it, "
                            "or mend TUNER_STORAGE (or storage: in the search file, with PGPASSWORD)"
                        ) from None
                    if time.monotonic() > deadline:
                        raise LedgerError(
                            f"the ledger's PostgreSQL at {self.shown} does not answer any more: {self._tell(error)}; "
                            "what was recorded is whole: run the same again when it is back"
                        ) from None
                except psycopg.errors.UniqueViolation:
                    raise
                except psycopg.Error as error:
                    raise LedgerError(
                        f"the ledger's PostgreSQL at {self.shown} refuses: {self._tell(error)}; it needs the right to "
                        "make tables in its database, or to read and write the tables tuner_search and tuner_ledger"
                    ) from None
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _connect(self) -> "psycopg.Connection[Any]":
        from tuner.track.session import Session  # noqa: PLC0415 read_address saw that the driver is there

        if self._connection is None:
            self._connection = Session.connect(**_OPTIONS | self._parts, autocommit=True)
            self._end = weakref.finalize(self, self._connection.close)
            self._was_there = True
        return self._connection

    def _tell(self, error: Exception) -> str:
        """Return what the server said, in one line and without the password."""
        text = " ".join(str(error).split())
        for name in _SECRETS & self._parts.keys():
            text = text.replace(self._parts[name] or "***", "***")
        return hide_password(text)


def examine_database(address: str) -> str:
    """See that a database can hold ledgers, leaving nothing in it.

    Returns
    -------
    str
        Where it is, what it is, and how long it takes to write.

    Raises
    ------
    AddressError
        If it does not answer.
    LedgerError
        If it cannot be written.
    """
    database = Database(address)
    database.ask(TABLES)
    probe = {"id": f"doctor-{uuid.uuid4().hex}"}
    began = time.monotonic()
    database.ask("INSERT INTO tuner_search (id, name, files) VALUES (%(id)s, %(id)s, '')", probe)
    took = time.monotonic() - began
    database.ask("DELETE FROM tuner_search WHERE id = %(id)s", probe)
    ((version, num_searches),) = database.ask(
        "SELECT split_part(current_setting('server_version'), ' ', 1), (SELECT count(*) FROM tuner_search)"
    )
    return f"{database.shown}: PostgreSQL {version}, {num_searches} searches; a record takes {took * 1000:.0f} ms"


class PostgresBackend(BatchingBackend):
    """Writes to a table, a row a record.

    Parameters
    ----------
    database : Database
        Where the table is.
    search_id : str
        Whose records these are.
    """

    def __init__(self, database: Database, search_id: str) -> None:
        self._database = database
        self._search = search_id
        self._next = 0

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """Read the records from a number on."""
        rows = self._database.ask(
            "SELECT record FROM tuner_ledger WHERE search = %(search)s AND sequence >= %(first)s ORDER BY sequence",
            {"search": self._search, "first": log_number_from},
        )
        self._next = max(self._next, log_number_from + len(rows))  # another thread may have written meanwhile
        return [json.loads(record) for (record,) in rows]

    def write(self, logs: list[dict[str, Any]]) -> None:
        """Write, whole or not at all, and each record once.

        Raises
        ------
        LedgerError
            If the lease was lost.
        """
        import psycopg  # noqa: PLC0415 read_address saw that it is there

        records = [json.dumps(log, separators=(",", ":")) for log in logs]
        asked = {"search": self._search, "token": None if self.lease is None else self.lease.token, "records": records}
        while True:
            try:
                ((num_written,),) = self._database.ask(_APPEND, {**asked, "first": self._next})
            except psycopg.errors.UniqueViolation:
                ((there, num_records),) = self._database.ask(_LOOK, {"search": self._search, "first": self._next})
                if there == records[0]:  # no other writer has this record's worker: the answer to the write was lost
                    num_written = len(records)
                else:
                    self._next = num_records
                    continue
            if num_written != len(records):
                raise LedgerError("the search was taken over by another process; this one records nothing more")
            self._next += num_written
            return


class PostgresKeeper:
    """Keeps the lease in a search's row, and beside it a lock that ends with the holder's session.

    Parameters
    ----------
    database : Database
        A connection for the lease alone.
    search_id : str
        The search's id.
    say : function
        Told when the server goes away and comes back.
    """

    def __init__(self, database: Database, search_id: str, say: Callable[[str], None]) -> None:
        self._database = database
        self._search = search_id
        self._say = say
        self._locked_in: object = None
        self._is_away = False

    def ask(self, question: str, **answers: Any) -> Rows:
        """Ask about the search, whose id is ``search`` in the question."""
        return self._database.ask(question, {"search": self._search, **answers}, patience_s=BEAT_S / 2)

    def lock(self) -> bool:
        """Hold the lock for as long as the session lasts, unless another session does."""
        if self._locked_in is None or self._locked_in is not self._database.session:
            ((is_locked,),) = self.ask("SELECT pg_try_advisory_lock(hashtextextended(%(search)s, 0))")
            self._locked_in = self._database.session if is_locked else None
        return self._locked_in is not None

    def look(self) -> _Seen | None:
        """Look at the lease; None if it is free."""
        rows = self.ask(_LOOK_AT_LEASE)
        return _Seen(Holder(**json.loads(rows[0][0])), *rows[0][1:]) if rows else None

    def take(self, own: Holder, seen: _Seen | None) -> bool:
        """Take a lease that is as it was seen; whoever asks twice has it once."""
        taken = self.ask(
            "UPDATE tuner_search SET holder = %(holder)s, token = %(own)s, beat = clock_timestamp(), stop = NULL "
            "WHERE id = %(search)s AND (token IS NOT DISTINCT FROM %(seen)s::text OR token = %(own)s) RETURNING id",
            holder=json.dumps(dataclasses.asdict(own)),
            own=own.token,
            seen=seen and seen.token,
        )
        return bool(taken)

    def renew(self, holder: Holder) -> tuple[str, bool]:
        """Set the time of the last sign of life anew.

        Raises
        ------
        OSError
            If the server does not answer now.
        """
        try:
            self.lock()
            rows = self.ask(
                "UPDATE tuner_search SET beat = clock_timestamp() WHERE id = %(search)s AND token = %(own)s "
                "RETURNING coalesce(stop = token, false)",
                own=holder.token,
            )
            other = None if rows else self.look()
        except LedgerError as error:
            if not self._is_away:
                self._say(f"{error}".partition("; ")[0] + "; the search waits for it")
            self._is_away = True
            raise OSError(str(error)) from error
        if self._is_away:
            self._say(f"PostgreSQL at {self._database.shown} is back")
        self._is_away = False
        if rows:
            return "", rows[0][0]
        return f"the search was taken over by {other.holder if other else 'somebody who gave its lease back'}", False

    def give_back(self, holder: Holder) -> None:
        """Free the lease, if it still is this holder's; a server that is away has it time out."""
        with contextlib.suppress(LedgerError):
            self.ask(
                "UPDATE tuner_search SET holder = NULL, token = NULL, stop = NULL WHERE id = %(search)s "
                "AND token = %(own)s",
                own=holder.token,
            )
        self._database.close()


def claim_row(database: Database, search_id: str, name: str, say: Callable[[str], None]) -> Lease:
    """Take a search's lease: a free one, one whose holder's session has ended, or one that nobody renews.

    Parameters
    ----------
    database : Database
        A connection for the lease alone.
    search_id, name : str
        The search.
    say : function
        Told what is waited for.

    Raises
    ------
    LedgerError
        If it is another's.
    """
    own, keeper = Holder.here(), PostgresKeeper(database, search_id, say)
    where = f"{database.shown}, search {name!r}"
    try:
        seen, has_said = keeper.look(), False
        while seen is not None:
            has_session = not keeper.lock()
            if seen.silent_s >= (STALE_S if has_session else SILENT_S):
                break
            if has_session and seen.silent_s < 2 * BEAT_S:
                raise LedgerError(explain_taken(where, name, seen.holder))
            if not has_said:
                say(f"{seen.holder} ran this search; waiting up to {STALE_S:g} s to see whether it still does")
                has_said = True
            time.sleep(BEAT_S / 4)
            now = keeper.look()
            if now is not None and (now.token != seen.token or now.silent_s < seen.silent_s):
                raise LedgerError(explain_taken(where, name, now.holder))
            seen = now
        if not keeper.take(own, seen):
            taken = keeper.look()
            raise LedgerError(explain_taken(where, name, taken.holder if taken else None))
        keeper.lock()
    except BaseException:
        database.close()
        raise
    return Lease(keeper, own, where, None if seen is None else seen.holder)


def find_row_holder(database: Database, search_id: str) -> Holder | None:
    """Say who has a search's lease; None if nobody has, or he has not shown any sign of life for too long."""
    seen = PostgresKeeper(database, search_id, lambda _: None).look()
    if seen is None or seen.silent_s > STALE_S:
        return None
    free = database.ask("SELECT pg_try_advisory_xact_lock(hashtextextended(%(search)s, 0))", {"search": search_id})
    return None if seen.silent_s > SILENT_S and free[0][0] else seen.holder
