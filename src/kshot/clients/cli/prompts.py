"""``kshot prompt``: prompts in versions, and where their labels stand."""

import json
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from kshot.clients.cli import output
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption
from kshot.errors import InvalidInput, PromptNotFound
from kshot.schemas.prompts import PromptVersion

app = typer.Typer(name="prompt", help="Keep prompts in versions that never change.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the prompt.")]
_EXCERPT = 70


@app.command()
def add(
    context: typer.Context,
    name: NameArgument,
    template: Annotated[
        str | None, typer.Argument(help="Jinja2 template of the user's turn.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="Read the template from a file.", exists=True, dir_okay=False),
    ] = None,
    system: Annotated[str | None, typer.Option(help="Template of the system prompt.")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", help="Label that moves to it; repeatable.")
    ] = None,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a version to a prompt, and make the prompt if there is none.

    ```
    kshot prompt add greet "Say {{ word }}." --label production
    ```
    """
    if (template is None) == (file is None):
        raise InvalidInput("give the template as an argument or with --file, one of the two")
    text = template if file is None else file.read_text(encoding="utf-8")
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        try:
            made = client.add_prompt_version(name, text, system=system, labels=label or [])
        except PromptNotFound:
            made = client.create_prompt(name, text, system=system, labels=label or [])
    if session.json:
        output.print_json(made)
        return
    said = "says the same as before, so it stays" if made.unchanged else "is"
    labels = f" ({', '.join(made.labels)})" if made.labels else ""
    output.print_text(f"prompt {name} {said} version {made.version}{labels}")


@app.command("ls")
def list_prompts(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List prompts by name.

    ```
    kshot prompt ls
    ```
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        found = list(islice(client.list_prompts(), limit))
    if session.json:
        output.print_json(found)
        return
    output.print_table(
        ["prompt", "versions", "labels"],
        [
            [
                one.name,
                one.latest_version,
                ", ".join(f"{label} → {version}" for label, version in one.labels.items()) or "-",
            ]
            for one in found
        ],
        whole={"prompt"},
    )


@app.command()
def show(
    context: typer.Context,
    name: NameArgument,
    version: Annotated[
        str | None,
        typer.Option("--version", "-v", help="Number, label or `latest`; default: all, the newest first."),
    ] = None,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the versions of a prompt, or one of them whole.

    ```
    kshot prompt show greet --version production
    ```
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        if version is None:
            found = list(client.list_prompt_versions(name))
        else:
            found = [client.get_prompt(name, version)]
    if session.json:
        output.print_json(found if version is None else found[0])
    elif version is None:
        output.print_table(
            ["version", "labels", "variables", "text"],
            [
                [
                    one.version,
                    ", ".join(one.labels) or "-",
                    ", ".join(one.variables) or "-",
                    output.shortened(_text(one), _EXCERPT),
                ]
                for one in found
            ],
        )
    else:
        output.print_text(_text(found[0]))


@app.command("label")
def move_label(
    context: typer.Context,
    name: NameArgument,
    label: Annotated[str, typer.Argument(help="Such as production or candidate.")],
    version: Annotated[int, typer.Argument(help="Where it stands from now on.", min=1)],
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a label stand at a version, for everybody who asks for it.

    ```
    kshot prompt label greet production 2
    ```
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        moved = client.label_prompt(name, label, version)
    if session.json:
        output.print_json(moved)
    else:
        output.print_text(f"{label} of prompt {name} is version {moved.version} now")


@app.command()
def render(
    context: typer.Context,
    name: NameArgument,
    variables: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]...", help="Variables; a value may be JSON.", show_default=False),
    ] = None,
    version: Annotated[int | None, typer.Option("--version", "-v", help="Default: by label.", min=1)] = None,
    label: Annotated[
        str | None, typer.Option("--label", "-l", help="Default: production where set, else the newest.")
    ] = None,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a prompt together with variables.

    ```
    kshot prompt render greet word=hello
    ```
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        made = client.render_prompt(name, assignments(variables or []), version=version, label=label)
    if session.json:
        output.print_json(made)
    else:
        output.print_text(made.text)


def assignments(given: list[str]) -> dict[str, Any]:
    """Return ``name=value`` arguments as a dictionary; a value that is JSON is read as such.

    Raises
    ------
    InvalidInput
        One has no equals sign or no name.
    """
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not (name and equals):
            raise InvalidInput(f"{one!r} is no variable; wanted NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _text(version: PromptVersion) -> str:
    turns = version.messages or [
        {"role": "system", "content": version.system or ""},
        {"role": "user", "content": version.template or ""},
    ]
    shown = [turn["content"] for turn in turns if turn["content"]]
    return "\n\n".join(shown)
