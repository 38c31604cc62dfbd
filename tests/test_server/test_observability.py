"""Metrics in the text format, log lines as JSON, and nothing said that must stay unsaid."""

import json
import logging
import subprocess
import sys

import pytest

from kshot.server.metrics import Metrics

LOGGING = """
import logging
from structlog.contextvars import bound_contextvars
from kshot.server.logs import configure, get_logger

log = get_logger("kshot.test")
log.info("before")
configure("info", "json")
with bound_contextvars(request_id="r-1"):
    log.info("selection_made", pool="tickets", k=8)
    log.debug("hidden")
    try:
        raise ValueError("secret text")
    except ValueError:
        log.exception("failed")
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    logging.getLogger("uvicorn.error").info("chatter")
"""


def test_the_server_logs_one_json_object_per_line_without_messages_of_exceptions():
    ended = subprocess.run([sys.executable, "-c", LOGGING], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert ended.stdout == ""
    assert [line["event"] for line in lines] == ["selection_made", "failed", "Exception in ASGI application"]
    first, failed, foreign = lines
    assert (first["pool"], first["k"], first["request_id"]) == ("tickets", 8, "r-1")
    assert (first["level"], first["logger"]) == ("info", "kshot.test")
    assert first["timestamp"].endswith("Z")
    for line in (failed, foreign):
        assert line["error_type"] == "ValueError"
        assert line["where"] == ["<string>:13 <module>"]
    assert "secret" not in ended.stderr


def test_an_application_that_configures_nothing_hears_nothing_of_the_ordinary(
    caplog: pytest.LogCaptureFixture,
):
    assert logging.getLogger("kshot").level == logging.NOTSET
    assert caplog.records == []


def test_a_selection_is_timed_by_phase_and_counted_by_outcome():
    metrics = Metrics()
    metrics.select_timed("tickets", "fused", {"embed": 6.0, "total": 9.0})
    metrics.select_ended("tickets", "ok")
    metrics.select_ended("tickets", "ok")
    metrics.gap_found("tickets")
    metrics.index_holds("tickets", 20_000)
    metrics.queue_holds("indexing", 3)
    text = metrics.render().decode()
    labels = 'method="fused",phase="embed",pool="tickets"'
    assert f"kshot_select_seconds_sum{{{labels}}} 0.006" in text
    assert f'kshot_select_seconds_bucket{{le="0.004",{labels}}} 0.0' in text
    assert f'kshot_select_seconds_bucket{{le="0.008",{labels}}} 1.0' in text
    assert 'kshot_select_total{outcome="ok",pool="tickets"} 2.0' in text
    assert 'kshot_coverage_gaps_total{pool="tickets"} 1.0' in text
    assert 'kshot_index_examples{pool="tickets"} 20000.0' in text
    assert 'kshot_queue_depth{queue="indexing"} 3.0' in text


def test_a_deleted_pool_is_forgotten_and_others_stay():
    metrics = Metrics()
    for pool in ("old", "kept"):
        metrics.select_timed(pool, "fused", {"total": 1.0})
        metrics.select_ended(pool, "ok")
        metrics.gap_found(pool)
        metrics.index_holds(pool, 1)
    metrics.forget_pool("old")
    text = metrics.render().decode()
    assert 'pool="old"' not in text
    assert text.count('pool="kept"') > 3


def test_two_apps_in_one_process_count_apart():
    first, second = Metrics(), Metrics()
    first.select_ended("tickets", "ok")
    assert "tickets" not in second.render().decode()
