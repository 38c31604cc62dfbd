"""``kshot doctor``: whether everything is in place."""

import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import typer
from rich.text import Text

from kshot import __version__
from kshot.clients.cli import output
from kshot.clients.cli.session import (
    DATA_VARIABLE,
    DEFAULT_DATA,
    DataOption,
    JsonOption,
    Session,
    UrlOption,
    read_owner_url,
)
from kshot.clients.sdk.client import Client
from kshot.clients.sdk.config import BASE_URL_VARIABLE
from kshot.errors import KshotError, MissingDependency

_REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)[^;]*(;.*extra == ['\"](?P<extra>[a-z]+)['\"])?")


class Outcome(StrEnum):
    """How a check ended; only `FAILED` means that something is broken."""

    OK = "ok"
    SKIPPED = "skipped"
    FAILED = "failed"


_OUTCOME_TO_STYLE = {Outcome.OK: "green", Outcome.SKIPPED: "dim", Outcome.FAILED: "bold red"}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    outcome: Outcome
    detail: str


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    context: typer.Context, url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Check Python, packages, data folder, server, scorer and model; the exit code is 1 if one is broken.

    What is not installed, or not named, is skipped.

    ```
    kshot doctor
    kshot doctor --url http://127.0.0.1:8080
    kshot doctor --data /srv/kshot --json
    ```
    """
    session = Session.of(context, url, data, as_json=as_json)
    checks = []
    for check in _checks(session):
        checks.append(check)
        if not session.json:
            mark = Text(f"{check.outcome:8}", style=_OUTCOME_TO_STYLE[check.outcome])
            output.out.print(
                mark, Text(f"{check.name:12}"), Text(output.printable(check.detail)), soft_wrap=True
            )
    failed = any(check.outcome is Outcome.FAILED for check in checks)
    if session.json:
        output.print_json({"ok": not failed, "checks": [asdict(check) for check in checks]})
    if failed:
        raise typer.Exit(1)


def _checks(session: Session) -> Iterator[Check]:
    folder = session.data or Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA)
    yield Check(
        "python", Outcome.OK, f"{platform.python_version()} on {platform.platform()}, {sys.executable}"
    )
    yield Check("kshot", Outcome.OK, __version__)
    yield from _packages()
    yield _data_folder(folder)
    yield from _server(session.url or os.environ.get(BASE_URL_VARIABLE) or read_owner_url(folder))
    yield _model()
    yield _segments(folder)


def _packages() -> Iterator[Check]:
    extra_to_names: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("kshot") or []:
        match = _REQUIREMENT.match(requirement)
        if match is not None:
            extra_to_names.setdefault(match["extra"] or "base", []).append(match["name"])
    for extra, names in extra_to_names.items():
        found = {name: _installed_version(name) for name in names}
        missing = [name for name, version in found.items() if version is None]
        present = ", ".join(f"{name} {version}" for name, version in found.items() if version is not None)
        if not missing:
            yield Check(extra, Outcome.OK, present)
        elif extra == "base":
            yield Check(extra, Outcome.FAILED, f"missing: {', '.join(missing)}")
        else:
            install = f'pip install "kshot[{extra}]"'
            yield Check(extra, Outcome.SKIPPED, f"missing: {', '.join(missing)}; {install}")


def _installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _data_folder(folder: Path) -> Check:
    # The first of the folder and its parents that exists is where something would be written.
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not place.is_dir():
        return Check("data folder", Outcome.FAILED, f"{place} is no folder")
    if not os.access(place, os.W_OK | os.X_OK):
        return Check("data folder", Outcome.FAILED, f"{place} is not writable")
    state = "writable" if folder.exists() else "not there yet; it can be made"
    return Check("data folder", Outcome.OK, f"{folder}: {state}")


def _server(url: str | None) -> Iterator[Check]:
    if url is None:
        yield Check("server", Outcome.SKIPPED, "none is named and none runs on the data folder")
        return
    with Client(url, timeout_s=5.0, max_retries=0) as client:
        try:
            version, readiness = client.version(), client.ready()
        except KshotError as error:
            yield Check("server", Outcome.FAILED, error.message)
            return
        if readiness.ready:
            different = "" if version.version == __version__ else f", this is {__version__}"
            yield Check("server", Outcome.OK, f"{url} runs kshot {version.version}{different}")
        else:
            yield Check("server", Outcome.FAILED, f"{url} is not ready: {readiness.checks}")
        yield _scorer(client)


def _scorer(client: Client) -> Check:
    try:
        info = client.scorer()
    except KshotError as error:
        return Check("likelihoods", Outcome.FAILED, error.message)
    if info.state == "none":
        return Check("likelihoods", Outcome.SKIPPED, "none is configured; kshot serve --scorer-url URL")
    if info.state != "ok":
        return Check("likelihoods", Outcome.FAILED, info.state if info.detail is None else info.detail)
    without = "".join(f"; without {reason}" for reason in info.refusals)
    if info.audit is not None and info.audit.alarm_nats is not None:
        without += f"; alarm: two ways to score differ by {info.audit.alarm_nats:.2g} nats per token"
    return Check("likelihoods", Outcome.OK, f"{info.backend} {info.model}: {', '.join(info.modes)}{without}")


def _model() -> Check:
    try:
        from kshot.server.inspection import check_model  # noqa: PLC0415  (heavy, and an extra)

        return Check("model", Outcome.OK, check_model())
    except (ModuleNotFoundError, MissingDependency):
        return Check("model", Outcome.SKIPPED, 'not installed; pip install "kshot[server,embedded]"')
    except KshotError as error:
        return Check("model", Outcome.FAILED, error.message)


def _segments(folder: Path) -> Check:
    try:
        from kshot.server.inspection import check_segments  # noqa: PLC0415  (heavy, and an extra)
    except ModuleNotFoundError:
        return Check("segments", Outcome.SKIPPED, 'not installed; pip install "kshot[server]"')
    report = check_segments(folder)
    if report.corrupt:
        return Check(
            "segments", Outcome.FAILED, "; ".join(report.corrupt) + "; the next start recomputes them"
        )
    return Check("segments", Outcome.OK, f"{report.checked} verified, {report.disk_bytes:,} bytes")
