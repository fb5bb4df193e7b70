"""What happened: the ledger and its image in MLflow."""
