"""What the README says, held against the code."""

import re
from pathlib import Path

from tuner.cli import COMMANDS
from tuner.spec import load_text

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_readme_shows_a_search_that_loads() -> None:
    example = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert example is not None
    spec = load_text(example[1])
    assert [stage.name for stage in spec.stages] == ["coarse", "fine"]


def test_the_readme_names_every_command_and_no_other() -> None:
    table = README.split("## The commands")[1].split("## How a search runs")[0]
    assert set(re.findall(r"`tuner (\w+)", table)) == set(COMMANDS)


def test_the_readme_leads_only_to_files_that_are_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert all((Path(__file__).parents[2] / link).exists() for link in links), links


def test_the_readme_draws_every_package() -> None:
    tree = README.split("## The tree")[1]
    packages = {path.parent.name for path in (Path(__file__).parents[2] / "tuner").glob("*/__init__.py")}
    assert all(f"  {package}/" in tree for package in packages)
