"""The one look at a test split: recorded first, then allowed."""

from collections.abc import Callable

from tuner.errors import SealedSplitError


class Opening:
    """Leave to read a test split once it is on record that it is read.

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
