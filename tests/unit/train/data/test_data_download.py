"""Downloads from a real server: cut, resumed, checked, unpacked."""

import gzip
import hashlib
import io
import os
import pty
import socket
import subprocess
import sys
import tarfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from tuner.errors import DataError
from tuner.spec.search import DataSpec
from tuner.train.data import Opening, open_images, prepare, prepare_test
from tuner.train.data.download import Download, fetch, find_downloads, unpack

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """Serves files from memory; can refuse ranges, and cut its first answers short."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.takes_ranges = True
        self.cut_at: list[int] = []
        self.asked: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path[1:], wanted))
        content = self.server.files.get(self.path[1:])
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.takes_ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        num_sent = self.server.cut_at.pop(0) if self.server.cut_at else len(content)
        self.wfile.write(content[start : start + num_sent])

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        server.files["x.bin"] = CONTENT
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def describe(server: Server, content: bytes = CONTENT, name: str = "x.bin") -> Download:
    return Download(name, (f"{server.address}{name}",), hashlib.md5(content).hexdigest(), ("train",))


def get(download: Download, folder: Path, *, is_allowed: bool = True) -> None:
    fetch([download], "train", folder, lambda: False, is_allowed=is_allowed)


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    get(describe(server), tmp_path / "d")
    get(describe(server), tmp_path / "d")
    assert (tmp_path / "d" / "x.bin").read_bytes() == CONTENT
    assert list_files(tmp_path / "d") == ["x.bin"]
    assert server.asked == [("x.bin", None)]


def test_a_connection_that_is_cut_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.cut_at = [100_000, 50_000]
    get(describe(server), tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=100000-", "bytes=150000-"]


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.cut_at = [100_000]
    server.takes_ranges = False
    get(describe(server), tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_download_that_stays_truncated_is_explained_and_resumed_the_next_time(server: Server, tmp_path: Path) -> None:
    server.cut_at = [1000] * 4
    with pytest.raises(DataError, match=r"the connection was cut after 4,000 of 300,000 bytes"):
        get(describe(server), tmp_path)
    assert list_files(tmp_path) == ["x.bin.partial"]
    server.asked.clear()
    get(describe(server), tmp_path)
    assert server.asked == [("x.bin", "bytes=4000-")]
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert list_files(tmp_path) == ["x.bin"]


def test_a_partial_file_that_is_too_long_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.bin.partial").write_bytes(bytes(400_000))
    get(describe(server), tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_checksum_that_differs_is_explained_and_the_file_removed(server: Server, tmp_path: Path) -> None:
    download = describe(server)
    server.files["x.bin"] = CONTENT[:-1]
    found = hashlib.md5(CONTENT[:-1]).hexdigest()
    with pytest.raises(DataError, match=rf"x\.bin: .* {download.md5} was expected, found {found}, .* Start again"):
        get(download, tmp_path)
    assert list_files(tmp_path) == []


@pytest.mark.parametrize("is_allowed", [True, False])
def test_a_file_put_there_by_hand_is_checked(is_allowed: bool, server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(CONTENT)
    get(describe(server), tmp_path, is_allowed=is_allowed)
    (tmp_path / "x.bin").write_bytes(CONTENT[:100])
    with pytest.raises(DataError, match="it was removed"):
        get(describe(server), tmp_path, is_allowed=is_allowed)
    assert server.asked == []


def test_the_next_address_is_asked_if_one_fails(server: Server, tmp_path: Path) -> None:
    download = describe(server)
    get(download._replace(addresses=(f"{server.address}nowhere", *download.addresses)), tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def find_closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_without_a_network_it_says_what_to_put_where(server: Server, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{find_closed_port()}/x.bin"
    download = describe(server)._replace(addresses=(address,))
    with pytest.raises(DataError, match=r"cannot be downloaded .*refused") as caught:
        get(download, tmp_path / "d")
    assert f"Put these files into {tmp_path / 'd'}" in str(caught.value)
    assert f"x.bin from {address}" in str(caught.value)
    with pytest.raises(DataError, match=r"cannot be downloaded \(data\.download is false\)") as caught:
        get(download, tmp_path / "e", is_allowed=False)
    assert f"x.bin from {address}" in str(caught.value)
    assert not (tmp_path / "e").exists()


def test_of_two_processes_one_downloads(server: Server, tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from tuner.train.data.download import Download, fetch
        fetch([Download("x.bin", (sys.argv[1],), sys.argv[2], ("train",))], "train", Path(sys.argv[3]),
            lambda: False, is_allowed=True)
    """
    download = describe(server)
    command = [sys.executable, "-c", textwrap.dedent(code), *download.addresses, download.md5, tmp_path]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert len(server.asked) == 1


def test_progress_is_shown_on_a_terminal_alone(server: Server, tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from tuner.train.data.download import Download, fetch
        fetch([Download("x.bin", (sys.argv[1],), sys.argv[2], ("train",))], "train", Path(sys.argv[3]),
            lambda: False, is_allowed=True)
    """
    download = describe(server)
    command = [sys.executable, "-c", textwrap.dedent(code), *download.addresses, download.md5]
    done = subprocess.run([*command, tmp_path / "a"], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("", "")
    ours, theirs = pty.openpty()
    try:
        subprocess.run([*command, tmp_path / "b"], stderr=theirs, check=True, timeout=60)
        shown = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert shown.endswith(f"\rx.bin: 0.3 [{'#' * 20}] of 0.3 MB\r\n")


def pack(*members: tuple[str, bytes, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "/etc/passwd" if kind in {tarfile.SYMTYPE, tarfile.LNKTYPE} else ""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("../evil", tarfile.REGTYPE, "evil.* outside"),
        ("inside/../../evil", tarfile.REGTYPE, "evil.* outside"),
        ("evil", tarfile.SYMTYPE, "evil is a link or device"),
        ("evil", tarfile.LNKTYPE, "evil is a link or device"),
        ("evil", tarfile.CHRTYPE, "evil is a link or device"),
        ("evil", tarfile.FIFOTYPE, "evil is a link or device"),
    ],
)
def test_an_archive_cannot_reach_out_of_its_folder(name: str, kind: bytes, message: str, tmp_path: Path) -> None:
    content = b"x" if kind == tarfile.REGTYPE else b""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.tar.gz").write_bytes(pack(("good", tarfile.REGTYPE, b"y"), (name, kind, content)))
    with pytest.raises(DataError, match=message):
        unpack(folder / "a.tar.gz", folder)
    assert list_files(folder) == ["a.tar.gz"]
    assert list_files(tmp_path) == ["folder"]


def test_an_archive_that_is_cut_short_is_explained(tmp_path: Path) -> None:
    whole = pack(("good", tarfile.REGTYPE, CONTENT))
    (tmp_path / "a.tar.gz").write_bytes(whole[:1000])
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar.gz", tmp_path)
    assert list_files(tmp_path) == ["a.tar.gz"]


def test_what_another_process_unpacked_meanwhile_is_left_alone(server: Server, tmp_path: Path) -> None:
    content = pack(("a/good", tarfile.REGTYPE, CONTENT))
    server.files["a.tar.gz"] = content
    fetch([describe(server, content, "a.tar.gz")], "train", tmp_path, lambda: False, is_allowed=True)
    number = (tmp_path / "a").stat().st_ino
    ready = (tmp_path / "a" / "good").is_file
    fetch([describe(server, content, "a.tar.gz")], "train", tmp_path, ready, is_allowed=True)
    assert (tmp_path / "a").stat().st_ino == number
    assert (tmp_path / "a" / "good").read_bytes() == CONTENT


def encode_idx(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(head + array.tobytes())


def test_a_data_set_is_downloaded_as_torchvision_knows_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opening: Opening
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = (np.arange(20) % 10).astype(np.uint8)
    for prefix, rows in (("train", slice(20)), ("t10k", slice(3))):
        server.files[f"{prefix}-images-idx3-ubyte.gz"] = encode_idx(images[rows])
        server.files[f"{prefix}-labels-idx1-ubyte.gz"] = encode_idx(labels[rows])
    md5s = {name: hashlib.md5(content).hexdigest() for name, content in server.files.items()}
    monkeypatch.setattr(datasets.MNIST, "mirrors", [server.address])
    monkeypatch.setattr(datasets.MNIST, "resources", [(name, md5s[name]) for name, _ in datasets.MNIST.resources])
    train = prepare(DataSpec(name="mnist"), tmp_path)
    np.testing.assert_array_equal(open_images(train).images[..., 0], images)
    assert {name for name, _ in server.asked} == {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"}
    test = prepare_test(DataSpec(name="mnist"), tmp_path, train, opening)
    assert test.num_images == 3
    assert prepare(DataSpec(name="mnist", download=False), tmp_path) == train
    assert "t10k-labels-idx1-ubyte.gz" in list_files(tmp_path / "downloads" / "mnist")
    assert len(server.asked) == 4


def test_an_archive_is_downloaded_and_unpacked(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    def dump(value: object) -> bytes:
        return pickle.dumps(value, protocol=4)

    batch = {b"data": np.zeros((8, 3072), np.uint8), b"labels": [0, 1] * 4}
    files = {f"data_batch_{i}": dump(batch) for i in range(1, 6)}
    files["batches.meta"] = dump({b"label_names": [b"a", b"b"]})
    archive = pack(*((f"cifar-10-batches-py/{name}", tarfile.REGTYPE, one) for name, one in files.items()))
    server.files["cifar-10-python.tar.gz"] = archive
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{server.address}cifar-10-python.tar.gz")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(archive).hexdigest())
    run: Callable[[], Any] = partial(prepare, DataSpec(name="cifar10"), tmp_path)
    assert run().num_images == 40
    assert run().class_names == ("a", "b")
    assert len(server.asked) == 1
    assert list_files(tmp_path / "downloads" / "cifar10") == ["cifar-10-batches-py", "cifar-10-python.tar.gz"]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn"])
def test_every_published_data_set_says_where_it_is(name: str, tmp_path: Path) -> None:
    downloads = find_downloads(name)
    assert all(len(one.md5) == 32 and one.addresses for one in downloads)
    assert {split for one in downloads for split in one.splits} == {"train", "test"}
    (tmp_path / "d").mkdir()
    spec = DataSpec(name=name, path=str(tmp_path / "d"), download=False)
    with pytest.raises(DataError, match=r"data\.download is false") as caught:
        prepare(spec, tmp_path / "cache")
    for one in downloads:
        assert f"{one.name} from {one.addresses[0]}" in str(caught.value)
    assert f"Put these files into {tmp_path / 'd'}" in str(caught.value)
