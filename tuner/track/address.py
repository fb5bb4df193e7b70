"""Addresses of stores: where they are written down, and how they may be printed."""

import re

ELSEWHERE = "ledger.json"  # in a search's folder: the address of the database that its ledger is in, and its id there
ADDRESS = "store.address"  # in a folder of searches: the object store's folder that it stands for
_SECRETS = (
    (r"(://[^/@:\s]*:)(?!\d+/)[^\s'\"<>]*@", r"\1***@"),  # up to the last @, since a password may hold one; no port
    (r"(?i)((?:password|secret_key|session_token|secret_access_key)=)[^&\s'\"<>]+", r"\1***"),
)


def hide_password(address: str) -> str:
    """Return an address, or a text with some, as it may be printed: without the passwords in it."""
    for pattern, shown in _SECRETS:
        address = re.sub(pattern, shown, address)
    return address
