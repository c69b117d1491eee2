"""`essaim completion SHELL`: the script that makes a shell complete commands, flags and names."""

from click.shell_completion import get_completion_class

from essaim.cli.app import App, CliError
from essaim.cli.command import NONE, PROGRAM, Command, Group, Run
from essaim.cli.flags import Flags

HINTS = {
    "bash": "essaim completion bash > /etc/bash_completion.d/essaim",
    "zsh": 'essaim completion zsh > "${fpath[1]}/_essaim"',
    "fish": "essaim completion fish > ~/.config/fish/completions/essaim.fish",
}


def printing(shell: str) -> Run:
    async def run(app: App, args: list[str], flags: Flags) -> None:
        from essaim.cli.main import root

        completer = get_completion_class(shell)
        if completer is None:
            raise CliError(f"there is no completion for {shell}")
        made = completer(root(), {}, PROGRAM, "_ESSAIM_COMPLETE")
        app.print(made.source_template % made.source_vars())

    return run


GROUP = Group(
    "completion",
    summary="Print a shell's completion script",
    commands=[
        Command(shell, printing(shell), summary=f"For {shell}: {hint}", arity=NONE) for shell, hint in HINTS.items()
    ],
)
