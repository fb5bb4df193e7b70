"""Addresses of object stores: ``s3://bucket/folder`` and ``gs://bucket/folder``."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from tuner.errors import DataError
from tuner.train.data.files import LocalFile, RemoteFile, StoredFile

CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 30.0
RETRIED_S = 20.0
ATTEMPTS = 2
SCHEMES = "s3://, gs:// or file://"


def open_store(address: str, what: str = "data.path") -> tuple[Any, str]:
    """Find the file system and the folder in it that an address stands for.

    Who is asking is told by the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS
    ...), never by the address. Nothing is connected to yet.

    Parameters
    ----------
    address : str
        ``s3://bucket/folder``, with ``?region=``, ``&endpoint_override=`` and ``&scheme=`` if needed,
        ``gs://bucket/folder`` or ``file:///folder``; or the path of a folder.
    what : str
        Where the address was given.

    Returns
    -------
    pyarrow.fs.FileSystem
        One that does not wait long for a store that does not answer.
    str
        The folder in it.

    Raises
    ------
    DataError
        If the address is of another kind, or holds a password.
    """
    if "://" not in address:
        return fs.LocalFileSystem(), address
    parts = urlsplit(address)
    folder = f"{parts.netloc.rpartition('@')[2]}{unquote(parts.path)}".rstrip("/")
    if parts.password is not None:
        raise DataError(
            f"{what} {parts.scheme}://...@{folder}: a password does not belong there; set it in the environment"
        )
    if parts.scheme == "file":
        return fs.LocalFileSystem(), unquote(parts.path)
    with explained(address, what):
        if parts.scheme == "s3":
            options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
            unknown = set(options) - {"region", "endpoint_override", "scheme"}
            if unknown:
                raise DataError(
                    f"{what} {address.partition('?')[0]}: there is no option {min(unknown)}; allowed: "
                    "region, endpoint_override, scheme; credentials come from the environment"
                )
            retry = fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS)
            times = {"connect_timeout": CONNECT_TIMEOUT_S, "request_timeout": REQUEST_TIMEOUT_S}
            return fs.S3FileSystem(retry_strategy=retry, **times, **options), folder
        if parts.scheme in {"gs", "gcs"}:
            is_public = parts.username == "anonymous"
            return fs.GcsFileSystem(anonymous=is_public, retry_time_limit=timedelta(seconds=RETRIED_S)), folder
    raise DataError(f"{what} {address}: must be a folder or begin with {SCHEMES}, found {parts.scheme}://")


@contextmanager
def explained(address: str, what: str = "data.path") -> Iterator[None]:
    """Turn what a store answers into an error that says which it was.

    Raises
    ------
    DataError
        Instead of an error of the store's or of the way to it.
    """
    try:
        yield
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(
            f"{what} {address}: cannot be read ({error}); correct the address, see that this machine "
            "reaches the store, and give the credentials in the environment"
        ) from error


def list_folder(system: Any, folder: str, address: str) -> dict[str, bool]:
    """List a folder, wherever it is.

    Parameters
    ----------
    system : pyarrow.fs.FileSystem
        Where it is.
    folder : str
        Which it is.
    address : str
        What the user calls it.

    Returns
    -------
    dict from str to bool
        By the name of each entry, in sorted order, whether it is a folder; empty if there is no such folder.
    """
    with explained(address):
        entries = system.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    return dict(sorted((entry.base_name, entry.type == fs.FileType.Directory) for entry in entries))


def find_file(system: Any, folder: str, name: str, address: str) -> StoredFile:
    """Return a file of a folder, which need not be there."""
    if isinstance(system, fs.LocalFileSystem):
        return LocalFile(name, str(Path(folder, name)))
    return RemoteFile(name, f"{address.partition('?')[0].rstrip('/')}/{name}", system, f"{folder}/{name}")
