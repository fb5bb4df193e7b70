"""Hyperparameter search for image classifiers: coarse, then fine, every trial on the record."""

__version__ = "0.1.0"
