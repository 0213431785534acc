"""Commands about the keys of the HTTP service: key create, key list, key revoke."""

import getpass
import sys
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from service import Settings, audit
from ui.terminal import AsJson, console, note, plain, print_json

app = typer.Typer(no_args_is_help=True, help="Keys of the HTTP service: who may read, run demos, or do everything.")


class Scopes(StrEnum):
    """What a key opens."""

    read = "read"
    run_demos = "run-demos"
    admin = "admin"


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose it is, for your own list; at most 64 characters.")],
    scope: Annotated[
        list[Scopes] | None, typer.Option(help="What it opens (repeatable); read if left out. Admin opens everything.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="The learner whose progress it reads and changes; begun if it is new.")
    ] = None,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Its own limit of requests a minute.")] = None,
    json: AsJson = False,
) -> None:
    """Make a key. It is shown once; only its hash is kept."""
    from service import open_service
    from service.keys import open_keys
    from study import ProfileUnknown

    settings = Settings.read()
    if not 0 < len(name) <= 64:
        raise typer.BadParameter("a name has 1 to 64 characters", param_hint="NAME")
    if profile is not None:
        learners = open_service(settings).learners
        try:
            learners.learner(profile)
        except ProfileUnknown:
            learners.create(profile)
    key, token = open_keys(settings).create(name, [each.value for each in scope or [Scopes.read]], profile, per_minute)
    audit.record(settings.home, getpass.getuser(), "key created", key=key.id, scopes=" ".join(key.scopes))
    if json:
        print_json(msgspec.to_builtins(key) | {"token": token})
        return
    note(f"Key {key.id} opens {', '.join(key.scopes)}. It is shown this once:")
    sys.stdout.write(f"{token}\n")


@app.command("list")
def show_all(json: AsJson = False) -> None:
    """List the keys, without their secrets."""
    from service.keys import open_keys

    keys = open_keys(Settings.read()).all()
    if json:
        print_json([msgspec.to_builtins(key) for key in keys])
        return
    for key in keys:
        end = f" [red]revoked {key.revoked:%Y-%m-%d}[/red]" if key.revoked else ""
        who = f" for {plain(key.profile)}" if key.profile else ""
        limit = f", {key.per_minute} a minute" if key.per_minute else ""
        console().print(f"{key.id}  [bold]{plain(key.name)}[/bold]  {', '.join(key.scopes)}{who}{limit}{end}")
    if not keys:
        console().print("There are no keys.")


@app.command("revoke")
def revoke(key: Annotated[str, typer.Argument(help="The key's id, as the list has it.")]) -> None:
    """Have a key open nothing from now on."""
    from service.keys import open_keys

    settings = Settings.read()
    revoked = open_keys(settings).revoke(key)
    audit.record(settings.home, getpass.getuser(), "key revoked", key=revoked.id)
    note(f"Key {revoked.id} ({revoked.name}) opens nothing any more.")
