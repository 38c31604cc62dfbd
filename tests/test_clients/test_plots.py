"""Budget curves as pictures and pages: what is drawn, what is escaped, and what a real browser does."""

import base64
import hashlib
import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from kshot.clients.plots import budget_curve_html, budget_curve_png
from kshot.clients.plots.canvas import HEIGHT_PX, WIDTH_PX
from kshot.clients.plots.series import series_of
from kshot.errors import MissingDependency
from kshot.schemas.curves import (
    BudgetCurve,
    CurvePoint,
    LabelsNeeded,
    ObjectivePoint,
    RandomPoint,
    RandomSeries,
)
from tests.test_clients.browser import CHROMIUM, browsing

BUDGETS = (1, 2, 5, 10, 20, 50, 100, 200)
HOSTILE = """</script><script>document.title='gone'</script><img src=x onerror=alert(1)> & "it's" {}"""


def make_curve(method="fast_vote_k", *, labelled=0, k_center=True, objective=True, budgets=BUDGETS):
    """Return a curve of round numbers: mean 0.5 at 1 label, 0.1 more per point; random 0.05 below."""
    place = {budget: i for i, budget in enumerate(budgets)}
    mean = {budget: round(0.5 + 0.06 * i, 3) for budget, i in place.items()}
    return BudgetCurve(
        method=method,
        budget=100,
        labelled=labelled,
        unlabelled=1000,
        rows_measured=400,
        points=[CurvePoint(budget=b, mean=mean[b], p10=round(mean[b] - 0.2, 3)) for b in budgets],
        random=RandomSeries(
            seeds=20,
            points=[
                RandomPoint(
                    budget=b,
                    mean=round(mean[b] - 0.05, 3),
                    mean_low=round(mean[b] - 0.07, 3),
                    mean_high=round(mean[b] - 0.03, 3),
                    p10=round(mean[b] - 0.25, 3),
                    p10_low=round(mean[b] - 0.28, 3),
                    p10_high=round(mean[b] - 0.22, 3),
                )
                for b in budgets
            ],
        ),
        k_center=[CurvePoint(budget=b, mean=0.4, p10=0.3) for b in budgets if b <= 100] if k_center else None,
        objective=[ObjectivePoint(budget=b, value=float(b) ** 0.5) for b in budgets] if objective else [],
        needed=LabelsNeeded(
            share=0.9,
            budget=160,
            random_budget=190,
            tried=200,
            random_tried=200,
            sentence=f"160 labels by {method} reach 90 % of the coverage of labelling everything.",
        ),
    )


def pixels(path):
    from matplotlib.image import imread  # noqa: PLC0415

    return np.round(imread(path)[:, :, :3] * 255).astype(int)


def near(image, colour, within=6):
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return np.abs(image - wanted).max(axis=2) <= within


def test_the_picture_has_its_size_and_shows_every_line(tmp_path):
    path = tmp_path / "curve.png"
    budget_curve_png(make_curve(), path)
    image = pixels(path)
    assert image.shape[:2] == (HEIGHT_PX, WIDTH_PX)
    for one in series_of(make_curve()):
        found = near(image, one.light)
        # In the axes, and in the legend beside them.
        assert found[:, : int(0.75 * WIDTH_PX)].sum() > 300, one.key
        assert found[:, int(0.79 * WIDTH_PX) :].sum() > 100, one.key
    assert (image == 255).all(axis=2).mean() < 0.97


def test_a_line_rises_as_its_numbers_do(tmp_path):
    path = tmp_path / "curve.png"
    budget_curve_png(make_curve(objective=False, k_center=False), path)
    axes = near(pixels(path), series_of(make_curve())[0].light)[:, : int(0.775 * WIDTH_PX)]
    rows, columns = np.nonzero(axes)
    left, right = columns.min(), columns.max()
    start = rows[columns <= left + 5].min()
    end = rows[columns >= right - 5].min()
    # The upper of the two lines starts at 0.5 and ends at 0.92 of an axis that reaches up to 1.
    assert end < start


@pytest.mark.parametrize(
    "options",
    [
        {"labelled": 7, "budgets": (0, *BUDGETS)},
        {"method": "k_center"},
        {"k_center": False, "objective": False},
        {"budgets": (1,)},
        {"budgets": (0,), "labelled": 1},
        {"budgets": ()},
        {"method": "a_name_that_is_far_longer_than_any_planner_of_ours_would_ever_have"},
    ],
)
def test_every_curve_can_be_drawn(tmp_path, options):
    path = tmp_path / "curve.png"
    budget_curve_png(make_curve(**options), path)
    assert pixels(path).shape[:2] == (HEIGHT_PX, WIDTH_PX)
    assert "<h1>" in budget_curve_html(make_curve(**options))


def test_without_matplotlib_the_install_line_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency) as caught:
        budget_curve_png(make_curve(), tmp_path / "curve.png")
    assert caught.value.message == (
        'a budget curve as a picture needs matplotlib, which is not installed: pip install "kshot[plots]"'
    )
    assert not (tmp_path / "curve.png").exists()


def test_a_page_needs_nothing_beyond_the_base_requirements():
    code = (
        "import kshot.clients.plots, sys\n"
        "print(sorted({'numpy', 'matplotlib', 'scipy'} & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


def test_k_center_is_not_drawn_twice():
    assert [one.key for one in series_of(make_curve("k_center"))] == ["method", "random"]
    assert [one.key for one in series_of(make_curve())] == ["method", "random", "k_center"]


class Elements(HTMLParser):
    """What a page consists of: tags with their attributes, and the texts within them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in {"meta", "input"}:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))

    def within(self, tag):
        return [text for inside, text in self.texts if inside == tag]


def test_the_page_is_whole_and_loads_nothing():
    page = Elements(budget_curve_html(make_curve()))
    assert page._open == []
    for tag, attributes in page.found:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "a"}
        assert not {"src", "href", "style", "srcset"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    # The name of SVG elements is an address that nobody asks for.
    assert "://" not in budget_curve_html(make_curve()).replace("http://www.w3.org/2000/svg", "")


def test_the_policy_allows_the_own_style_and_script_and_nothing_else():
    page = Elements(budget_curve_html(make_curve()))
    (policy,) = [
        attributes["content"]
        for tag, attributes in page.found
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    (style,) = page.within("style")
    _, script = page.within("script")
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'"
    )


def test_the_page_holds_every_number_and_the_answer():
    curve = make_curve()
    page = Elements(budget_curve_html(curve))
    data = json.loads(page.within("script")[0])
    assert [point["mean"] for point in data["series"][0]["points"]] == [point.mean for point in curve.points]
    assert data["needed"] == {"method": 160, "random": 190}
    assert curve.needed.sentence in page.within("p")
    cells = page.within("td")
    for point in curve.points:
        assert f"{point.mean:.4f}" in cells
        assert f"{point.p10:.4f}" in cells
    assert f"{curve.random.points[0].mean_low:.4f}–{curve.random.points[0].mean_high:.4f}" in page.within(
        "small"
    )


def test_no_text_becomes_markup():
    hostile = Elements(budget_curve_html(make_curve(HOSTILE)))
    plain = Elements(budget_curve_html(make_curve()))
    assert [tag for tag, _ in hostile.found] == [tag for tag, _ in plain.found]
    assert HOSTILE in "".join(hostile.within("th"))
    assert json.loads(hostile.within("script")[0])["budget"] == 100


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsing(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def open_page(browser, tmp_path):
    def opened(curve, **options):
        path = tmp_path / "curve.html"
        path.write_text(budget_curve_html(curve), "utf-8")
        browser.open(path, **options)
        return browser

    return opened


in_a_browser = [
    pytest.mark.component,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]


def readout(page, row, cell):
    return page.evaluate(f"document.querySelector('[data-row={row}] [data-cell={cell}]').textContent")


class TestInABrowser:
    pytestmark = in_a_browser

    def test_the_chart_is_drawn_without_complaints(self, open_page):
        page = open_page(make_curve())
        assert page.messages == []
        assert page.evaluate("document.querySelectorAll('#chart path.line').length") == 7
        assert page.evaluate("document.querySelectorAll('#chart path.band').length") == 2
        assert page.evaluate("document.querySelector('#chart title').textContent").startswith("Similarity of")
        # Nothing sticks out of the page.
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def test_it_starts_at_the_plan_and_shows_its_numbers(self, open_page):
        page = open_page(make_curve())
        assert page.evaluate("document.getElementById('at').textContent") == "100 labels"
        assert readout(page, "method", "mean") == "0.860"
        assert readout(page, "method", "p10") == "0.660"
        assert readout(page, "random", "mean") == "0.8100.790–0.830"
        assert readout(page, "k_center", "mean") == "0.400"
        assert page.evaluate("document.querySelector('[data-cell=objective]').textContent") == "10"

    def test_hovering_reads_the_nearest_budget(self, open_page):
        page = open_page(make_curve())
        box = page.evaluate(
            "(() => { const b = document.getElementById('chart').getBoundingClientRect();"
            "return [b.left, b.top, b.width]; })()"
        )
        page.hover(box[0] + 60, box[1] + 100)
        assert page.evaluate("document.getElementById('at').textContent") == "1 label"
        assert readout(page, "method", "mean") == "0.500"
        page.hover(box[0] + box[2] - 15, box[1] + 100)
        assert page.evaluate("document.getElementById('at').textContent") == "200 labels"
        # k-center ends at the plan.
        assert readout(page, "k_center", "mean") == "–"
        assert page.evaluate("document.querySelectorAll('#cursor .k_center').length") == 0
        assert page.evaluate("document.querySelectorAll('#cursor .method').length") == 3

    def test_the_slider_works_by_keyboard(self, open_page):
        page = open_page(make_curve())
        page.evaluate("document.getElementById('budget').focus()")
        page.press("ArrowLeft")
        assert page.evaluate("document.getElementById('at').textContent") == "50 labels"
        assert (
            page.evaluate("document.getElementById('budget').getAttribute('aria-valuetext')") == "50 labels"
        )
        page.press("Home")
        assert readout(page, "method", "mean") == "0.500"

    def test_series_and_statistics_can_be_left_out(self, open_page):
        page = open_page(make_curve())
        page.click('input[value="random"]')
        assert page.evaluate("document.querySelectorAll('#chart [data-series=random]').length") == 0
        assert page.evaluate("document.querySelector('[data-row=random]').hidden")
        page.click('input[value="p10"]')
        assert page.evaluate("document.querySelectorAll('#chart path.p10').length") == 0
        assert page.evaluate("document.querySelectorAll('#chart path.line').length") == 3
        page.click('input[value="random"]')
        assert page.evaluate("document.querySelectorAll('#chart path.band').length") == 1

    def test_a_linear_scale_puts_budgets_in_proportion(self, open_page):
        page = open_page(make_curve())
        places = (
            "[...document.querySelector('#chart .method path.line').getAttribute('d')"
            ".matchAll(/[ML]([0-9.]+) /g)].map((found) => Number(found[1]))"
        )
        page.click('input[value="linear"]')
        found = page.evaluate(places)
        # From 1 to 200 labels: 100 stand at 99 parts of 199.
        assert (found[6] - found[0]) / (found[7] - found[0]) == pytest.approx(99 / 199, abs=1e-3)
        page.click('input[value="log"]')
        found = page.evaluate(places)
        assert (found[3] - found[0]) / (found[6] - found[0]) == pytest.approx(0.5, abs=1e-3)

    def test_hostile_text_stays_text(self, open_page):
        page = open_page(make_curve(HOSTILE))
        assert page.messages == []
        assert page.evaluate("document.title") != "gone"
        assert page.evaluate("document.images.length") == 0
        assert HOSTILE in page.evaluate("document.querySelector('[data-row=method] th').textContent")

    def test_the_policy_stops_a_foreign_script(self, open_page):
        page = open_page(make_curve())
        page.evaluate(
            "(() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
            "document.body.append(s); })()"
        )
        assert page.evaluate("window.ran === undefined")

    @pytest.mark.parametrize(("dark", "wanted"), [(False, "rgb(255, 255, 255)"), (True, "rgb(16, 22, 29)")])
    def test_it_follows_the_light_or_dark_setting(self, open_page, dark, wanted):
        page = open_page(make_curve(), dark=dark)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == wanted

    @pytest.mark.parametrize(
        "options",
        [
            {"labelled": 7, "budgets": (0, *BUDGETS)},
            {"budgets": (1,)},
            {"budgets": ()},
            {"method": "k_center", "objective": False},
        ],
    )
    def test_every_curve_is_drawn_without_complaints(self, open_page, options):
        page = open_page(make_curve(**options), width=420)
        assert page.messages == []
        assert "NaN" not in page.evaluate("document.getElementById('chart').outerHTML")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def test_a_narrow_window_still_shows_the_chart(self, open_page, tmp_path):
        page = open_page(make_curve(), width=360, height=800)
        assert page.evaluate("document.getElementById('chart').getBoundingClientRect().width") <= 360
        shot = tmp_path / "narrow.png"
        page.screenshot(shot)
        assert near(pixels(shot), series_of(make_curve())[0].light).sum() > 200


def test_the_page_comes_with_the_package():
    folder = Path(budget_curve_png.__code__.co_filename).parent
    assert {path.name for path in folder.iterdir() if path.suffix in {".js", ".css"}} == {
        "budget_curve.js",
        "budget_curve.css",
    }
