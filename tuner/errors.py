"""What can go wrong, drawn as a tree.

TunerError                      anything that tuner itself explains to the user
├── InputError                  the input is wrong: exit code 2
│   ├── SpecError               a search file, with every fault found in it
│   ├── DataError               a data set that is missing, cut short, unlabelled or does not decode
│   ├── AddressError            nothing answers at an address that was given
│   ├── AuthenticationError     a cluster does not let one in
│   ├── ResourceError           more was asked for than the machines have
│   ├── SearchNotFoundError     no search of that name, or not the kind that is needed
│   └── JobNotFoundError        no job of that name on a cluster
└── RunError                    the input was right and the run failed: exit code 1
    ├── OutOfMemoryError        a training does not fit into its device's memory
    ├── ClusterError            Ray cannot be started or was lost
    │   └── GaveUpError         Ray Tune ended before the search did
    ├── LostWorkerError         a worker of those that train one trial together died
    ├── LedgerError             the record cannot be read or written
    ├── SealedSplitError        a test split is asked for and its opening is not on record
    └── TrackingError           MLflow cannot be reached

Every error takes one positional message, so that it survives pickling between Ray's processes. The message says where,
what is allowed, what was found and what to do.
"""


class TunerError(Exception):
    """Anything that tuner itself explains to the user."""

    exit_code = 1


class InputError(TunerError):
    """The input is wrong."""

    exit_code = 2


class SpecError(InputError):
    """A search file is wrong; the message lists every fault found in it."""


class DataError(InputError):
    """A data set is missing, cut short, unlabelled or does not decode."""


class AddressError(InputError):
    """Nothing answers at an address that was given."""


class AuthenticationError(InputError):
    """A cluster does not let one in: no token, or not the right one."""


class ResourceError(InputError):
    """More was asked for than the machines have."""


class SearchNotFoundError(InputError):
    """There is no search of that name, or it is not the kind that is needed."""


class JobNotFoundError(InputError):
    """There is no job of that name on a cluster."""


class RunError(TunerError):
    """The input was right and the run failed."""


class OutOfMemoryError(RunError):
    """A training does not fit into its device's memory."""


class ClusterError(RunError):
    """Ray cannot be started or was lost."""


class GaveUpError(ClusterError):
    """Ray Tune ended before the search did, on a cluster that may be whole."""


class LostWorkerError(RunError):
    """A worker of those that train one trial together died."""


class LedgerError(RunError):
    """The record of a search cannot be read or written."""


class SealedSplitError(RunError):
    """A test split is asked for and its opening is not on record."""


class TrackingError(RunError):
    """MLflow cannot be reached."""
