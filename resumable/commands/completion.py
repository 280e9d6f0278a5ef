"""``resumable completion``: the shell script that completes commands, options and files."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from resumable.commands.cli_text import examples


@click.command(
    epilog=examples(
        ("resumable completion bash > ~/.local/share/bash-completion/completions/resumable", "for bash"),
        ("resumable completion zsh > ~/.zfunc/_resumable", "for zsh, with ~/.zfunc in its fpath"),
        ("resumable completion fish > ~/.config/fish/completions/resumable.fish", "for fish"),
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    from resumable.commands import resumable

    found = get_completion_class(shell)
    assert found is not None, "click knows these shells"
    script = found(resumable, {}, "resumable", "_RESUMABLE_COMPLETE")
    # Not `source`, which asks the bash that happens to be here for its version.
    click.echo(script.source_template % script.source_vars())
