"""Folders of image files: their layout, sizes, colours, and files that do not decode."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_disk import mounted_disk

from tuner.errors import DataError
from tuner.spec.search import DataSpec
from tuner.train.data import Opening, load_splits, open_images, prepare, prepare_test

RANDOM = np.random.default_rng(0).integers(0, 256, (64, 40, 40, 3), dtype=np.uint8)


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write(folder: Path, num_images: int = 4, classes: tuple[str, ...] = ("ape", "cat"), ending: str = "png") -> Path:
    for c, name in enumerate(classes):
        for i in range(num_images):
            save(folder / name / f"{i}.{ending}", Image.fromarray(RANDOM[c * num_images + i, :6, :5]))
    return folder


def build_spec(folder: Path, **keys: Any) -> DataSpec:
    return DataSpec(name=keys.pop("name", "folder"), path=str(folder), **keys)


def test_a_folder_is_a_class(tmp_path: Path, opening: Opening) -> None:
    spec = build_spec(tmp_path / "data")
    write(tmp_path / "data" / "train")
    write(tmp_path / "data" / "test", 1)
    (tmp_path / "data" / "train" / "ape" / "notes.txt").write_text("no image")
    (tmp_path / "data" / "train" / ".hidden").mkdir()
    train = prepare(spec, tmp_path / "cache")
    opened = open_images(train)
    np.testing.assert_array_equal(opened.images, RANDOM[:8, :6, :5])
    assert opened.labels.tolist() == [0] * 4 + [1] * 4
    assert (train.class_names, train.class_sizes, train.notes) == (("ape", "cat"), (4, 4), ())
    test = open_images(prepare_test(spec, tmp_path / "cache", train, opening), opening)
    np.testing.assert_array_equal(test.images, RANDOM[:2, :6, :5])


def test_classes_can_stand_in_the_folder_itself_but_then_there_is_no_test_split(
    tmp_path: Path, opening: Opening
) -> None:
    spec = build_spec(write(tmp_path / "data"))
    train = prepare(spec, tmp_path / "cache")
    assert train.num_images == 8
    with pytest.raises(DataError, match="there is no test split, for its classes stand in the folder itself"):
        prepare_test(spec, tmp_path / "cache", train, opening)


def test_a_class_in_the_test_split_alone_is_refused(tmp_path: Path, opening: Opening) -> None:
    write(tmp_path / "data" / "train")
    write(tmp_path / "data" / "test", 2, ("ape", "dog"))
    spec = build_spec(tmp_path / "data")
    with pytest.raises(DataError, match="the classes must be those of the training split, found dog"):
        prepare_test(spec, tmp_path / "cache", prepare(spec, tmp_path / "cache"), opening)


def test_content_is_known_wherever_it_lies_and_told_apart(tmp_path: Path) -> None:
    first = prepare(build_spec(write(tmp_path / "a")), tmp_path / "cache")
    assert prepare(build_spec(write(tmp_path / "b")), tmp_path / "cache") == first
    (tmp_path / "b" / "cat" / "0.png").rename(tmp_path / "b" / "cat" / "9.png")
    other = prepare(build_spec(tmp_path / "b"), tmp_path / "cache")
    sized = prepare(build_spec(tmp_path / "a", size=8), tmp_path / "cache")
    lenient = prepare(build_spec(tmp_path / "a", corrupt=0.1), tmp_path / "cache")
    assert len({one.content for one in (first, other, sized, lenient)}) == 4


@pytest.mark.parametrize("path", [".", "./", "../data", "./../data//", "{absolute}/"])
@pytest.mark.parametrize("split", ["", "train"])
def test_a_folder_can_be_written_in_any_way(
    path: str, split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "data" / split)
    plain = prepare(build_spec(tmp_path / "data"), tmp_path / "cache")
    monkeypatch.chdir(tmp_path / "data")
    spec = DataSpec(name="folder", path=path.format(absolute=tmp_path / "data"))
    assert prepare(spec, tmp_path / "other").content == plain.content


def test_missing_and_empty_folders_are_explained(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match=r"data\.path: data folder needs the folder"):
        prepare(DataSpec(name="folder"), cache)
    with pytest.raises(DataError, match="nowhere: a folder with a folder for each class was expected, there is none"):
        prepare(build_spec(tmp_path / "nowhere"), cache)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: a folder for each class was expected, found nothing"):
        prepare(build_spec(tmp_path / "empty"), cache)
    write(tmp_path / "data")
    (tmp_path / "data" / "dog").mkdir()
    with pytest.raises(DataError, match=r"every class needs at least 2 images, .* found 2 \(dog\): 0"):
        prepare(build_spec(tmp_path / "data"), cache)
    write(tmp_path / "one", 4, ("ape",))
    with pytest.raises(DataError, match="at least 2 classes are needed"):
        prepare(build_spec(tmp_path / "one"), cache)
    write(tmp_path / "few", 4)
    for i in (1, 2, 3):
        (tmp_path / "few" / "cat" / f"{i}.png").unlink()
    with pytest.raises(DataError, match=r"to train and to validate with; found 1 \(cat\): 1"):
        prepare(build_spec(tmp_path / "few"), cache)


def test_images_of_mixed_sizes_are_refused_unless_a_size_is_given(tmp_path: Path) -> None:
    write(tmp_path / "data")
    save(tmp_path / "data" / "cat" / "0.png", Image.fromarray(RANDOM[0, :30, :12]))
    with pytest.raises(DataError, match=r"cat/0\.png is 12x30 RGB, the first is 5x6 RGB") as caught:
        prepare(build_spec(tmp_path / "data"), tmp_path / "cache")
    assert "scaled to one if data.size is set" in str(caught.value)
    prepared = prepare(build_spec(tmp_path / "data", size=8), tmp_path / "cache")
    assert prepared.image_shape == (8, 8, 3)


def test_the_middle_square_is_taken(tmp_path: Path) -> None:
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, 16:32] = RANDOM[0, :16, :16]
    for name in ("a/0", "a/1", "b/0", "b/1"):
        save(tmp_path / "data" / f"{name}.png", Image.fromarray(pixels))
    opened = open_images(prepare(build_spec(tmp_path / "data", size=16), tmp_path / "cache"))
    np.testing.assert_array_equal(opened.images[0], RANDOM[0, :16, :16])
    half = open_images(prepare(build_spec(tmp_path / "data", size=8), tmp_path / "cache")).images[0]
    expected = Image.fromarray(pixels).resize((24, 8), Image.Resampling.BILINEAR).crop((8, 0, 16, 8))
    assert np.abs(half[:, 1:-1].astype(int) - np.asarray(expected)[:, 1:-1]).max() <= 1


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (Image.fromarray(np.zeros((6, 5, 4), np.uint8)), r"cat/0\.png has mode RGBA, allowed are grey"),
        (Image.fromarray(np.zeros((6, 5), np.uint16)), r"cat/0\.png has mode I;16, allowed are grey"),
        (Image.new("CMYK", (5, 6)), r"cat/0\.jpg has mode CMYK, allowed are grey"),
        (Image.fromarray(np.zeros((6, 5), np.uint8)), r"cat/0\.png is 5x6 grey, the first is 5x6 RGB"),
    ],
)
@pytest.mark.parametrize("corrupt", [0.0, 0.9])
def test_a_wrong_number_of_channels_is_refused(image: Image.Image, found: str, corrupt: float, tmp_path: Path) -> None:
    write(tmp_path / "data")
    (tmp_path / "data" / "cat" / "0.png").unlink()
    save(tmp_path / "data" / "cat" / ("0.jpg" if image.mode == "CMYK" else "0.png"), image)
    with pytest.raises(DataError, match=found):
        prepare(build_spec(tmp_path / "data", corrupt=corrupt), tmp_path / "cache")


def test_imagenet_has_a_folder_val_and_takes_all_colours(tmp_path: Path, opening: Opening) -> None:
    write(tmp_path / "data" / "train", classes=("n01440764", "n01443537"), ending="JPEG")
    save(tmp_path / "data" / "train" / "n01440764" / "8.JPEG", Image.fromarray(RANDOM[0, :9, :7, 0]))
    save(tmp_path / "data" / "train" / "n01440764" / "9.JPEG", Image.new("CMYK", (30, 20)))
    write(tmp_path / "data" / "val", 1, ("n01440764", "n01443537"), ending="JPEG")
    spec = build_spec(tmp_path / "data", name="imagenet", size=16)
    train = prepare(spec, tmp_path / "cache")
    assert (train.image_shape, train.class_names) == ((16, 16, 3), ("n01440764", "n01443537"))
    assert train.class_sizes == (6, 4)
    assert train.notes == ("the classes differ in size: n01440764 has 6 images, n01443537 has 4",)
    assert prepare_test(spec, tmp_path / "cache", train, opening).num_images == 2


def test_what_does_not_decode_is_named_counted_and_left_out(tmp_path: Path) -> None:
    write(tmp_path / "data", 10)
    (tmp_path / "data" / "ape" / "1.png").write_bytes(b"no image")
    path = tmp_path / "data" / "cat" / "3.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"(?s)ape/1\.png does not decode.*cat/3\.png does not decode") as caught:
        prepare(build_spec(tmp_path / "data"), tmp_path / "cache")
    assert "2 of 20 images do not decode, a share of 0.1, and data.corrupt allows 0" in str(caught.value)
    with pytest.raises(DataError, match=r"data\.corrupt allows 0\.09"):
        prepare(build_spec(tmp_path / "data", corrupt=0.09), tmp_path / "cache")
    spec = build_spec(tmp_path / "data", corrupt=0.1)
    prepared = prepare(spec, tmp_path / "cache")
    assert prepared.notes == ("2 of 20 images do not decode and are left out: ape/1.png, cat/3.png",)
    assert prepared.class_sizes == (9, 9)
    kept = [row for row in range(20) if row not in {1, 13}]
    np.testing.assert_array_equal(open_images(prepared).images, RANDOM[kept, :6, :5])
    assert prepare(spec, tmp_path / "cache") == prepared  # told again by the cache


def test_a_class_that_is_left_out_whole_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "data", 2)
    (tmp_path / "data" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"found 1 \(cat\): 1"):
        prepare(build_spec(tmp_path / "data", corrupt=0.9), tmp_path / "cache")


def test_every_class_is_validated_with(tmp_path: Path) -> None:
    write(tmp_path / "data", 8)
    for i in range(2, 8):
        (tmp_path / "data" / "cat" / f"{i}.png").unlink()
    splits = load_splits(build_spec(tmp_path / "data", validation=0.1), tmp_path / "cache")
    assert set(splits.labels[splits.validation]) == set(splits.labels[splits.train]) == {0, 1}


def test_memory_holds_few_of_the_images_that_are_decoded(tmp_path: Path) -> None:
    blank = Image.new("RGB", (600, 600))
    for name in ("a", "b"):
        save(tmp_path / "data" / name / "0.png", blank)
        for i in range(1, 100):
            os.link(tmp_path / "data" / name / "0.png", tmp_path / "data" / name / f"{i}.png")
    code = """
        import sys, threading, time
        from pathlib import Path
        from tuner.spec.search import DataSpec
        from tuner.train.data import prepare

        peak = 0

        def measure():
            lines = Path("/proc/self/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024

        def watch():
            global peak
            while True:
                peak = max(peak, measure())
                time.sleep(0.002)

        before = measure()
        threading.Thread(target=watch, daemon=True).start()
        prepared = prepare(DataSpec(name="folder", path=sys.argv[1]), Path(sys.argv[2]))
        print(prepared.path.stat().st_size, peak - before)
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("the memory of a process is read from /proc")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), tmp_path / "data", tmp_path / "cache"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    size, grown = map(int, done.stdout.split())
    assert size > 200 * 600 * 600 * 3
    assert grown < size / 2, (size, grown)


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A folder on a disk of one MiB."""
    with mounted_disk(tmp_path / "disk", "1m"):
        yield tmp_path / "disk"


@pytest.mark.parametrize("size", [None, 64])
def test_a_disk_that_fills_is_explained_and_nothing_is_left(size: int | None, small_disk: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        for i in range(60):
            save(tmp_path / "data" / name / f"{i}.png", Image.fromarray(RANDOM[i % 60]).resize((80, 80)))
    with pytest.raises(DataError, match=r"it cannot be written \(No space left on device\); free space"):
        prepare(build_spec(tmp_path / "data", size=size), small_disk)
    assert not [path for path in small_disk.iterdir() if path.name.startswith("images") and path.suffix != ".lock"]
    assert open_images(prepare(build_spec(tmp_path / "data", size=8), small_disk)).images.shape == (120, 8, 8, 3)
