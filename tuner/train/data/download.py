"""Published data sets, fetched once: resumed after a cut, checked, and unpacked nowhere but in their folder."""

import hashlib
import http.client
import shutil
import sys
import tarfile
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.error import HTTPError, URLError

from tuner.errors import DataError
from tuner.train.data.cache import locked

TIMEOUT_S = 30.0
ATTEMPTS = 4  # at one address, each going on where the one before was cut
READ_AT_ONCE = 2**16
SHOWN_EVERY_S = 0.2


class Download(NamedTuple):
    """A published file.

    Attributes
    ----------
    name : str
        What it is called in its folder.
    addresses : tuple of str
        Where it can be had; each has the same.
    md5 : str
        32 hexadecimal digits, of what is published.
    splits : tuple of str
        The splits that are read from it.
    """

    name: str
    addresses: tuple[str, ...]
    md5: str
    splits: tuple[str, ...]


def find_downloads(name: str) -> tuple[Download, ...]:
    """Find where the files of a data set are published, and their checksums, as torchvision knows them.

    Parameters
    ----------
    name : str
        mnist, fashion_mnist, cifar10, cifar100 or svhn.
    """
    from torchvision import datasets  # noqa: PLC0415, torch with it: seconds, so only when something is missing

    if name in {"mnist", "fashion_mnist"}:
        kind = datasets.MNIST if name == "mnist" else datasets.FashionMNIST
        return tuple(
            Download(
                file,
                tuple(f"{mirror}{file}" for mirror in kind.mirrors),
                md5,
                ("train" if file.startswith("train") else "test",),
            )
            for file, md5 in kind.resources
        )
    if name == "svhn":
        listed = {split: datasets.SVHN.split_list[split] for split in ("train", "test")}
        return tuple(Download(file, (address,), md5, (split,)) for split, (address, file, md5) in listed.items())
    cifar = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    return (Download(cifar.filename, (cifar.url,), cifar.tgz_md5, ("train", "test")),)


def fetch(
    downloads: Sequence[Download], split: str, folder: Path, is_ready: Callable[[], bool], *, is_allowed: bool
) -> None:
    """Make sure that the published files of a split are in a folder, whole, and unpacked if they are archives.

    Of several processes one downloads and the others wait for it. A file that was put there by hand is taken
    if its checksum is right.

    Parameters
    ----------
    downloads : sequence of Download
        The files of all splits.
    split : str
        Which of them are needed.
    folder : Path
        Where they shall be; made if missing.
    is_ready : function without arguments
        Whether another process has done it meanwhile.
    is_allowed : bool
        Whether the network may be used.

    Raises
    ------
    DataError
        If one can be had nowhere, is not what was published, or cannot be written.
    """
    needed = [download for download in downloads if split in download.splits]
    if not is_allowed and not all((folder / download.name).is_file() for download in needed):
        raise DataError(_explain_missing(downloads, folder, "data.download is false"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for download in needed:
            path = folder / download.name
            with locked(folder / f".{download.name}.lock"):
                if is_ready():  # also keeps one process from unpacking what another reads
                    return
                if path.is_file():
                    _check(path, path, download)
                else:
                    _download(download, downloads, folder)
                if path.name.endswith(".tar.gz"):
                    unpack(path, folder)
    except OSError as error:
        raise DataError(
            f"{folder}: downloads are kept there, and it cannot be written ({error.strerror or error}); free space, "
            "give permission or set data.path to another folder"
        ) from error


def _download(download: Download, downloads: Sequence[Download], folder: Path) -> None:
    """Download a file under a temporary name, check it and give it its own.

    Raises
    ------
    DataError
        If no address has it.
    """
    partial = folder / f"{download.name}.partial"
    failures = []
    for address in download.addresses:
        for _ in range(ATTEMPTS):
            before = partial.stat().st_size if partial.exists() else 0
            failure = _receive(address, partial, download.name)
            if failure is None:
                _check(partial, folder / download.name, download)
                partial.replace(folder / download.name)
                return
            if not partial.exists() or partial.stat().st_size <= before:
                break  # it gives no more
        failures.append(f"{address}: {failure}")
    raise DataError(_explain_missing(downloads, folder, "; ".join(failures)))


def _receive(address: str, partial: Path, name: str) -> str | None:
    """Receive what is missing of a file, and return what went wrong if it is not whole then."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": "tuner", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        opened = urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=TIMEOUT_S)  # noqa: S310
    except HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            partial.unlink()
            return _receive(address, partial, name)
        return f"answers {error.code} {error.reason}"
    except (URLError, http.client.HTTPException, OSError) as error:
        return str(getattr(error, "reason", error))
    with opened as response:
        resumes = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        is_resumed = bool(have) and response.status == http.HTTPStatus.PARTIAL_CONTENT and resumes
        have = have if is_resumed else 0
        length = response.headers.get("Content-Length")
        expected = None if length is None else have + int(length)
        with partial.open("ab" if is_resumed else "wb") as file:
            failure = _copy(response, file, Progress(name, have, expected))
        size = partial.stat().st_size
    if failure is None and expected is not None and size != expected:
        failure = "the connection was cut"
    of = "" if expected is None else f" of {expected:,}"
    return None if failure is None else f"{failure} after {size:,}{of} bytes"


def _copy(response: Any, file: BinaryIO, show: Callable[[int], None]) -> str | None:
    """Copy until the end, and return what cut it short; an error of writing is the caller's."""
    while True:
        try:
            chunk = response.read(READ_AT_ONCE)
        except (http.client.HTTPException, OSError) as error:
            show(-1)
            return f"the connection was cut ({error})"
        if not chunk:
            show(-1)
            return None
        file.write(chunk)
        show(len(chunk))


class Progress:
    """A line on a terminal that tells how much of a file has come; nothing elsewhere."""

    def __init__(self, name: str, num_bytes: int, expected: int | None) -> None:
        self._name = name
        self._num_bytes = num_bytes
        self._expected = expected
        self._shown = 0.0
        self._is_shown = sys.stderr.isatty()

    def __call__(self, num_more: int) -> None:
        """Show that so many more bytes have come; a negative number ends the line."""
        self._num_bytes += max(0, num_more)
        is_end = num_more < 0
        if not self._is_shown or (time.monotonic() - self._shown < SHOWN_EVERY_S and not is_end):
            return
        self._shown = time.monotonic()
        bar = ""
        if self._expected:
            share = min(1.0, self._num_bytes / self._expected)
            bar = f" [{'#' * round(20 * share):20}] of {self._expected / 1e6:.1f}"
        sys.stderr.write(f"\r{self._name}: {self._num_bytes / 1e6:.1f}{bar} MB" + ("\n" if is_end else ""))
        sys.stderr.flush()


def _check(path: Path, called: Path, download: Download) -> None:
    """Refuse and remove a file that is not what was published.

    Raises
    ------
    DataError
        If it is not.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != download.md5:
        path.unlink()
        raise DataError(
            f"{called}: the checksum (MD5) {download.md5} was expected, found {found}, so it is cut short, damaged or "
            f"another file; it was removed. Start again, or download it from {download.addresses[0]} and put it there"
        )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder and nowhere else; what it holds appears there when it is whole.

    Parameters
    ----------
    archive : Path
        A tar file, compressed or not.
    folder : Path
        Where to, existing. What it has of the archive's names is replaced.

    Raises
    ------
    DataError
        If the archive is damaged, or holds a link, a device or a name outside of the folder.
    """
    with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=folder) as inner:
        try:
            with tarfile.open(archive) as opened:
                for member in opened:
                    if not (member.isfile() or member.isdir()):
                        raise DataError(f"{archive}: {member.name} is a link or device, and only files are unpacked")
                    opened.extract(member, inner, filter="data")
        except tarfile.FilterError as error:
            raise DataError(
                f"{archive}: {error}; it is not unpacked, for nothing may lie outside its folder"
            ) from error
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise DataError(f"{archive}: cannot be unpacked ({error}); delete it and start again") from error
        for entry in Path(inner).iterdir():
            target = folder / entry.name
            if target.is_dir():
                shutil.rmtree(target)
            entry.replace(target)


def _explain_missing(downloads: Sequence[Download], folder: Path, reason: str) -> str:
    listed = "\n  ".join(f"{one.name} from {' or '.join(one.addresses)}" for one in downloads)
    return (
        f"{folder}: the data set is not there, and cannot be downloaded ({reason}). Put these files into {folder}, "
        f"as they are, or set data.path to the folder that they are in:\n  {listed}"
    )
