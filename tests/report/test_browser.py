"""Pages as a reader meets them: in Chromium, opened from disk, with every request to a network refused and counted."""

import json
import re
import shutil
from contextlib import contextmanager
from itertools import chain, product
from statistics import median

import pytest
from playwright.sync_api import sync_playwright

from lorascope.records import read
from lorascope.report import write_report

from .samples import HOSTILE, RANKS, curve_cells, rows_of, spec, write

pytestmark = pytest.mark.browser
PAGES = [
    "index", "bounds", "provenance", "suite-fnn", "suite-exactness", "suite-convergence", "suite-proximity",
    "suite-rank-allocation", "suite-final-layers", "suite-hostile", "suite-foreign", "suite-certificates",
]  # fmt: skip
REDRAWN = "[...document.querySelectorAll('.plot')].every(plot => plot._fullLayout.width === plot.clientWidth)"
DRAWN = [page for page in PAGES if page not in {"index", "provenance"}]


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium")
    if path is None:
        pytest.fail(
            "pages are tested in chromium, found none on the PATH; on Debian, as root: apt-get install chromium"
        )
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync"]  # fmt: skip
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=arguments)
        yield started
        started.close()


@contextmanager
def opened(browser, path, width=1280, scheme="light", faults=None):
    """A page without faults: an error in the console or a request that leaves the disk fails the test."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    faults = [] if faults is None else faults
    page = context.new_page()
    page.on("console", lambda message: faults.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: None if local(request.url) else faults.append(request.url))
    context.route(lambda url: not local(url), lambda route: route.abort())
    page.goto(path.as_uri())
    yield page
    context.close()
    assert faults == []


def local(url):
    return url.startswith(("file:", "data:", "blob:"))


def marks(page, chart=0):
    """How many marks each plot of a chart shows."""
    return page.locator(f"[data-chart='{chart}'] .plot").evaluate_all(
        "plots => plots.map(plot => plot.querySelectorAll('.scatterlayer .point, .scatterlayer .js-line').length)"
    )


def traces(page, meta, chart=0):
    """Panel heading -> line -> x -> y, of medians, seeds or what is reported."""
    found = page.locator(f"[data-chart='{chart}'] .panel").evaluate_all(
        """(panels, meta) => panels.map(panel => [panel.querySelector('h3').textContent,
           panel.querySelector('.plot').data.filter(trace => trace.meta === meta)
             .map(trace => [trace.name, [...trace.x], [...trace.y]])])""",
        meta,
    )
    return {head: {name: (x, y) for name, x, y in lines} for head, lines in found}


def body_rows(page):
    return page.locator("#table tbody tr").count()


def counted(page):
    return int(re.search(r"of (\d+)$", page.locator("#where").inner_text())[1])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("plain"), curve_cells("fnn"))
    return folder, write_report(folder, tmp_path_factory.mktemp("out") / "report").parent / "suite-fnn.html"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_fault_and_is_no_wider_than_the_screen(browser, pages, name):
    with opened(browser, pages / f"{name}.html") as page:
        assert page.locator("h1").inner_text()
        for scheme, width in product(("light", "dark"), (1280, 400)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function(REDRAWN)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            if name in DRAWN:
                assert sum(marks(page)) > 0


def test_dark_screens_have_dark_paper_and_light_ink(browser, plain):
    _, path = plain
    brightness = {}
    for scheme in ("light", "dark"):
        with opened(browser, path, scheme=scheme) as page:
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            ink = page.locator(".plot .xtick text").first.evaluate("tick => getComputedStyle(tick).fill")
            brightness[scheme] = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in (paper, ink)]
    assert brightness["light"][0] - brightness["light"][1] > 150
    assert brightness["dark"][1] - brightness["dark"][0] > 150


def test_that_faults_would_be_noticed(browser, tmp_path):
    wrong = tmp_path / "wrong.html"
    wrong.write_text("<h1>x</h1><script src='https://example.org/x.js'></script><script>missing()</script>")
    faults = []
    with pytest.raises(AssertionError), opened(browser, wrong, faults=faults):
        pass
    assert "https://example.org/x.js" in faults
    assert "missing is not defined" in faults


def test_medians_are_those_of_the_records(browser, plain):
    folder, path = plain
    rows = read(folder).filter(metric="test_mse").iter_rows(named=True)
    values = {}
    for row in rows:
        spec = json.loads(row["spec"])
        panel = f"{spec['init']} · depths {spec['target_depth']}/{spec['frozen_depth']} smoke"
        values.setdefault((panel, row["method"]), {}).setdefault(row["rank"], []).append(row["value"])
    with opened(browser, path) as page:
        page.get_by_label("all decades").check()
        found = traces(page, "median")
        seeds = traces(page, "seeds")
    assert {(panel, line) for panel, lines in found.items() for line in lines} == set(values)
    for (panel, line), by_rank in values.items():
        x, y = found[panel][line]
        assert x == list(RANKS)
        assert y == pytest.approx([median(by_rank[rank]) for rank in x], rel=1e-12)
        assert sorted(seeds[panel][line][1]) == pytest.approx(sorted(chain.from_iterable(by_rank.values())), rel=1e-12)


def test_filters_act_on_plots_and_table(browser, plain):
    _, path = plain
    with opened(browser, path) as page:
        before = traces(page, "median")
        assert (len(before), {len(lines) for lines in before.values()}) == (4, {4})
        assert counted(page) == 4 * 4 * 3 * len(RANKS)
        page.get_by_role("group", name="Method").get_by_label("paper").uncheck()
        after = traces(page, "median")
        assert {tuple(lines) for lines in after.values()} == {("gradient", "stable", "refined")}
        assert counted(page) == 4 * 3 * 3 * len(RANKS)
        page.get_by_role("group", name="Frozen network").get_by_label("random").uncheck()
        assert all(head.startswith("pretrained") for head in traces(page, "median"))
        assert counted(page) == 2 * 3 * 3 * len(RANKS)
        page.get_by_role("group", name="Seed").get_by_label("0").uncheck()
        page.get_by_role("group", name="Seed").get_by_label("1").uncheck()
        assert counted(page) == 2 * 3 * len(RANKS)
        assert (
            page.locator("#shown").inner_text() == f"{2 * 3 * len(RANKS)} of {4 * 4 * 3 * len(RANKS)} rows are shown."
        )
        page.get_by_role("button", name="Show all").click()
        page.wait_for_function("document.querySelector('#shown').textContent === ''")
        assert traces(page, "median") == before


def test_nothing_chosen_is_said_and_not_an_error(browser, plain):
    _, path = plain
    with opened(browser, path) as page:
        for name in ("random", "pretrained"):
            page.get_by_role("group", name="Frozen network").get_by_label(name).uncheck()
        assert page.locator(".plot").count() == 0
        assert page.locator("#where").inner_text() == "No row fits."


def test_a_filter_by_keyboard(browser, plain):
    _, path = plain
    with opened(browser, path) as page:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.value") == "paper":
                break
        page.keyboard.press("Space")
        assert {len(lines) for lines in traces(page, "median").values()} == {3}


def test_seeds_can_be_hidden_and_the_axis_changed(browser, plain):
    _, path = plain
    with opened(browser, path) as page:
        note = page.locator("[data-chart='0'] .left-out")
        assert "drawn on the lower edge" in note.inner_text()
        page.get_by_label("linear", exact=True).check()
        assert note.is_hidden()
        kinds = page.locator("[data-chart='0'] .plot").evaluate_all("all => all.map(p => p._fullLayout.yaxis.type)")
        assert set(kinds) == {"linear"}
        page.get_by_label("single seeds").uncheck()
        assert set(map(len, traces(page, "seeds").values())) == {0}
        assert set(map(len, traces(page, "median").values())) == {4}


def test_what_the_authors_report_is_drawn_beside_and_can_be_hidden(browser, pages):
    with opened(browser, pages / "suite-linear.html") as page:
        found = traces(page, "reported")["random · depths 1/2 smoke"]
        assert {line: (x[0], y[0]) for line, (x, y) in found.items()} == {"gradient": (1, 0.28), "paper": (1, 0.28)}
        page.get_by_label("medians the authors report").uncheck()
        assert set(map(len, traces(page, "reported").values())) == {0}
    with opened(browser, pages / "suite-proximity.html") as page:
        assert page.get_by_label("medians the authors report").is_hidden()


def test_errors_beyond_all_reason_are_drawn_at_the_edge_until_all_decades_are_wanted(browser, tmp_path):
    one = [spec("paper", seed=seed, dtype="float32") for seed in (0, 1)]
    values = {0: {"relative_error": 1e21, "exact": 0.0}, 1: {"relative_error": 1e-9, "exact": 1.0}}
    cells = [rows_of("exactness", one[seed], 4, values[seed]) for seed in (0, 1)]
    path = write_report(write(tmp_path / "records", cells), tmp_path / "out").parent / "suite-exactness.html"
    with opened(browser, path) as page:
        ((_, y),) = next(iter(traces(page, "seeds").values())).values()
        assert y == pytest.approx([100, 1e-9])
        assert page.locator("[data-chart='0'] .left-out").inner_text() == "1 above 1e+2 drawn on the upper edge."
        page.get_by_label("all decades").check()
        ((_, y),) = next(iter(traces(page, "seeds").values())).values()
        assert y == pytest.approx([1e21, 1e-9])


def test_the_pointer_shows_the_run(browser, plain):
    _, path = plain
    with opened(browser, path) as page:
        text = page.locator("[data-chart='0'] .plot").first.evaluate(
            "plot => plot.data.find(trace => trace.meta === 'seeds' && trace.name === 'gradient').text[0]"
        )
        told = "gradient (Adam LoRA): ", "rank: 1", "seed: ", "lr: 0.01", "weight decay: 0", "scale: smoke", "cell: "
        for part in (*told, "commit: 0123456789"):
            assert part in text
        page.locator("[data-chart='0'] .plot").first.scroll_into_view_if_needed()
        point = page.locator("[data-chart='0'] .scatterlayer .point").first.bounding_box()
        page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
        page.locator(".hoverlayer .hovertext").first.wait_for()


def test_the_table_is_sorted_and_searched(browser, plain):
    _, path = plain
    with opened(browser, path) as page:
        assert body_rows(page) == 25
        head = page.get_by_role("columnheader", name="test mse")
        column = head.evaluate("head => head.cellIndex") + 1
        values = page.locator(f"#table tbody td:nth-child({column})")
        for order in ("ascending", "descending"):
            head.get_by_role("button").click()
            assert head.get_attribute("aria-sort") == order
            found = [float(title) for title in values.evaluate_all("cells => cells.map(cell => cell.title)")]
            assert found == sorted(found, reverse=order == "descending")
        page.get_by_label("Search").fill("refined pretrained 2/4")
        assert counted(page) == body_rows(page) == 3 * len(RANKS)


def test_failed_runs_say_why_and_words_from_records_do_not_run(browser, pages):
    for name in ("suite-hostile", "provenance", "index", "bounds"):
        with opened(browser, pages / f"{name}.html") as page:
            assert "run" not in page.title()
            assert page.locator("img").count() == 0
            if name != "suite-hostile":
                continue
            page.get_by_role("group", name="Status").get_by_label("ok").uncheck()
            assert body_rows(page) == 2
            assert f"failed: {HOSTILE[:20]}" in page.locator("#table tbody tr").first.text_content()
            page.get_by_role("button", name="Show all").click()
            page.wait_for_function("document.querySelector('#shown').textContent === ''")
            assert "without a finite value not drawn" in page.locator("[data-chart='0'] .left-out").inner_text()


def test_all_suites_are_reached_from_the_overview(browser, pages):
    with opened(browser, pages / "index.html") as page:
        links = page.locator(".card h2 a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert sorted(links) == sorted(path.name for path in pages.glob("suite-*.html"))
    with opened(browser, pages / "index.html") as page:
        page.get_by_role("link", name="Linear networks").click()
        page.wait_for_selector(".plot .scatterlayer")
