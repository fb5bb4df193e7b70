"""``python -m tuner``: the command, where only the interpreter is known."""

from tuner.cli import main

main()
