"""``tuner completion``."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    r"""Print the script by which a shell completes tuner's commands and options.

    \b
    Examples:
        tuner completion bash > ~/.tuner-complete && echo '. ~/.tuner-complete' >> ~/.bashrc
        tuner completion zsh > ~/.tuner-complete && echo '. ~/.tuner-complete' >> ~/.zshrc
        tuner completion fish > ~/.config/fish/completions/tuner.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows all three"
    click.echo(kind(click.get_current_context().find_root().command, {}, "tuner", "_TUNER_COMPLETE").source(), nl=False)
