"""The token with which Ray knows its users: where it lies, and who can read it."""

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError as RayAuthenticationError

from tuner.errors import AuthenticationError

WHERE = "RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token"


def find_token_header() -> Mapping[str, str]:
    """Return the HTTP header that carries the token, by Ray's own rules; empty where there is no token.

    Raises
    ------
    AuthenticationError
        If a token was named that cannot be read.
    """
    try:
        header = AuthenticationTokenLoader.instance().get_token_for_http_header(ignore_auth_mode=True)
    except (RayAuthenticationError, RuntimeError) as error:
        raise AuthenticationError(f"Ray's token cannot be read from {WHERE}: {error}") from error
    return dict(header)


def keep_token_private() -> None:
    """See that nobody else can read the token's file, before Ray makes one that all can read."""
    if os.environ.get("RAY_AUTH_MODE", "token") != "token":
        return
    path = Path.home() / ".ray" / "auth_token"
    with contextlib.suppress(OSError):  # Ray says itself what it cannot do without the file
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.chmod(0o600)
        elif not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
            draft = path.with_name(f"auth_token.{os.getpid()}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
            try:
                os.link(draft, path)  # whole or not at all, and never over one that another process has just made
            finally:
                draft.unlink()
