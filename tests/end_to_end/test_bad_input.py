"""Wrong input through the installed command: exit code 2, where, what is allowed, what was found, what to do."""

import io
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SPEC
from PIL import Image

Tuner = Callable[..., "subprocess.CompletedProcess[str]"]


def assert_refused(done: "subprocess.CompletedProcess[str]", *said: str) -> None:
    """Exit code 2, no traceback, and every one of the words."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for words in said:
        assert words in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["found nothing"]),
        ("name: [a\n", ["line"]),
        ("name: a\n\tdata: digits\n", ["line 2", "tab"]),
        (SPEC.replace("stages:", "stagse:"), ["stagse", "stages"]),
        (SPEC.replace("trials: 8", "trials: many"), ["stages.coarse.trials", "many"]),
        (SPEC.replace("[1e-3, 0.3]", "[0.3, 1e-3]"), ["space.learning_rate", "line 8"]),
        (SPEC.replace("[1e-7, 1e-3]", "[0, 1e-3]"), ["space.l2", "above 0"]),
        (SPEC.replace("lenet:", "lennet:"), ["lennet", "lenet"]),
        (SPEC.replace("data: digits", "data: digts"), ["digts", "digits"]),
        (SPEC.replace("min_epochs: 2", "min_epochs: 5"), ["min_epochs"]),
    ],
    ids=["empty", "not YAML", "tab", "unknown key", "type", "reversed", "log of zero", "network", "data", "min_epochs"],
)
def test_a_wrong_file_is_refused(tuner: Tuner, tmp_path: Path, text: str, said: list[str]) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    assert_refused(tuner("run", "wrong.yaml"), "wrong.yaml", *said)
    assert not (tmp_path / "results").exists(), "nothing was begun"


def test_all_faults_come_at_once(tuner: Tuner, tmp_path: Path) -> None:
    text = SPEC.replace("trials: 8", "trials: many").replace("[1e-3, 0.3]", "[0.3, 1e-3]").replace("lenet:", "lennet:")
    (tmp_path / "wrong.yaml").write_text(text)
    assert_refused(tuner("validate", "wrong.yaml"), "3 faults", "many", "learning_rate", "lennet")


def test_a_missing_file_is_refused(tuner: Tuner) -> None:
    assert_refused(tuner("run", "nowhere.yaml"), "nowhere.yaml")


def test_a_wrong_override_is_refused(tuner: Tuner, small: Path) -> None:
    assert_refused(tuner("run", str(small), "--set", "stages.coarse.trails=3"), "trails", "trials")


def write_images(folder: Path, *, images: list[bytes] | None = None, label: str = "label") -> Path:
    """A Parquet data set of 40 small images in two classes."""
    folder.mkdir()
    if images is None:
        images = []
        for shade in range(40):
            content = io.BytesIO()
            Image.new("RGB", (8, 8), (shade * 6, 0, 0)).save(content, "png")
            images.append(content.getvalue())
    rows = [{"bytes": image, "path": f"{row}.png"} for row, image in enumerate(images)]
    pq.write_table(pa.table({"img": rows, label: [row % 2 for row in range(len(rows))]}), folder / "train.parquet")
    return folder


@pytest.fixture
def on_parquet(tmp_path: Path) -> str:
    """The small search, on a folder called images."""
    path = tmp_path / "on_parquet.yaml"
    path.write_text(SPEC.replace("data: digits", "data: {name: parquet, path: images}"))
    return str(path)


def test_a_parquet_file_that_is_cut_short_is_refused(tuner: Tuner, tmp_path: Path, on_parquet: str) -> None:
    file = write_images(tmp_path / "images") / "train.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    assert_refused(tuner("run", on_parquet), "train.parquet")


def test_a_parquet_file_without_labels_is_refused(tuner: Tuner, tmp_path: Path, on_parquet: str) -> None:
    folder = tmp_path / "images"
    write_images(folder)
    table = pq.read_table(folder / "train.parquet")
    pq.write_table(table.drop_columns(["label"]), folder / "train.parquet")
    assert_refused(tuner("run", on_parquet), "train.parquet", "label", "img")


def test_an_image_that_does_not_decode_is_named(tuner: Tuner, tmp_path: Path, on_parquet: str) -> None:
    images = [
        row["bytes"] for row in pq.read_table(write_images(tmp_path / "good") / "train.parquet")["img"].to_pylist()
    ]
    images[17] = images[17][:30]
    write_images(tmp_path / "images", images=images)
    assert_refused(tuner("run", on_parquet), "17", "17.png")


def test_a_missing_data_folder_is_refused(tuner: Tuner, on_parquet: str) -> None:
    assert_refused(tuner("run", on_parquet), "images")


def test_a_results_folder_that_cannot_be_made_is_refused(tuner: Tuner, small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert_refused(tuner("run", str(small), "--results", "file/results"), "file/results", "--results")


def test_a_cache_that_cannot_be_written_is_refused(tuner: Tuner, small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert_refused(tuner("run", str(small), "--cache", "file/cache"), "file/cache")


def test_more_gpus_than_there_are_is_refused_with_the_numbers(tuner: Tuner, small: Path) -> None:
    assert_refused(tuner("run", str(small), "--set", "resources.gpus=64"), "64 GPUs", "resources.gpus")


def test_a_ray_address_that_is_not_there_is_said_at_once(tuner: Tuner, small: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert_refused(tuner("run", str(small), "--ray-address", address, timeout_s=60), address, "--ray-address")


def test_an_mlflow_server_that_is_not_there_stops_nothing(tuner: Tuner, small: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    quick = ("--set", "stages.coarse.trials=2", "--set", "stages.fine.trials=1", "--set", "resources.trials_at_once=1")
    done = tuner("run", str(small), *quick, MLFLOW_TRACKING_URI=address)
    assert done.returncode == 0, done.stderr
    assert address in done.stdout
    assert "tuner sync small" in done.stdout
    sent = tuner("sync", "small")
    assert sent.returncode == 0, sent.stderr
    assert (tmp_path / "mlflow.db").exists()


def test_searches_that_are_not_there_are_named(tuner: Tuner) -> None:
    for command in (["show", "nothing"], ["best", "nothing"], ["export", "nothing"], ["sync", "nothing"]):
        assert_refused(tuner(*command), "nothing", "tuner run")


def test_a_space_from_a_search_that_is_not_there_is_refused(tuner: Tuner, tmp_path: Path) -> None:
    (tmp_path / "fine.yaml").write_text(
        "name: finer\ndata: digits\nspace: {from: nothing}\nstages:\n  fine: {trials: 2, max_epochs: 2, narrow: {}}\n"
    )
    assert_refused(tuner("run", "fine.yaml"), "nothing")
