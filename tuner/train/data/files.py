"""The files that a data set consists of, here or in an object store, known by what is in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from tuner.errors import DataError

MOST_LISTED = 10


class StoredFile(Protocol):
    """A file that can be read, wherever it is."""

    @property
    def name(self) -> str:
        """Its path in the data set: the same for every copy of the data set."""

    @property
    def address(self) -> str:
        """Where it is."""

    def read_stamp(self) -> Sequence[int]:
        """Return what is another when the content is another, as far as that can be told without reading."""

    def open(self) -> BinaryIO:
        """Open it for reading."""


class LocalFile(NamedTuple):
    """A file of this machine."""

    name: str
    address: str

    def read_stamp(self) -> Sequence[int]:
        """Return size, times and number."""
        status = Path(self.address).stat()
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino

    def open(self) -> BinaryIO:
        """Open it for reading."""
        return Path(self.address).open("rb")


class RemoteFile(NamedTuple):
    """A file of a ``pyarrow.fs`` file system."""

    name: str
    address: str
    system: Any
    path: str

    def read_stamp(self) -> Sequence[int]:
        """Return size and time."""
        info = self.system.get_file_info(self.path)
        return info.size or 0, info.mtime_ns or 0

    def open(self) -> BinaryIO:
        """Open it for reading at any place."""
        opened: BinaryIO = self.system.open_input_file(self.path)
        return opened


def find_local(folder: Path, *names: str) -> tuple[LocalFile, ...]:
    """Return files of a folder, which need not be there."""
    return tuple(LocalFile(name, str(folder / name)) for name in names)


def list_found(folder: Path) -> str:
    """List what is in a folder, for a message.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        return name_some(sorted(entry.name for entry in folder.iterdir()))
    except OSError as error:
        raise DataError(f"data.path {folder}: cannot be read ({error.strerror}); give permission") from error


def name_some(names: Sequence[str]) -> str:
    """Join the first few of some names, for a message."""
    return (", ".join(names[:MOST_LISTED]) + (", ..." if len(names) > MOST_LISTED else "")) or "nothing"
