"""A search is interrupted by a signal, and ended at once by a second ctrl-C."""

import signal
from typing import Any

import pytest

from tuner.execute.drive import interruptible


class Interrupted:
    """Stands where a search stands, and counts."""

    count = 0

    def interrupt(self) -> None:
        self.count += 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_search_end(number: signal.Signals) -> None:
    run: Any = Interrupted()
    before = signal.getsignal(number)
    with interruptible(run):
        signal.raise_signal(number)
    assert run.count == 1
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_does_not_wait() -> None:
    run: Any = Interrupted()
    with interruptible(run):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert run.count == 1
