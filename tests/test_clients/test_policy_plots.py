"""Reports of policies as pictures and pages: what is drawn, and what is escaped."""

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from kshot.clients.plots import policy_report_html, policy_report_png
from kshot.clients.plots.canvas import HEIGHT_PX, WIDTH_PX
from kshot.clients.plots.policy_series import COLOURS, arm_lines, summary
from kshot.schemas.base import Notice
from kshot.schemas.decisions import ArmPeriod, ArmReport, Period, PolicyReport

START = datetime(2026, 11, 1, tzinfo=UTC)
HOSTILE = '</title><script>alert(1)</script> & "it\'s"'


def make_report(variants=("a", "b"), periods=4, **changes):
    """Return a report in which variant i has share 1 / n, and rewards 0.2 + 0.1 i, but none in period 1."""

    def cell(index, name, period):
        known = period != 1
        return ArmPeriod(
            variant=name,
            decisions=10,
            share=1 / len(variants),
            outcomes=8 if known else 0,
            mean=0.2 + 0.1 * index if known else None,
            low=0.1 if known else None,
            high=0.9 if known else None,
        )

    return PolicyReport(
        **{
            "policy": "greeting",
            "arms": [
                ArmReport(
                    variant=name,
                    status="active",
                    decisions=10 * periods + index,
                    share=1 / len(variants),
                    outcomes=8,
                    feedback_rate=0.8,
                    mean=0.5,
                    low=0.25,
                    high=0.75,
                    cost=None,
                )
                for index, name in enumerate(variants)
            ],
            "periods": [
                Period(
                    start=START + period * timedelta(hours=1),
                    end=START + (period + 1) * timedelta(hours=1),
                    arms=[cell(index, name, period) for index, name in enumerate(variants)],
                )
                for period in range(periods)
            ],
            "hold_out_mean": 0.4,
            "policy_mean": 0.6,
            "alarms": [],
            **changes,
        }
    )


def drawing(page, number):
    """Return one of the page's drawings as a tree."""
    found = re.findall(r"<svg viewBox.*?</svg>", page, re.DOTALL)
    return ET.fromstring(found[number])


def test_most_used_variants_come_first_and_keep_their_colours():
    lines = arm_lines(make_report(("a", "b", "c")))
    assert [line.variant for line in lines] == ["c", "b", "a"]
    assert [line.colour for line in lines] == list(COLOURS[:3])
    many = arm_lines(make_report(tuple(f"v{i}" for i in range(10))))
    # Where colours repeat, dashes tell apart.
    assert len({(line.colour, line.dash) for line in many}) == 10


def test_the_summary_counts():
    assert summary(make_report()) == ("81 decisions · 16 outcomes · mean reward 0.600 · decided evenly 0.400")


def test_traffic_is_stacked_to_the_whole():
    areas = drawing(policy_report_html(make_report()), 0).findall("polygon")
    heights = [
        {float(y) for _, y in (point.split(",") for point in area.get("points").split())} for area in areas
    ]
    # 240 units high: the first from the bottom to the middle, the second from there to the top.
    assert heights == [{240.0, 120.0}, {120.0, 0.0}]


def test_rewards_are_drawn_where_there_are_some():
    tree = drawing(policy_report_html(make_report()), 1)
    lines = tree.findall("polyline")
    assert [len(line.get("points").split()) for line in lines] == [3, 3]
    assert {point.split(",")[1] for point in lines[0].get("points").split()} == {f"{240 * 0.7:.1f}"}
    assert len(tree.findall("circle")) == 6


def test_the_page_has_every_number_and_allows_nothing_but_its_own_style():
    page = policy_report_html(make_report())
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src &#x27;none&#x27;; style-src &#x27;sha256-{digest}&#x27;" in page
    assert "<script" not in page
    assert "style=" not in page
    for text in ("40</td>", "50.0%", "0.2500 to 0.7500", "2026-11-01 04:00 UTC"):
        assert text in page


def test_hostile_names_and_messages_are_texts():
    page = policy_report_html(
        make_report((HOSTILE, "b"), policy=HOSTILE, alarms=[Notice(code="x", message=HOSTILE)])
    )
    assert "<script>" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4


@pytest.mark.parametrize("report", [make_report(), make_report(periods=0), make_report(("only",), periods=1)])
def test_a_picture_has_its_size_and_something_on_it(report, tmp_path):
    image = pytest.importorskip("matplotlib.image", reason="kshot[plots] is an extra")
    policy_report_png(report, tmp_path / "report.png")
    pixels = image.imread(tmp_path / "report.png")
    assert pixels.shape[:2] == (HEIGHT_PX, WIDTH_PX)
    assert len(np.unique(pixels[..., :3].reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize("report", [make_report(periods=0), make_report(("only",), periods=1)])
def test_a_policy_without_much_history_has_a_page_too(report):
    page = policy_report_html(report)
    assert page.count("<svg viewBox") == 2
    assert "nan" not in page
