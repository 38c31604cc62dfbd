"""``kshot policy``: policies over variants, and single decisions."""

import json
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from kshot.clients.cli import output, policy_reports
from kshot.clients.cli.prompts import assignments
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption
from kshot.clients.sdk.calls.base import present
from kshot.errors import InvalidInput
from kshot.schemas.policies import PolicyInfo

app = typer.Typer(
    name="policy", help="Let a policy learn which prompt or method to use.", no_args_is_help=True
)
PolicyArgument = Annotated[str, typer.Argument(metavar="POLICY", help="Name of the policy.")]


@app.command()
def create(
    context: typer.Context,
    name: PolicyArgument,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            "-v",
            metavar="NAME[=PROMPT]",
            help="A variant, perhaps with a prompt of the registry (`greet`, `greet@2`); repeatable.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="JSON with variants and settings, as in `POST /v1/policies`.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    algorithm: Annotated[
        str | None, typer.Option("--algorithm", "-a", help="Default: square_cb; `kshot policy algorithms`.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="What it learns from; default: reward, 0 to 1.")] = None,
    pool: Annotated[str | None, typer.Option("--pool", "-p", help="Embed queries as this pool does.")] = None,
    control: Annotated[
        str | None, typer.Option(help="The variant to fall back to where it does better.")
    ] = None,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a policy over variants.

    ```
    kshot policy create greeting --variant short=greet@1 --variant long=greet@2
    kshot policy create greeting --file greeting.json
    ```
    """
    body: dict[str, Any] = {} if file is None else _read(file)
    body.pop("name", None)
    given = [variant_of(one) for one in variant or []]
    variants = [*body.pop("variants", []), *given]
    if not variants:
        raise InvalidInput("a policy wants at least one variant: --variant NAME, or variants in --file")
    body |= present(algorithm=algorithm, metric=metric, control=control)
    if pool is not None:
        body["context"] = {**body.get("context", {}), "pool": pool}
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client, output.preparing():
        made = client.create_policy(name, variants, **body)
    if session.json:
        output.print_json(made)
    else:
        _print(made)


@app.command("ls")
def list_policies(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List policies by name.

    ```
    kshot policy ls
    ```
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        found = list(islice(client.list_policies(), limit))
    if session.json:
        output.print_json(found)
        return
    output.print_table(
        ["policy", "algorithm", "mode", "variants", "outcomes"],
        [
            [one.name, _algorithm(one), one.settings.get("mode"), len(one.variants), one.outcomes]
            for one in found
        ],
        whole={"policy"},
    )


@app.command()
def show(
    context: typer.Context,
    name: PolicyArgument,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a policy, its variants, and what was seen of them.

    ```
    kshot policy show greeting
    ```
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        found = client.get_policy(name)
    if session.json:
        output.print_json(found)
    else:
        _print(found)


@app.command()
def algorithms(
    context: typer.Context, url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """List the algorithms and their parameters.

    ```
    kshot policy algorithms --json
    ```
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        found = client.algorithms()
    if session.json:
        output.print_json(found)
        return
    output.print_table(
        ["algorithm", "looks at the query", "what it does", "parameters"],
        [
            [
                one.name,
                "yes" if one.contextual else "no",
                one.description,
                ", ".join(one.parameters.get("properties", {})) or "-",
            ]
            for one in found
        ],
        lines=True,
    )


@app.command()
def decide(
    context: typer.Context,
    name: PolicyArgument,
    query: Annotated[str | None, typer.Argument(help="What the decision depends on.")] = None,
    variable: Annotated[
        list[str] | None,
        typer.Option("--var", metavar="NAME=VALUE", help="For the variant's prompt; repeatable."),
    ] = None,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask which variant to use for one query; the decision is recorded.

    ```
    kshot policy decide greeting "Good morning!" --var word=hello
    ```
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        decision = client.decide(name, query, variables=assignments(variable or []))
    if session.json:
        output.print_json(decision.reply)
        return
    chance = "unknown" if decision.probability is None else f"{decision.probability:.4f}"
    output.print_text(f"{decision.variant}, with probability {chance} (decision {decision.decision_id})")
    output.print_table(
        ["variant", "probability", "expected reward"],
        [[one.variant, one.probability, one.mean] for one in decision.ranking],
    )
    for message in decision.messages or []:
        output.print_text(f"{message['role']}: {message['content']}")


@app.command("set")
def set_variant(
    context: typer.Context,
    name: PolicyArgument,
    variant: Annotated[str, typer.Argument(help="Name of the variant.")],
    status: Annotated[str, typer.Argument(help="draft, candidate, active, paused or retired.")],
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pause, retire or activate a variant; its outcomes stay.

    ```
    kshot policy set greeting long paused
    ```
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        changed = client.update_variant(name, variant, status=status)
    if session.json:
        output.print_json(changed)
    else:
        now = next(one.status for one in changed.variants if one.name == variant)
        output.print_text(f"variant {variant} of policy {name} is {now}")


def variant_of(given: str) -> dict[str, Any]:
    """Return the variant that ``NAME``, ``NAME=PROMPT`` or ``NAME=PROMPT@VERSION-OR-LABEL`` means."""
    name, equals, reference = given.partition("=")
    if not equals:
        return {"name": name}
    prompt, at, which = reference.partition("@")
    if not at:
        return {"name": name, "prompt": {"name": prompt}}
    key = {"version": int(which)} if which.isdecimal() else {"label": which}
    return {"name": name, "prompt": {"name": prompt, **key}}


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{file} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{file} holds a {type(found).__name__}, wanted an object")
    return found


def _algorithm(policy: PolicyInfo) -> str:
    algorithm = policy.settings.get("algorithm")
    return str(algorithm.get("type")) if isinstance(algorithm, dict) else str(algorithm)


def _print(policy: PolicyInfo) -> None:
    output.print_text(
        f"policy {policy.name}, version {policy.version}: {_algorithm(policy)}, "
        f"{policy.settings.get('mode')}, learns from {policy.settings.get('metric')}"
    )
    for notice in policy.warnings:
        output.note(notice.message)
    output.print_table(
        ["variant", "status", "prompt", "outcomes", "mean"],
        [
            [
                one.name,
                one.status,
                "-" if one.prompt is None else one.prompt.get("name"),
                one.outcomes,
                one.mean,
            ]
            for one in policy.variants
        ],
        whole={"variant"},
    )


policy_reports.register(app)
