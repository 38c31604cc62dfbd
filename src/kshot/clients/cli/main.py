"""``kshot``: the application, its common options, and how errors become exit codes.

Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kshot import __version__
from kshot.clients.cli import (
    demo,
    difficulty,
    doctor,
    feedback,
    gaps,
    ingest,
    output,
    plans,
    policies,
    pools,
    prompts,
    score,
    scorer,
    selections,
    serve,
    tune,
)
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption, hint_for
from kshot.errors import KshotError


class Commands(TyperGroup):
    """The group of all commands: turns errors of kshot into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KshotError as error:
            _report(error, as_json=isinstance(ctx.obj, Session) and ctx.obj.json)
            raise typer.Exit(1) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            output.fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            output.note("interrupted")
            raise typer.Exit(130) from None


def _report(error: KshotError, *, as_json: bool) -> None:
    message = error.message
    if error.errors:
        # A message that is about one field need not point to it.
        alone = len(error.errors) == 1
        untold = [
            item
            for item in error.errors[:5]
            if item.message not in message or not (alone or item.pointer in message)
        ]
        fields = "; ".join(f"{item.pointer or 'body'}: {item.message}" for item in untold)
        message = f"{message} ({fields})" if fields else message
    notes = "".join(f"; {text}" for text in getattr(error, "__notes__", ()))
    request = f" [request {error.request_id}]" if error.request_id else ""
    output.fail(f"{message}{notes}{request}", hint_for(error))
    if as_json:
        output.print_json(
            {"error": {"code": error.code, "message": error.message, "request_id": error.request_id}}
        )


app = typer.Typer(
    name="kshot",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"kshot {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
    version: Annotated[  # noqa: ARG001  (handled by its callback)
        bool,
        typer.Option(
            "--version", callback=lambda value: _print_version(wanted=value), is_eager=True, help="Print it."
        ),
    ] = False,
) -> None:
    """Serve few-shot demonstrations: the best labelled examples for each query.

    Try it without any data of your own:

        kshot demo

    Then with yours, in a second terminal beside a server:

        kshot serve
        kshot ingest tickets.jsonl --pool tickets --create
        kshot select tickets "Where is my parcel?" --k 4
    """
    Session.of(context, url, data, as_json=as_json)


serve.register(app)
demo.register(app)
tune.register(pools.app)
difficulty.register(pools.app)
app.add_typer(pools.app, name="pool")
gaps.register(pools.app)
app.add_typer(plans.app, name="plan")
app.add_typer(prompts.app, name="prompt")
app.add_typer(policies.app, name="policy")
app.add_typer(scorer.app, name="scorer")
ingest.register(app)
selections.register(app)
feedback.register(app)
score.register(app)
doctor.register(app)


def run() -> None:
    """Entry point of the ``kshot`` command."""
    app()
