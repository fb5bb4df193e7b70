"""The cache of decoded images: whole, shared and built once."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.errors import DataError
from tuner.spec.search import DataSpec
from tuner.train.data import prepare
from tuner.train.data.cache import build_once, map_images
from tuner.train.data.images import LabelledImages

IMAGES = np.full((5, 4, 4, 3), 7, np.uint8)
LABELS = [1, 0, 1, 0, 2, 2, 1, 0]
Colours = tuple[NDArray[np.uint8], list[bytes]]
Write = Callable[..., DataSpec]

BUILD = """
    import os, sys, time
    from pathlib import Path
    import numpy as np
    from tuner.errors import DataError
    from tuner.train.data.cache import build_once
    from tuner.train.data.images import LabelledImages

    path = Path(sys.argv[1])

    def build(scratch):
        with (path.parent / "builds").open("a") as file:
            file.write(f"{os.getpid()}\\n")
        BODY
        return LabelledImages(np.ones((500, 8, 8, 3), np.uint8), np.zeros(500, np.int64), ("a",))
"""


def start(body: str, path: Path, rest: str = "build_once(path, build)") -> subprocess.Popen[str]:
    code = textwrap.dedent(BUILD).replace("BODY", body) + textwrap.dedent(rest)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def build(scratch: BinaryIO) -> LabelledImages:
    return LabelledImages(IMAGES, np.arange(5), ("a", "b"))


def never(scratch: BinaryIO) -> LabelledImages:
    raise AssertionError("was built again")


def test_what_is_cached_is_not_decoded_again(write: Write, colours: Colours, tmp_path: Path) -> None:
    spec = write(colours[1], LABELS)
    first = prepare(spec, tmp_path / "cache")
    written = first.path.stat().st_mtime_ns
    assert prepare(spec, tmp_path / "cache") == first
    assert first.path.stat().st_mtime_ns == written


def test_files_are_known_by_their_content(write: Write, colours: Colours, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    spec = write(colours[1], LABELS)
    first = prepare(spec, cache)
    source = Path(str(spec.path), "train.parquet")
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "train.parquet").write_bytes(source.read_bytes())
    assert prepare(DataSpec(name="parquet", path=str(moved)), cache) == first

    # same size and time, other content
    times = source.stat()
    content = source.read_bytes()
    source.write_bytes(content.replace(b"0.png", b"9.png"))
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (source.stat().st_size, source.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert prepare(spec, cache).content != first.content


def test_other_columns_are_other_images(write: Write, colours: Colours, tmp_path: Path) -> None:
    plain = write(colours[1], LABELS, label="x")
    renamed = plain.model_copy(update={"label_column": "x"})
    assert prepare(plain, tmp_path / "cache") == prepare(renamed, tmp_path / "cache")


@pytest.mark.parametrize("length", [0, 5, 300, -1, -9])
def test_a_file_that_is_cut_short_is_built_again(length: int, tmp_path: Path) -> None:
    path = tmp_path / "images.arrow"
    build_once(path, build)
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    with pytest.raises(DataError, match=r"images\.arrow: .* delete it"):
        map_images(path)
    build_once(path, build)
    assert path.read_bytes() == whole


def test_a_file_of_another_version_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "images.arrow"
    monkeypatch.setattr("tuner.train.data.cache.FORMAT", b"tuner images 1")
    build_once(path, build)
    monkeypatch.undo()
    build_once(path, build)
    assert map_images(path).class_names == ("a", "b")


def test_mapped_images_can_be_written_to_without_changing_the_file(tmp_path: Path) -> None:
    path = tmp_path / "images.arrow"
    build_once(path, build)
    mapped = map_images(path)
    assert mapped.images.flags.writeable
    assert mapped.labels.flags.writeable
    mapped.images[:] = 0
    np.testing.assert_array_equal(map_images(path).images, IMAGES)
    np.testing.assert_array_equal(map_images(path).labels, np.arange(5))
    build_once(path, never)


def test_mapped_images_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "images.arrow"
    build_once(path, lambda _: LabelledImages(np.ones((64, 256, 256, 3), np.uint8), np.zeros(64, np.int64), ("a",)))
    before = private_bytes()
    images = map_images(path).images
    assert images.sum() == images.size > 12_000_000
    assert private_bytes() - before < 3_000_000


def private_bytes() -> int:
    rollup = Path("/proc/self/smaps_rollup")
    if not rollup.exists():
        pytest.skip("the memory of a process is read from /proc")
    return sum(
        int(line.split()[1]) * 1024
        for line in rollup.read_text(encoding="ascii").splitlines()
        if line.startswith(("Private_Dirty", "Anonymous"))
    )


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path: Path) -> None:
    path = tmp_path / "images.arrow"
    processes = [start("time.sleep(1)", path) for _ in range(2)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert len((tmp_path / "builds").read_text(encoding="ascii").split()) == 1
    assert map_images(path).images.shape == (500, 8, 8, 3)


def test_a_builder_that_dies_leaves_nothing_behind_that_stops_the_next(tmp_path: Path) -> None:
    path = tmp_path / "images.arrow"
    partial = path.with_suffix(".partial")
    process = start("Path(sys.argv[1]).with_suffix('.partial').write_bytes(b'half'); os._exit(9)", path)
    process.communicate(timeout=60)
    assert process.returncode == 9
    assert partial.exists()
    build_once(path, build)
    assert map_images(path).class_names == ("a", "b")
    assert not partial.exists()


def test_a_full_disk_is_explained_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "images.arrow"
    limited = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            build_once(path, build)
        except DataError as error:
            print(error)
    """
    process = start("pass", path, limited)
    output, errors = process.communicate(timeout=60)
    assert "it cannot be written (File too large); free space" in output, (process.returncode, errors)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["builds", "images.lock"]


def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file: a folder .* cannot be made \(.*\); choose another"):
        prepare(DataSpec(name="digits"), tmp_path / "file")
    folder = Path("/proc/tuner") if Path("/proc/self").exists() else pytest.skip("there is no /proc")
    with pytest.raises(DataError, match="/proc/tuner: a folder"):
        prepare(DataSpec(name="digits"), folder)


def test_preparing_imports_neither_torch_nor_scikit_learn(write: Write, colours: Colours, tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from tuner.spec.search import DataSpec
        from tuner.train.data import load_splits
        load_splits(DataSpec(name="digits"), Path(sys.argv[1]))
        load_splits(DataSpec(name="parquet", path=sys.argv[2]), Path(sys.argv[1]))
        print([name for name in ("torch", "sklearn", "pandas", "scipy", "ray") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), tmp_path, str(write(colours[1], LABELS).path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "[]\n"
