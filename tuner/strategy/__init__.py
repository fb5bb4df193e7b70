"""What to try next and what to stop: pure, and without Ray."""
