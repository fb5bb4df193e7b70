"""Who is told, as it is written."""

import pytest

from tuner.errors import SpecError
from tuner.spec import load_text
from tuner.spec.search import Notify

SEARCH = """\
name: told
data: digits
space: {architecture: lenet, learning_rate: {loguniform: [1e-4, 1.0]}}
stages: {only: {trials: 2, max_epochs: 1, halving: none}}
"""


def test_without_the_section_or_with_an_empty_one_nobody_is_told() -> None:
    assert load_text(SEARCH).notify is None
    assert load_text(SEARCH + "notify:\n").notify is None


def test_a_command_and_an_address_are_taken_as_they_are() -> None:
    text = (
        SEARCH + "notify: {command: [mail, -s, tuner, me], webhook: 'https://host/$KEY', events: [best, end, best]}\n"
    )
    assert load_text(text).notify == Notify(
        command=("mail", "-s", "tuner", "me"), webhook="https://host/$KEY", events=("best", "end")
    )


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ("{}", "nobody is told; write command"),
        ("{command: mail me}", 'must be a list of texts, a program and its arguments, found "mail me"'),
        ("{command: [sleep, 3]}", "must be a list of texts"),
        ("{command: [true]}", "must be a list of texts"),
        ("{webhook: host}", "must be an http or https address, or \\$NAME"),
        ("{command: [a], events: best}", "must be a list of end, failure or best, found best"),
        ("{command: [a], events: [bets]}", "did you mean best"),
        ("{command: [a], event: [best]}", "did you mean events"),
    ],
)
def test_what_is_wrong_is_said(section: str, fault: str) -> None:
    with pytest.raises(SpecError, match=fault):
        load_text(SEARCH + f"notify: {section}\n")


@pytest.mark.parametrize("address", ["ftp://host/hunter2", "https://me:hunter2@host/", "hooks/hunter2"])
def test_what_may_be_secret_in_a_wrong_address_is_not_shown(address: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_text(SEARCH + f"notify: {{webhook: '{address}'}}\n")
    assert "hunter2" not in str(caught.value)


def test_a_key_in_the_file_is_warned_of_and_a_variable_is_not() -> None:
    warnings: list[str] = []
    load_text(
        SEARCH + "notify: {webhook: 'https://hooks.host/services/T0/xoxb1234567890abcdefgh'}\n", warn=warnings.append
    )
    assert "write $NAME in its place" in warnings[0]
    assert "xoxb" not in warnings[0]
    for address in ("$A_VARIABLE_OF_A_LONG_NAME", "https://host/${A_VARIABLE_OF_A_LONG_NAME}"):
        load_text(SEARCH + f"notify: {{webhook: '{address}'}}\n", warn=warnings.append)
    assert len(warnings) == 1
