"""`essaim certificate`: the certificates of services, and the ACME accounts that order them."""

from collections.abc import Iterable
from typing import Any

from essaim.api.client import path_of
from essaim.cli.app import App, CliError
from essaim.cli.command import NONE, ONE, SOME, Command, Group
from essaim.cli.common import FORMAT, QUIET_IDS
from essaim.cli.flags import STRING, Flag, Flags
from essaim.cli.inspecting import FORMAT as INSPECT_FORMAT
from essaim.cli.inspecting import inspect as print_inspected
from essaim.cli.output.certificates import CERTIFICATES, RESOLVERS, certificate_rows, resolver_rows

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
NATIVE = ("essaim", "v1")


def certificate_path(*parts: str) -> str:
    return path_of(*NATIVE, "certificates", *parts)


def resolver_path(*parts: str) -> str:
    return path_of(*NATIVE, "resolvers", *parts)


async def ls(app: App, args: list[str], flags: Flags) -> None:
    rows = certificate_rows(await (await app.client()).get(certificate_path()))
    app.out.write(CERTIFICATES.render(rows, flags.text("format"), quiet="ID" if flags.on("quiet") else ""))


async def inspect(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    await print_inspected(app, args, lambda name: client.get_raw(certificate_path(name)), flags.text("format"))


async def renew(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()

    async def act(name: str) -> str:
        await client.post(certificate_path(name, "renew"))
        return name

    await app.each(args, act)


FIELDS = {
    "directory": "Directory",
    "challenge": "Challenge",
    "email": "Email",
    "eab-kid": "EabKid",
    "eab-key": "EabKey",
}


async def resolver_body(app: App, flags: Flags, names: Iterable[str]) -> dict[str, Any]:
    body = {FIELDS[name]: flags.text(name) for name in names}
    if path := flags.text("ca-file"):
        try:
            body["CACertificate"] = (await app.read(path)).decode()
        except UnicodeDecodeError as error:
            raise CliError(f"{path}: not a PEM file") from error
    return body


async def create_resolver(app: App, args: list[str], flags: Flags) -> None:
    body = {"Name": args[0], **await resolver_body(app, flags, FIELDS)}
    made = await (await app.client()).post(resolver_path("create"), body)
    app.print(made["ID"])


async def update_resolver(app: App, args: list[str], flags: Flags) -> None:
    body = await resolver_body(app, flags, [name for name in FIELDS if flags.given(name)])
    await (await app.client()).post(resolver_path(args[0], "update"), body)
    app.print(args[0])


async def ls_resolvers(app: App, args: list[str], flags: Flags) -> None:
    rows = resolver_rows(await (await app.client()).get(resolver_path()))
    app.out.write(RESOLVERS.render(rows, flags.text("format"), quiet="ID" if flags.on("quiet") else ""))


async def inspect_resolver(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    await print_inspected(app, args, lambda name: client.get_raw(resolver_path(name)), flags.text("format"))


async def rm_resolver(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()

    async def act(name: str) -> str:
        await client.delete(resolver_path(name))
        return name

    await app.each(args, act)


async def resolver_names(app: App, _: str) -> list[str]:
    return [one["Name"] for one in await (await app.client()).get(resolver_path())]


async def certificate_names(app: App, _: str) -> list[str]:
    return [one["Name"] for one in await (await app.client()).get(certificate_path())]


def resolver_flags(directory: str | None = None, challenge: str | None = None) -> list[Flag]:
    return [
        Flag("email", STRING, "Whom the server may write to"),
        Flag(
            "directory",
            STRING,
            "URL of the ACME server",
            default=directory,
            shown_default="Let's Encrypt's" if directory else "",
        ),
        Flag(
            "challenge",
            STRING,
            "How names are proved: http (port 80) or tls-alpn (port 443)",
            default=challenge,
            shown_default=challenge or "",
            choices=("http", "tls-alpn"),
        ),
        Flag("ca-file", STRING, "Trust the ACME server by the authorities in this PEM file"),
        Flag("eab-kid", STRING, "Key ID of the external account to bind to"),
        Flag("eab-key", STRING, "Key of the external account, in base64url"),
    ]


RESOLVER = Group(
    "resolver",
    summary="Manage the ACME accounts that order certificates",
    aliases={"list": "ls", "remove": "rm"},
    commands=[
        Command(
            "create",
            create_resolver,
            summary="Make a resolver: an account at an ACME server",
            usage="RESOLVER",
            arity=ONE,
            flags=resolver_flags(directory=LETS_ENCRYPT, challenge="http"),
        ),
        Command(
            "update",
            update_resolver,
            summary="Change a resolver; its certificates stay",
            usage="RESOLVER",
            arity=ONE,
            flags=resolver_flags(),
            complete=resolver_names,
        ),
        Command("ls", ls_resolvers, summary="List the resolvers", arity=NONE, flags=[FORMAT, QUIET_IDS]),
        Command(
            "inspect",
            inspect_resolver,
            summary="Show resolvers in detail (never their keys)",
            usage="RESOLVER [RESOLVER...]",
            arity=SOME,
            flags=[INSPECT_FORMAT],
            complete=resolver_names,
        ),
        Command(
            "rm",
            rm_resolver,
            summary="Remove resolvers and the certificates that they ordered",
            usage="RESOLVER [RESOLVER...]",
            arity=SOME,
            complete=resolver_names,
        ),
    ],
)

GROUP = Group(
    "certificate",
    summary="Manage the certificates of services",
    aliases={"list": "ls"},
    commands=[
        RESOLVER,
        Command("ls", ls, summary="List the certificates of services", arity=NONE, flags=[FORMAT, QUIET_IDS]),
        Command(
            "inspect",
            inspect,
            summary="Show certificates in detail (never their keys)",
            usage="CERTIFICATE [CERTIFICATE...]",
            arity=SOME,
            flags=[INSPECT_FORMAT],
            complete=certificate_names,
        ),
        Command(
            "renew",
            renew,
            summary="Order certificates anew, now",
            usage="CERTIFICATE [CERTIFICATE...]",
            arity=SOME,
            complete=certificate_names,
        ),
    ],
)
