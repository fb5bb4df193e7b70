"""Many trials on many machines.

Ray reads its settings from the environment, some of them when it is imported: this is the one place that sets them.
"""

import os

_RAY_SETTINGS = {
    "RAY_TUNE_CALLBACKS": "tuner.execute.adapters.SilentProgress",  # Tune imports MLflow if it is given a callback
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a trial without a GPU leaves CUDA_VISIBLE_DEVICES alone
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's newer output cannot be silenced whole
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in a trial as in the driver
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the ledger keeps the record; TensorBoard's logger imports torch
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ctrl-C is the command's to handle
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # the ledger is what a search is resumed from
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
for _name, _value in _RAY_SETTINGS.items():
    os.environ.setdefault(_name, _value)
