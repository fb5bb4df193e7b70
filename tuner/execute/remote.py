"""Results in an object store, and the folder on this machine that stands for it.

With ``--results s3://bucket/folder`` what others need of a search is in the store: its checkpoints, its artifacts, its
report and ``ledger.json``, which says where its ledger is. Beside it every machine that drives or reads the search has
a folder in its cache, in which files are made before they are sent, and put after they were fetched. Nothing in that
folder is needed again.
"""

import contextlib
import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from pyarrow import fs

from tuner.errors import AddressError, RunError
from tuner.track.address import ADDRESS, ELSEWHERE, hide_password
from tuner.train.data.stores import open_store


class Remote:
    """A folder in an object store, which every machine reaches.

    Parameters
    ----------
    address : str
        ``s3://bucket/folder`` or ``gs://bucket/folder``, as ``open_store`` takes it.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.system, self.root = open_store(address, "--results")

    def under(self, *names: str) -> "Remote":
        """Return a folder in it."""
        path, question, options = self.address.partition("?")
        return Remote("/".join([path.rstrip("/"), *names]) + question + options)

    def send(self, path: Path, name: str, before_naming: Callable[[], None] = lambda: None) -> None:
        """Send a file, which is there whole under its name or not at all.

        Parameters
        ----------
        path, name : Path, str
            The file, and its name there.
        before_naming : function
            Called when it is there whole; if that raises, it does not get its name.

        Raises
        ------
        RunError
            If the store cannot be written.
        """
        partial = f"{self.root}/{name}.{uuid.uuid4().hex}.partial"  # two who send one name do not meet
        with self._explained("written"):
            with self.system.open_output_stream(partial) as stream:
                stream.write(path.read_bytes())
            try:
                before_naming()
                self.system.move(partial, f"{self.root}/{name}")  # what is cut off never gets the name
            except BaseException:
                self.system.delete_file(partial)
                raise

    def send_all(self, folder: Path, name: str) -> None:
        """Send the files of a folder, those in its folders too."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.send(path, f"{name}/{path.relative_to(folder).as_posix()}")

    def fetch(self, name: str, path: Path) -> bool:
        """Fetch a file, whole or not at all; return whether there is one. One that was here before is replaced.

        Raises
        ------
        RunError
            If the store or the path fails.
        """
        with self._explained("read"):
            try:
                with self.system.open_input_stream(f"{self.root}/{name}") as stream:
                    content = stream.read()
            except FileNotFoundError:
                return False
        partial = path.with_name(f"{path.name}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({error.strerror}); free space on this machine") from error
        return True

    def fetch_all(self, folder: Path) -> None:
        """Fetch all files that are not in a folder, or of another size or time there; what was fetched has its time.

        Raises
        ------
        RunError
            If the store or the folder fails.
        """
        for name, entry in self._list_entries().items():
            path = folder / name
            known = path.stat() if path.exists() else None
            if known is None or (known.st_size, known.st_mtime_ns) != (entry.size, entry.mtime_ns):
                self.fetch(name, path)
                os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))

    def list(self) -> dict[str, int]:
        """Return the size in bytes of every file, in its folders too, by its path from here.

        Raises
        ------
        RunError
            If the store cannot be read.
        """
        return {name: entry.size for name, entry in self._list_entries().items()}

    def _list_entries(self) -> dict[str, fs.FileInfo]:
        with self._explained("read"):
            entries = self.system.get_file_info(fs.FileSelector(self.root, allow_not_found=True, recursive=True))
        return {entry.path.removeprefix(f"{self.root}/"): entry for entry in entries if entry.type == fs.FileType.File}

    def delete(self, *names: str) -> None:
        """Delete files that may be there.

        Raises
        ------
        RunError
            If the store cannot be written.
        """
        with self._explained("written"):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    self.system.delete_file(f"{self.root}/{name}")

    def rename(self, name: str) -> None:
        """Give this folder another name, file by file, since a store has no folders.

        Raises
        ------
        RunError
            If the store cannot be written.
        """
        target = f"{self.root.rpartition('/')[0]}/{name}"
        for path in self.list():
            with self._explained("written"):
                self.system.move(f"{self.root}/{path}", f"{target}/{path}")

    @contextlib.contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            said = hide_password(" ".join(str(error).split()))
            raise RunError(
                f"{self.address}: the store cannot be {done} ({said}); see that this machine reaches it and has the "
                "credentials in its environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, an instance's role ...)"
            ) from error


def open_results(address: str, cache: Path) -> Path:
    """Make the folder of this machine that stands for results in a store, and see there which searches there are.

    Parameters
    ----------
    address : str
        The store's folder.
    cache : Path
        Where the folder goes.

    Raises
    ------
    AddressError
        If the store does not answer.
    """
    remote = Remote(address)
    digest = hashlib.sha256(address.encode()).hexdigest()[:8]
    folder = cache / "results" / f"{re.sub('[^A-Za-z0-9.-]+', '-', remote.root)}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ADDRESS).write_text(address + "\n")
    try:
        entries = remote.system.get_file_info(fs.FileSelector(remote.root, allow_not_found=True))
        for name in [entry.base_name for entry in entries if entry.type == fs.FileType.Directory]:
            remote.fetch(f"{name}/{ELSEWHERE}", folder / name / ELSEWHERE)
    except (OSError, RunError) as error:
        said = hide_password(" ".join(str(error).split()))
        raise AddressError(
            f"--results {address}: the store cannot be read ({said}); correct the address, see that this machine "
            "reaches it, and give the credentials in the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE ...)"
        ) from error
    return folder


def find_remote(folder: Path) -> Remote | None:
    """Return where a search's files are, if its folder stands for one in a store."""
    remote = read_remote(folder.parent)
    return None if remote is None else remote.under(folder.name)


def read_remote(results: Path) -> Remote | None:
    """Return what a folder of searches stands for in a store, if it does."""
    try:
        return Remote((results / ADDRESS).read_text().strip())
    except OSError:
        return None


def publish(folder: Path, path: Path) -> str:
    """Send a file or a folder of a search's folder to the store that it stands for, if it does.

    Parameters
    ----------
    folder : Path
        The search's folder.
    path : Path
        What lies in it.

    Returns
    -------
    str
        Its address there; empty where there is no store.

    Raises
    ------
    RunError
        If the store cannot be written.
    """
    remote = find_remote(folder)
    if remote is None:
        return ""
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        remote.send_all(path, name)
    else:
        remote.send(path, name)
    return remote.under(name).address


def fetch_artifacts(folder: Path) -> None:
    """Fetch the artifacts of a search from the store that its folder stands for, if it does.

    Raises
    ------
    RunError
        If the store cannot be read.
    """
    remote = find_remote(folder)
    if remote is not None:
        remote.under("artifacts").fetch_all(folder / "artifacts")
