"""MLflow's address, as it may be printed."""

import re


def hide_password(address: str) -> str:
    """Return an address, or a text with some, as it may be printed: without the passwords in it."""
    return re.sub(r"(://[^/@:\s]*:)[^/@\s]*@", r"\1***@", address)
