"""What shows stacks."""

from essaim.cli.app import App, CliError
from essaim.cli.common import query
from essaim.cli.common_tasks import task_list
from essaim.cli.flags import Flags
from essaim.cli.output.rows import SERVICES, STACKS, service_rows, stack_rows
from essaim.cli.resolve import names_of
from essaim.cli.stacknames import NAMESPACE, check_name, stack_filter


def scope(stack: str, flags: Flags) -> dict[str, list[str]]:
    """The user's filters within a stack."""
    check(stack)
    found = flags.filters()
    return {**found, "label": [*found.get("label", []), *stack_filter(stack)["label"]]}


def check(stack: str) -> None:
    try:
        check_name(stack)
    except ValueError as error:
        raise CliError(str(error)) from None


async def ls(app: App, args: list[str], flags: Flags) -> None:
    found = await (await app.client()).get("/services", query({"label": [NAMESPACE]}))
    app.out.write(STACKS.render(stack_rows(found), flags.text("format")))


async def services(app: App, args: list[str], flags: Flags) -> None:
    quiet = flags.on("quiet")
    status = {} if quiet and not flags.given("format") else {"status": "true"}
    found = await (await app.client()).get("/services", query(scope(args[0], flags), **status))
    if not found:
        app.warn(f"Nothing found in stack: {args[0]}")
        return
    app.out.write(SERVICES.render(service_rows(found), flags.text("format"), quiet="ID" if quiet else ""))


async def ps(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    tasks = await client.get("/tasks", query(scope(args[0], flags)))
    if not tasks:
        raise CliError(f"nothing found in stack: {args[0]}")
    names = await names_of(client, tasks, resolve=not flags.on("no-resolve"))
    app.out.write(task_list(tasks, names, flags, app.now()))
