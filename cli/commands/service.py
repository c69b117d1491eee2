"""`essaim service`: the command tree; what the commands do is in the modules beside this one."""

from essaim.cli import completion
from essaim.cli.command import NONE, ONE, SOME, Command, Group, Later
from essaim.cli.common import DETACH, FILTER, FORMAT, NO_RESOLVE, NO_TRUNC, QUIET, QUIET_IDS
from essaim.cli.flags import STRING, SWITCH, Flag
from essaim.cli.inspecting import FORMAT as INSPECT_FORMAT
from essaim.cli.inspecting import PRETTY
from essaim.cli.spec.flagset import CREATE, UPDATE

GROUP = Group(
    "service",
    summary="Manage services",
    aliases={"list": "ls", "remove": "rm"},
    commands=[
        Command(
            "create",
            Later("service_changes", "create"),
            summary="Make a service",
            usage="IMAGE [COMMAND] [ARG...]",
            arity=SOME,
            flags=CREATE,
            interspersed=False,
        ),
        Command(
            "update",
            Later("service_changes", "update"),
            summary="Change a service",
            usage="SERVICE",
            arity=ONE,
            flags=UPDATE,
            complete=completion.services,
        ),
        Command(
            "scale",
            Later("service_changes", "scale"),
            summary="Change the number of replicas",
            usage="SERVICE=REPLICAS [SERVICE=REPLICAS...]",
            arity=SOME,
            flags=[DETACH],
            complete=completion.scale_targets,
        ),
        Command(
            "rollback",
            Later("service_changes", "rollback"),
            summary="Go back to the specification before the last update",
            usage="SERVICE",
            arity=ONE,
            flags=[DETACH, QUIET],
            complete=completion.services,
        ),
        Command(
            "rebalance",
            Later("service_changes", "rebalance"),
            summary="Spread the replicas over the nodes anew, few at a time",
            usage="SERVICE [SERVICE...]",
            arity=SOME,
            flags=[DETACH, QUIET],
            complete=completion.services,
        ),
        Command(
            "rm",
            Later("service_changes", "rm"),
            summary="Remove services",
            usage="SERVICE [SERVICE...]",
            arity=SOME,
            complete=completion.services,
        ),
        Command(
            "ls",
            Later("service_views", "ls"),
            summary="List the services",
            arity=NONE,
            flags=[FILTER, FORMAT, QUIET_IDS],
        ),
        Command(
            "ps",
            Later("service_views", "ps"),
            summary="List the tasks of services",
            usage="SERVICE [SERVICE...]",
            arity=SOME,
            flags=[FILTER, FORMAT, QUIET_IDS, NO_RESOLVE, NO_TRUNC],
            complete=completion.services,
        ),
        Command(
            "inspect",
            Later("service_views", "inspect_services"),
            summary="Show services in detail",
            usage="SERVICE [SERVICE...]",
            arity=SOME,
            flags=[INSPECT_FORMAT, PRETTY],
            complete=completion.services,
        ),
        Command(
            "explain",
            Later("service_views", "explain"),
            summary="Say in words how services are doing, and why tasks do not run",
            usage="SERVICE [SERVICE...]",
            arity=SOME,
            complete=completion.services,
        ),
        Command(
            "logs",
            Later("logs", "logs"),
            summary="Print the output of a service's tasks, or of one task",
            usage="SERVICE|TASK",
            arity=ONE,
            flags=[
                NO_RESOLVE,
                NO_TRUNC,
                Flag("details", SWITCH, "Print the details that the log driver adds"),
                Flag("follow", SWITCH, "Go on printing", "f"),
                Flag("no-task-ids", SWITCH, "Leave the tasks' IDs out"),
                Flag("raw", SWITCH, "Print lines as they came"),
                Flag("since", STRING, "Only lines since a time, or for a duration (42m)"),
                Flag("tail", STRING, "Only so many of the last lines", "n", default="all", shown_default='"all"'),
                Flag("timestamps", SWITCH, "Print when each line was written", "t"),
            ],
            complete=completion.services,
        ),
    ],
)
