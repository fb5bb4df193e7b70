"""One configuration to one classifier."""
