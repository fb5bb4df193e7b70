"""The section ``notify``: who is told of what happens in a search."""

import re

from tuner.spec.domain import Domain
from tuner.spec.faults import Fault
from tuner.spec.search import Notify
from tuner.spec.sections import read_section
from tuner.spec.yaml_tree import ListNode, Node, ScalarNode, show

EVENTS = Domain(words=("end", "failure", "best"))
WEBHOOK_PATTERN = r"(https?://|\$)\S+"
_SECRET = re.compile(r"(?<![$\w{])[A-Za-z0-9_-]{20,}")  # so long a word is a key


def read_notify(node: Node, faults: list[Fault], warnings: list[Fault]) -> Notify | None:
    """Read who is told of what; an address with a password is refused without showing it.

    Parameters
    ----------
    node : Node
        The section.
    faults, warnings : list of Fault
        Get what is wrong, and what is hardly meant.
    """
    if isinstance(node, ScalarNode) and node.value is None:
        return None

    def read_webhook(node: Node, faults: list[Fault]) -> str | None:
        return _read_webhook(node, faults, warnings)

    num_faults = len(faults)
    readers = {"command": _read_command, "webhook": read_webhook, "events": _read_events}
    values = read_section(node, Notify, faults, readers)
    if len(faults) == num_faults and not (values.get("command") or values.get("webhook")):
        faults.append(Fault(node.place, "nobody is told; write command: [PROGRAM, ...] or webhook: https://..."))
    return Notify(**values) if len(faults) == num_faults else None


def _read_command(node: Node, faults: list[Fault]) -> tuple[str, ...]:
    words = [item.value for item in node.items if isinstance(item, ScalarNode)] if isinstance(node, ListNode) else []
    texts = [word for word in words if isinstance(word, str)]
    if not isinstance(node, ListNode) or len(texts) < len(node.items) or not texts or not texts[0]:
        message = f"must be a list of texts, a program and its arguments, found {show(node)}; write [PROGRAM, ...]"
        faults.append(Fault(node.place, message))
    return tuple(texts)


def _read_webhook(node: Node, faults: list[Fault], warnings: list[Fault]) -> str | None:
    value = node.value if isinstance(node, ScalarNode) else None
    if value is None and isinstance(node, ScalarNode):
        return None
    if not isinstance(value, str) or not re.fullmatch(WEBHOOK_PATTERN, value):  # it may be secret, so is not shown
        message = "must be an http or https address, or $NAME for one that is a variable of the environment"
        faults.append(Fault(node.place, message))
    elif re.search(r"://[^/@]*:[^/]*@", value):
        message = "a password does not belong here, for the file is copied with the results; write $NAME in its place"
        faults.append(Fault(node.place, f"{message}, and set that in the environment"))
    else:
        if _SECRET.search(value):
            message = "what looks like a key stands here, and the file is copied with the results and into MLflow"
            warnings.append(Fault(node.place, f"{message}; write $NAME in its place, and set that in the environment"))
        return value
    return None


def _read_events(node: Node, faults: list[Fault]) -> tuple[str, ...]:
    if not isinstance(node, ListNode) or not node.items:
        message = f"must be a list of {EVENTS.describe().removeprefix('one of ')}, found {show(node)}"
        faults.append(Fault(node.place, f"{message}; write [end]"))
        return ()
    return tuple(dict.fromkeys(str(event) for item in node.items if (event := EVENTS.read(item, faults)) is not None))
