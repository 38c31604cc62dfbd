"""Structured events on top of the standard library's logging.

Modules call ``get_logger(__name__)``; nothing is configured on import, so that an application that runs kshot
in process hears of warnings only and in its own format. `configure` is for the server process.

Never logged: texts, prompts, keys, query strings, bodies and messages of unforeseen exceptions, which may
quote any of them. Pool names, ids, counts and times are.
"""

import logging
import sys
import traceback
from typing import Literal, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

ROOT = "kshot"
_FRAMES = 6


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger of events with fields: ``log.info("selection_made", pool="tickets", k=8)``."""
    logger = structlog.wrap_logger(
        logging.getLogger(name),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
    )
    return cast("FilteringBoundLogger", logger)


def where(error: BaseException) -> list[str]:
    """Return the innermost frames of an exception, without any value."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def _without_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace an exception by its class and frames; messages may quote a text."""
    info = event.pop("exc_info", None)
    error = info if isinstance(info, BaseException) else sys.exc_info()[1] if info is True else None
    if isinstance(info, tuple):
        error = info[1]
    if error is not None:
        event["error_type"] = type(error).__name__
        event["where"] = where(error)
    return event


def _flat(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop what the standard library's records carry beside their message."""
    event.pop("color_message", None)
    return event


def configure(level: str, form: Literal["json", "console"]) -> None:
    """Send the events of kshot, and the warnings of everything else, to stderr; for server processes.

    Parameters
    ----------
    level : str
        The least severe level of kshot's own events that is shown.
    form : {"json", "console"}
        One JSON object per line, or lines for people.
    """
    renderer = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    before: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_values,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.contextvars.merge_contextvars],
            processors=[
                *before,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _flat,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level.upper())
