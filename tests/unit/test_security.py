"""Hostile files get an error, and nothing in them is run; secrets are not printed."""

import base64
import pickle
import stat
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import SPEC

from tuner.errors import InputError, TunerError
from tuner.execute.authentication import keep_token_private
from tuner.spec import load_text, load_training_text
from tuner.spec.search import DataSpec
from tuner.track.address import hide_password
from tuner.track.check_run import record_check
from tuner.track.postgres import Database
from tuner.track.registry import fetch_model
from tuner.train.checkpoint import load_model, read_state
from tuner.train.data import load_splits


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """A file that is there only if code was run."""
    path = tmp_path / "proof"
    pickle.loads(pickle.dumps(Harmful(path)))
    assert path.exists(), "it does harm where it is let"
    path.unlink()
    return path


@pytest.mark.parametrize(
    "text",
    [
        "name: !!python/object/apply:os.system ['touch {proof}']",
        "name: !!python/object/new:pathlib.Path ['{proof}']",
        "name: !!python/name:os.system",
        "name: !anything {{a: 1}}",
        "!!python/object/apply:pathlib.Path.touch\nargs: [!!python/object/apply:pathlib.Path ['{proof}']]",
    ],
)
def test_yaml_makes_no_objects(text: str, proof: Path) -> None:
    for load in (load_text, load_training_text):
        with pytest.raises(TunerError):
            load(text.format(proof=proof) + "\n" + SPEC.partition("\n")[2])
    assert not proof.exists()


def write_plain(path: Path, harmful: Harmful) -> None:
    path.write_bytes(pickle.dumps(harmful))


def write_by_torch(path: Path, harmful: Harmful) -> None:
    torch.save({"format": "tuner", "weights": harmful}, path)


def write_archive(path: Path, harmful: Harmful) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(harmful))
        archive.writestr("archive/version", "3\n")


@pytest.mark.parametrize("write", [write_plain, write_by_torch, write_archive])
@pytest.mark.parametrize("load", [load_model, read_state])
def test_a_hostile_checkpoint_is_refused(write: Any, load: Any, proof: Path, tmp_path: Path) -> None:
    write(tmp_path / "model.pt", Harmful(proof))
    with pytest.raises(TunerError, match=r"model\.pt"):
        load(tmp_path / "model.pt")
    assert not proof.exists()


@pytest.mark.parametrize("name", ["arrow.py_extension_type", "arrow.pickled", "pandas"])
def test_what_a_parquet_file_says_of_itself_is_not_run(name: str, proof: Path, tmp_path: Path) -> None:
    said = pickle.dumps(Harmful(proof))
    extension = {b"ARROW:extension:name": name.encode(), b"ARROW:extension:metadata": said}
    schema = pa.schema(
        [pa.field("image", pa.binary(), metadata=extension), pa.field("label", pa.int64(), metadata=extension)],
        metadata={b"pandas": said, b"huggingface": base64.b64encode(said)},
    )
    table = pa.table([[b"no image"] * 4, [0, 1, 0, 1]], schema=schema)
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(TunerError, match="train"):
        load_splits(DataSpec(name="parquet", path=str(tmp_path)), tmp_path / "cache")
    assert not proof.exists()


def test_ray_s_token_is_read_by_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    keep_token_private()
    token = tmp_path / ".ray/auth_token"
    first = token.read_text()
    assert len(first) == 64
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    token.chmod(0o644)
    keep_token_private()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text() == first
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


def test_no_token_is_made_where_none_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    keep_token_private()
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    keep_token_private()
    assert not (tmp_path / ".ray/auth_token").exists()


def test_an_address_is_printed_without_its_password() -> None:
    text = "postgresql://user:s3cret@host/db does not answer, nor does http://:s3cret@host:5000"
    assert hide_password(text) == "postgresql://user:***@host/db does not answer, nor does http://:***@host:5000"
    assert hide_password("http://host:5000/a:b@c") == "http://host:5000/a:b@c"
    assert hide_password("postgresql://me:s3/cr@t@host/db") == "postgresql://me:***@host/db"
    assert hide_password("postgresql://host/db?password=s3cret&port=1") == "postgresql://host/db?password=***&port=1"


@pytest.mark.parametrize("password", ["s3@cret", "s3cret@", "s3@cr#et", "s3@cret:5", "s3@cr/et", "s3@cr,et", "@s3cret"])
def test_a_database_s_address_whose_password_holds_an_at_sign_is_refused_unless_it_is_escaped(password: str) -> None:
    for rest in ("host/x", "host:5432/x?sslmode=require"):
        with pytest.raises(InputError, match=r"so @ as %40") as caught:
            Database(f"postgresql://me:{password}@{rest}")
        assert not [part for part in ("s3", "cr", "et@") if part in str(caught.value)]
        escaped = Database(f"postgresql://me:{quote(password, safe='')}@{rest}")
        assert escaped.shown == f"postgresql://me@{rest}"


def test_what_mlflow_does_not_take_is_told_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = "http://me:s3cret@127.0.0.1:1"  # where nothing listens
    with pytest.raises(TunerError) as check:
        record_check(address, "search", [], tmp_path)
    with pytest.raises(TunerError) as model:
        fetch_model("models:/none@champion", address, "model.pt", tmp_path)
    for caught in (check, model):
        assert "s3cret" not in str(caught.value)
