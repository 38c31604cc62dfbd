"""Runs ``kshot`` inside the test's own process."""

import json
from typing import Any

from typer.testing import CliRunner

from kshot.clients.cli import output
from kshot.clients.cli.main import app


class Run:
    """The outcome of one command."""

    def __init__(self, *arguments: object, stdin: str | bytes | None = None) -> None:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        self.code = result.exit_code
        self.out = result.stdout
        self.err = result.stderr

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def forget_environment(monkeypatch, folder) -> None:
    """Let no server, folder or key of the machine be found; tables are wide enough not to be cut."""
    for name in ("KSHOT_BASE_URL", "KSHOT_API_KEY", "KSHOT_DATA", "KSHOT_HOST", "KSHOT_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    # The console has asked for the width once, where it was imported with one set.
    monkeypatch.setattr(output.out, "width", 200)
    monkeypatch.chdir(folder)
