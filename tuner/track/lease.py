"""Who runs a search: a lease, renewed for as long as its holder lives; here one in the search's folder.

On one machine the kernel's lock tells at once whether the holder lives. Where several machines share a folder that lock
may not hold (over NFS, say), so there the lease's time of change tells: its holder sets it anew every few seconds, and
a lease that has not changed for half a minute is nobody's. Clocks are never compared: whoever wants the lease watches
it.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tuner.errors import InputError, LedgerError

LEASE = "driver.json"
LOCK = "driver.lock"
STOP = "driver.stop"  # asks the holder whose token it has to end its search
BEAT_S = 2.0
STALE_S = 30.0
_SETTLE_S = 2.0  # between taking a stale lease and seeing that nobody took it at the same moment


@dataclass(frozen=True)
class Holder:
    """Whoever runs a search.

    Attributes
    ----------
    host, pid : str, int
        Its machine's name and its process.
    since : str
        When it began, in UTC.
    machine : str
        Tells machines of one name apart, and one before and after it was started again.
    token : str
        Tells this lease from all others.
    """

    host: str
    pid: int
    since: str
    machine: str
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"

    @classmethod
    def here(cls) -> "Holder":
        """Describe this process."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return cls(socket.gethostname(), os.getpid(), now, _find_machine(), uuid.uuid4().hex)


class Keeper(Protocol):
    """Where a lease is kept."""

    def renew(self, holder: Holder) -> tuple[str, bool]:
        """Renew a lease; say how it was lost, nothing while it is its holder's, and whether he is asked to stop.

        Raises
        ------
        OSError
            If it cannot be asked now.
        """

    def give_back(self, holder: Holder) -> None:
        """Give a lease back, unless it is another's by now."""


class Lease:
    """A search's lease, held by this process.

    Parameters
    ----------
    keeper : Keeper
        Where it is kept.
    holder : Holder
        This process.
    search : str
        What is leased, for whoever reads an error.
    left_by : Holder or None
        Who had it before and never gave it back, for he was killed.
    """

    def __init__(self, keeper: Keeper, holder: Holder, search: str, left_by: Holder | None = None) -> None:
        self.token = holder.token
        self.left_by = left_by
        self._keeper = keeper
        self._holder = holder
        self._search = search
        self._renewed = time.monotonic()
        self._lost = ""
        self._interrupt: Callable[[], None] | None = None
        self._is_asked_to_stop = False
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True, name="lease")
        self._beating.start()

    def check(self) -> None:
        """See that the lease is still this process's: nothing may be recorded without it.

        Raises
        ------
        LedgerError
            If another process took it, which it may after this one was held up for half a minute.
        """
        if time.monotonic() - self._renewed > STALE_S / 2:
            self._renew()
        if self._lost:
            raise LedgerError(f"{self._search}: {self._lost}; this process records nothing more")

    def on_stop(self, interrupt: Callable[[], None]) -> None:
        """Say what to do when somebody asks the search to stop; done at once if somebody has."""
        self._interrupt = interrupt
        if self._is_asked_to_stop:
            interrupt()

    def release(self) -> None:
        """Give the lease back, unless it is another's by now."""
        self._over.set()
        if threading.current_thread() is not self._beating:
            self._beating.join()
        self._keeper.give_back(self._holder)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S) and not self._lost:
            if self._renew() and not self._is_asked_to_stop:
                self._is_asked_to_stop = True
                if self._interrupt is not None:
                    self._interrupt()

    def _renew(self) -> bool:
        """Renew the lease, and tell whether to stop; a store that does not answer is asked again."""
        try:
            self._lost, is_asked_to_stop = self._keeper.renew(self._holder)
        except OSError:
            return False
        self._renewed = self._renewed if self._lost else time.monotonic()
        return is_asked_to_stop


class FolderKeeper:
    """Keeps the lease in the search's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def renew(self, holder: Holder) -> tuple[str, bool]:
        """Set the time of change anew, which needs no space."""
        seen = _look(self._folder)
        if seen is None or seen.holder != holder:
            return f"the search was taken over by {seen.holder if seen else 'somebody who removed its lease'}", False
        os.utime(self._folder / LEASE)
        return "", _read(self._folder / STOP) == holder.token

    def give_back(self, holder: Holder) -> None:
        """Remove the lease, if it still is this holder's."""
        seen = _look(self._folder)
        if seen is not None and seen.holder == holder:
            for name in (STOP, LEASE):
                (self._folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def claim_folder(folder: Path, say: Callable[[str], None] = lambda _: None) -> Iterator[Lease]:
    """Hold a search's folder, making it if need be, so that no second process runs the same search.

    Parameters
    ----------
    folder : Path
        The search's folder.
    say : function
        Told if the lease of another machine must be watched first.

    Raises
    ------
    InputError
        If the folder cannot be written.
    LedgerError
        If another process runs this search.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a")
    except OSError as error:
        raise InputError(
            f"{folder}: the search's folder cannot be written ({error.strerror}); choose another with --results"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            seen = _look(folder)
            raise LedgerError(explain_taken(str(folder), folder.name, seen.holder if seen else None)) from None
        except OSError:  # a file system without locks: the lease alone decides
            pass
        lease = _take(folder, say)
        try:
            yield lease
        finally:
            lease.release()


def find_folder_holder(folder: Path) -> Holder | None:
    """Say who has the lease in a folder; None if nobody has, as far as can be told without waiting."""
    seen = _look(folder)
    if seen is None or seen.holder is None:
        return None
    if seen.holder.machine == _find_machine():
        with contextlib.suppress(OSError), (folder / LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None  # the lock is free, so its holder is dead
    return seen.holder


def ask_folder_to_stop(folder: Path, holder: Holder) -> None:
    """Ask whoever runs a search to end it as ctrl-C would; it looks every other second.

    Raises
    ------
    LedgerError
        If the folder cannot be written.
    """
    try:
        write_whole(folder / STOP, holder.token)
    except OSError as error:
        raise LedgerError(f"{folder}: cannot be written ({error.strerror}); stop {holder} by ctrl-C") from error


@dataclass(frozen=True)
class _Seen:
    """A lease as it was at one moment; it has no holder while it is being written, or if that was cut off."""

    holder: Holder | None
    changed_ns: int


def _look(folder: Path) -> _Seen | None:
    """Look at a lease; opened anew, since file systems on a network ask their server only then."""
    try:
        with (folder / LEASE).open() as file:
            changed_ns, text = os.fstat(file.fileno()).st_mtime_ns, file.read()
    except FileNotFoundError:
        return None
    try:
        return _Seen(Holder(**json.loads(text)), changed_ns)
    except (TypeError, ValueError):
        return _Seen(None, changed_ns)


def _take(folder: Path, say: Callable[[str], None]) -> Lease:
    """Take a search's lease: a free one, one whose holder is known to be dead, or one that nobody renews.

    Raises
    ------
    InputError
        If it cannot be written.
    LedgerError
        If it is another's.
    """
    own = Holder.here()
    text = json.dumps(dataclasses.asdict(own))
    try:
        seen = _look(folder)
        if seen is None:
            with (folder / LEASE).open("x") as file:  # of two who try, also over NFS, one alone succeeds
                file.write(text)
        elif seen.holder is not None and seen.holder.machine == own.machine:
            write_whole(folder / LEASE, text)  # the kernel's lock was free: its holder is dead
        else:
            _wait_until_stale(folder, seen, say)
            seen = _look(folder)  # it may have been given back
            write_whole(folder / LEASE, text)
            time.sleep(_SETTLE_S)
        now = _look(folder)
    except FileExistsError:
        now = _look(folder)
    except OSError as error:
        raise InputError(
            f"{folder}: the search's folder cannot be written ({error.strerror}); free space there or choose another "
            "with --results"
        ) from error
    if now is None or now.holder != own:
        raise LedgerError(explain_taken(str(folder), folder.name, now.holder if now else None))
    (folder / STOP).unlink(missing_ok=True)  # was meant for an earlier one
    return Lease(FolderKeeper(folder), own, str(folder), None if seen is None else seen.holder)


def _wait_until_stale(folder: Path, seen: _Seen, say: Callable[[str], None]) -> None:
    """Watch the lease of another machine for as long as a living holder cannot leave it unchanged.

    Raises
    ------
    LedgerError
        If it changes.
    """
    say(f"{seen.holder or 'somebody'} ran this search; waiting {STALE_S:g} s to see whether it still does")
    deadline = time.monotonic() + STALE_S
    while time.monotonic() < deadline:
        time.sleep(BEAT_S / 2)
        now = _look(folder)
        if now is None:
            return  # given back meanwhile
        if now != seen:
            raise LedgerError(explain_taken(str(folder), folder.name, now.holder))


def explain_taken(where: str, name: str, holder: Holder | None) -> str:
    """Say that a search is another's."""
    return (
        f"{where}: this search is being run already, by {holder or 'a process that has just begun'}; wait for it, stop "
        f"it with: tuner stop {name}, or give this one another name with --set name=NAME"
    )


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_text(text)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _find_machine() -> str:
    """Identify a running kernel: locks reach no further."""
    return _read(Path("/proc/sys/kernel/random/boot_id")).strip() or f"{socket.gethostname()}-{uuid.getnode():x}"
