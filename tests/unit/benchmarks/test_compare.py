"""The report on made-up searches, with known answers."""

import sys
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from search_quality.compare import main
from search_quality.results import load

NUM_SEEDS = 8
FACTORS = {"tuner": 1, "random_asha": 2, "optuna_search_asha": 5, "tpe": 1.25}


def row(problem: str, method: str, seed: int, budget: int = 50) -> dict[str, object]:
    regret = FACTORS[method] * (1 + 0.01 * seed)
    regrets = {"regret_25": 3 * regret, "regret_50": 2 * regret, "regret_100": regret}
    key = {"problem": problem, "method": method, "budget": budget, "workers": 4, "seed": seed}
    return {**key, **regrets, "epochs": 1, "trials": 1, "seconds": 0.5}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files: as many environments had to be used."""
    paths = []
    for i, methods in enumerate([("tuner", "random_asha"), ("optuna_search_asha", "tpe")]):
        rows = [row(p, m, seed) for p in ("conditional", "mixed") for m in methods for seed in range(NUM_SEEDS)]
        paths.append(tmp_path / f"{i}.parquet")
        pq.write_table(pa.Table.from_pylist(rows), paths[-1])
    return paths


def report(*arguments: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["compare", *map(str, arguments)])
    main()
    return capsys.readouterr().out


def test_several_files_are_taken_together(files: list[Path]) -> None:
    (found,) = load(files, "tuner").values()
    assert found.methods == ["tuner", "tpe", "random_asha", "optuna_search_asha"]
    assert found.peers == found.methods[1:]
    assert found.last["mixed"]["tpe"][3] == pytest.approx(1.25 * 1.03)


def test_of_our_methods_one_is_compared(files: list[Path]) -> None:
    (found,) = load(files, "tuner_tpe").values()
    assert "tuner" not in found.methods


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.parquet"):
        load([tmp_path / "none.parquet"], "tuner")


def test_goals_are_reached_or_not(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = report(*files, monkeypatch=monkeypatch, capsys=capsys)
    goals = [line for line in out.splitlines() if line.startswith("- [")]
    assert [line[:5] for line in goals] == ["- [x]", "- [ ]", "- [ ]", "- [x]"]
    assert "beside optuna_search_asha 0.2 [" in goals[0]
    assert "beside random_asha 0.5 [" in goals[1]
    assert "beside best peer (tpe) 0.8 [" in goals[2]
    assert "mean rank 1.00, to be the best; of the others tpe is the best with 2.00" in goals[3]


def test_tests_say_where_the_method_is_better(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = report(*files, monkeypatch=monkeypatch, capsys=capsys)
    assert "- worse in 0 of 6\n- better in 6 of 6:\n" in out
    assert "### mixed, held out: regret" in out
    assert "### conditional: regret" in out


@pytest.mark.parametrize(
    ("num_seeds", "told"), [(6, "- better in 0 of 2\n- 2 of them have too few"), (7, "better in 2 of 2:")]
)
def test_tests_with_too_few_seeds_for_so_many_problems_are_counted(
    num_seeds: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six seeds that all agree have p = 2 / 64, which is enough for one problem, but not for two."""
    methods, problems = ("tuner", "tpe"), ("conditional", "mixed")
    rows = [row(p, m, seed) for p in problems for m in methods for seed in range(num_seeds)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "few.parquet")
    out = report(tmp_path / "few.parquet", monkeypatch=monkeypatch, capsys=capsys)
    assert told in out
    assert ("too few" in out) == (num_seeds == 6)


def test_charts_are_svg_with_a_line_for_each_method(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report(*files, "--output", tmp_path / "charts", monkeypatch=monkeypatch, capsys=capsys)
    names = sorted(path.name for path in (tmp_path / "charts").iterdir())
    assert names == ["ranks.svg", "regret.svg", "regret_50_4.svg"]
    root = ElementTree.parse(tmp_path / "charts" / "regret.svg").getroot()
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert sorted(titles) == sorted(FACTORS)


def test_a_chart_names_only_methods_that_were_run(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report(files[0], "--output", tmp_path / "charts", monkeypatch=monkeypatch, capsys=capsys)
    root = ElementTree.parse(tmp_path / "charts" / "regret.svg").getroot()
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"tuner", "random_asha"} <= texts
    assert not {"optuna_search_asha", "others"} & texts
