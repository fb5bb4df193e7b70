"""The ledger as a list of records, Optuna's journal; and its file, kept whole by a lock that dies with its holder."""

import abc
import contextlib
import errno
import fcntl
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock, get_lock_file
from optuna.storages.journal._storage import JournalOperation

from tuner.errors import LedgerError
from tuner.track.lease import Lease

SYNC_EVERY_S = 0.1  # while epochs come faster


class KernelLock(BaseJournalFileLock):
    """Keeps two writers apart by ``flock``, which the kernel releases when its holder is killed.

    Optuna's own locks are files that a killed process leaves behind, and that the next one waits for half a minute.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait until nobody else holds the lock, then hold it."""
        self._file = self._path.open("ab")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Let the next one in."""
        if self._file is not None:
            self._file.close()
            self._file = None


class BatchingBackend(BaseJournalBackend):
    """Writes what belongs together at once: whole or not at all, and with one wait for the disk.

    Attributes
    ----------
    lease : Lease or None
        Without it nothing is written; None lets anybody write.
    """

    _batch: list[dict[str, Any]] | None = None
    lease: Lease | None = None

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Hold back what is written in the block until its end; what it wrote cannot be read before."""
        if self._batch is not None:
            yield
            return
        self._batch = []
        try:
            yield
        finally:
            logs, self._batch = self._batch, None
            if logs:
                self.append_logs(logs)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write, whole or not at all, or hold back."""
        if self._batch is not None:
            self._batch += logs
            return
        if self.lease is not None:
            self.lease.check()
        self.write(logs)

    @abc.abstractmethod
    def write(self, logs: list[dict[str, Any]]) -> None:
        """Write, whole or not at all."""


class FileBackend(BatchingBackend, JournalFileBackend):
    """Writes to a file, a line a record.

    What was written is safe from the death of every process at once, and from that of the machine too, but for epochs
    that came within a tenth of a second after the disk was waited for: to do so each time takes longer than all else
    that an epoch's record does. A machine that loses its power forgets these, and trains them again.
    """

    _synced_at = -math.inf

    def write(self, logs: list[dict[str, Any]]) -> None:
        """Write, whole or not at all.

        Raises
        ------
        OSError
            If the disk is full or gone.
        """
        path = Path(self._file_path)
        is_an_epoch = any(log["op_code"] == JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE for log in logs)
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with get_lock_file(self._lock):
            size = path.stat().st_size
            try:
                with path.open("ab") as journal:
                    journal.write(lines.encode())
                    journal.flush()
                    if not is_an_epoch or time.monotonic() - self._synced_at >= SYNC_EVERY_S:
                        os.fsync(journal.fileno())
                        self._synced_at = time.monotonic()
            except OSError:  # a full disk took a part: half a line would spoil the next one
                os.truncate(path, size)
                raise


def open_journal(path: Path) -> tuple[JournalStorage, FileBackend]:
    """Open a ledger's file, or begin one, and mend an end that a kill or a full disk cut off.

    What may only be read is opened as it is.

    Parameters
    ----------
    path : Path
        The journal; its lock lies beside it with ``.lock`` added.

    Raises
    ------
    LedgerError
        If the file cannot be read, written or understood.
    """
    lock = KernelLock(path.with_name(path.name + ".lock"))
    try:
        _mend(path, lock)
        backend = FileBackend(str(path), lock_obj=lock)
        return JournalStorage(backend), backend
    except OSError as error:
        raise LedgerError(
            f"{path}: the ledger cannot be read or written ({error.strerror}); free space there or choose another "
            "folder with --results"
        ) from error
    except (ValueError, KeyError) as error:
        raise LedgerError(
            f"{path}: the ledger is damaged ({error}); restore it from a copy, or start over with --fresh"
        ) from error


def _mend(path: Path, lock: KernelLock) -> None:
    """Cut off what was not written whole, unless the ledger is somebody else's, to be read.

    Raises
    ------
    OSError
        If the file or its lock cannot be had.
    """
    try:
        with get_lock_file(lock):
            _cut_torn_line(path)
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EROFS}:
            raise


def _cut_torn_line(path: Path) -> None:
    """Drop the last line if it has no end: its writer died while writing, so nobody has acted on it."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as journal:
        journal.seek(-1, os.SEEK_END)
        if journal.read(1) == b"\n":
            return
        journal.seek(0)
        journal.truncate(journal.read().rfind(b"\n") + 1)
