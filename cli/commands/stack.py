"""`essaim stack`: services that are declared together in Compose files."""

from essaim.cli import completion
from essaim.cli.command import NONE, ONE, SOME, Command, Group, Later
from essaim.cli.common import FILTER, FORMAT, NO_RESOLVE, NO_TRUNC, QUIET, QUIET_IDS, REGISTRY_AUTH
from essaim.cli.flags import NAMES, POSITIVE, STRING, SWITCH, Flag

FILES = Flag("compose-file", NAMES, "A Compose file, or - for standard input (several are merged)", "c")
DRY_RUN = Flag("dry-run", SWITCH, "Print what would be done, and do nothing")
PROFILE = Flag("profile", NAMES, "Also the services of a profile")
GROUP = Group(
    "stack",
    summary="Manage stacks",
    aliases={"list": "ls", "remove": "rm", "down": "rm", "up": "deploy"},
    commands=[
        Command(
            "deploy",
            Later("stack_changes", "deploy"),
            summary="Make a stack, or bring it to what its files say",
            usage="STACK",
            arity=ONE,
            flags=[
                FILES,
                DRY_RUN,
                PROFILE,
                QUIET,
                REGISTRY_AUTH,
                Flag("detach", SWITCH, "Do not wait until the services have converged", "d", True, "true"),
                Flag(
                    "wait-timeout",
                    POSITIVE,
                    "How long a service is waited for that another depends on (0: without end)",
                    default=600 * 10**9,
                    shown_default="10m0s",
                ),
                Flag("prune", SWITCH, "Remove services that the files no longer declare"),
                Flag(
                    "resolve-image",
                    STRING,
                    "When to ask the registry for images' digests",
                    default="always",
                    shown_default='"always"',
                    choices=("always", "changed", "never"),
                ),
            ],
            complete=completion.stacks,
        ),
        Command("ls", Later("stack_views", "ls"), summary="List the stacks", arity=NONE, flags=[FORMAT]),
        Command(
            "ps",
            Later("stack_views", "ps"),
            summary="List a stack's tasks",
            usage="STACK",
            arity=ONE,
            flags=[FILTER, FORMAT, QUIET_IDS, NO_RESOLVE, NO_TRUNC],
            complete=completion.stacks,
        ),
        Command(
            "services",
            Later("stack_views", "services"),
            summary="List a stack's services",
            usage="STACK",
            arity=ONE,
            flags=[FILTER, FORMAT, QUIET_IDS],
            complete=completion.stacks,
        ),
        Command(
            "rm",
            Later("stack_changes", "rm"),
            summary="Remove stacks",
            usage="STACK [STACK...]",
            arity=SOME,
            flags=[Flag("detach", SWITCH, "Do not wait until the tasks are gone", "d", True, "true")],
            complete=completion.stacks,
        ),
        Command(
            "config",
            Later("stack_changes", "config"),
            summary="Print the files merged, with variables filled in",
            arity=NONE,
            flags=[FILES, PROFILE, Flag("skip-interpolation", SWITCH, "Leave variables as they are")],
        ),
    ],
)
