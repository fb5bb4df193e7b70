"""The one look at a test split: recorded first, then allowed."""

import re
from collections.abc import Callable

from tuner.errors import SealedSplitError

TEST_FILE = re.compile(r"(t10k|test|val)(?![a-zA-Z0-9])")  # how the name of a test split's file or folder begins


class Opening:
    """Leave to read a test split once it is on record that it is read. Workers are sent it as it is.

    Whatever finds or loads files takes an opening for the test split, and none for the training split: there is no
    other word for the test split, so nothing reads it without.

    Parameters
    ----------
    record : function
        Writes to a search's ledger that its test split is opened now; whatever it raises, there is no leave.
    """

    def __init__(self, record: Callable[[], None]) -> None:
        record()
        self._is_recorded = True

    @staticmethod
    def check(opening: "Opening | None") -> None:
        """See that reading a test split is on record.

        Raises
        ------
        SealedSplitError
            If it is not.
        """
        if not isinstance(opening, Opening) or not getattr(opening, "_is_recorded", False):
            raise SealedSplitError(
                "the test split is read at the end of a search alone, once the ledger has it that it is opened; what "
                "trains, validates or searches must do without: open it with tuner finalize SEARCH"
            )

    @staticmethod
    def is_given(opening: "Opening | None", *names: str) -> bool:
        """Tell whether the test split is meant; what is no opening, or reads a test split's files without, is refused.

        Parameters
        ----------
        opening : Opening or None
            None for the training split.
        names : str
            Of the files that are to be read.
        """
        if opening is None and not any(TEST_FILE.match(name) for name in names):
            return False
        Opening.check(opening)
        return True
