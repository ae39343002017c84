"""What pages say without a browser: nothing from elsewhere, nothing that runs, every number where it belongs."""

import json
import math
import re
import time
from html.parser import HTMLParser

import polars as pl
import pytest

from lorascope.figures.style import METHODS, line_styles
from lorascope.records import canonical_json, cell_name, cell_seed, read, write_part
from lorascope.report import write_report
from lorascope.report.charts import ERROR, charts
from lorascope.report.fields import all_fields, fields
from lorascope.report.headline import headline
from lorascope.report.pages import pages as made
from lorascope.report.payload import as_json
from lorascope.report.reported import reported
from lorascope.report.runs import collect
from lorascope.report.sparkline import sparkline
from lorascope.report.styles import DARK, LIGHT, styles
from lorascope.report.tables import bounds, certificates, exactness, origins

from .samples import HOSTILE, RANKS, all_cells, bound_cells, curve_cells, rows_of, spec

ATTRIBUTES = {"src", "href", "action", "data", "poster", "srcset"}


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.scripts, self.links, self.handlers, self.tags, self.open = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.scripts += [dict(attrs)] if tag == "script" else []
        self.links += [value for name, value in attrs if name in ATTRIBUTES]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def collected(cells):
    return collect(pl.DataFrame([row for rows in cells for row in rows], infer_schema_length=None))


def chart_and_rows(cells, suite):
    runs = collected(cells)
    rows = all_fields(runs)
    return charts(suite, rows, list({name for run in runs for name in run.metrics}))[0], rows


def test_pages_name_files_of_the_folder_alone(pages):
    present = {path.name for path in pages.iterdir()}
    for path in pages.glob("*.html"):
        for link in Elements(path.read_text()).links:
            assert link == "data:," or link.startswith("#") or link.partition("#")[0] in present, (path.name, link)
    for path in (*pages.glob("*.css"), *(one for one in pages.glob("*.js") if one.name != "plotly.min.js")):
        found = set(re.findall(r"[a-z]+://[^\s\"']+|url\(|@import|fetch\(|XMLHttpRequest", path.read_text()))
        assert found <= {"http://www.w3.org/2000/svg"}, path.name  # a name, which nobody fetches


def test_nothing_from_the_records_is_markup(pages):
    own = {"report.js", "filters.js", "plots.js", "table.js", "start.js", "plotly.min.js"}
    for path in pages.glob("*.html"):
        found = Elements(path.read_text())
        assert {one.get("src") for one in found.scripts} - {None} <= own
        assert all(one.get("type") == "application/json" for one in found.scripts if "src" not in one)
        assert found.handlers == []
        assert "img" not in found.tags
    assert HOSTILE not in "".join(path.read_text() for path in pages.glob("*.html"))


def test_that_markup_would_be_noticed():
    found = Elements(f"<p>{HOSTILE}</p>")
    assert (len(found.scripts), found.tags[-1], found.handlers) == (1, "img", ["onerror"])


@pytest.mark.parametrize("value", [HOSTILE, "<!--", "&amp;", "\u2028", "é", "]]>", None, [1.5, {"a": True}]])
def test_json_says_what_it_was_given(value):
    text = str(as_json({"value": value}))
    assert json.loads(text) == {"value": value}
    assert not set("<>&") & set(text)


def test_json_has_words_for_what_is_no_number():
    content = json.loads(str(as_json({"values": [math.nan, math.inf, -math.inf, 1e308]})))
    assert content == {"values": ["NaN", "Infinity", "-Infinity", 1e308]}


def test_a_page_has_each_run_once(records, pages):
    text = (pages / "suite-fnn.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    table = read(records).filter(suite="fnn", metric="test_mse")
    assert data["count"] == len(table)
    assert sorted(data["fields"]["test_mse"]) == sorted(table["value"])


def test_counts_of_cells_and_failures(pages):
    text = " ".join(re.sub("<[^>]*>", " ", (pages / "index.html").read_text()).split())
    cells = {(row["suite"], row["cell"]) for rows in all_cells() for row in rows}
    failed = {(row["suite"], row["cell"]) for rows in all_cells() for row in rows if row["status"] == "failed"}
    assert f"Cells {len(cells)} With a failure {len(failed)}" in text
    assert "5 cells ok" not in text  # of the hostile suite's five one failed
    assert "4 cells ok 1 cell with a failure" in text


def test_colours_and_markers_are_the_figures():
    figures = line_styles(METHODS.values())
    shapes = {"o": "circle", "v": "triangle-down", "^": "triangle-up", "s": "square", "D": "diamond", "*": "star",
              "P": "cross"}  # fmt: skip
    rows = [{"line": method, "method": method} for method in METHODS]
    ours = styles(ERROR, rows)
    assert list(ours) == list(METHODS)
    for method, name in METHODS.items():
        assert LIGHT[ours[method]["colour"]] == figures[name].colour
        assert ours[method]["symbol"] == shapes[figures[name].marker]
        assert ours[method]["label"] == name


def test_the_style_sheet_has_the_palette(pages):
    text = (pages / "report.css").read_text()
    for place, (light, dark) in enumerate(zip(LIGHT, DARK, strict=True)):
        assert re.findall(rf"--c{place}: (#\w+);", text) == [light, dark]


def contrast(one, other):
    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_and_lines_stand_out_from_the_paper(pages, scheme):
    text = (pages / "report.css").read_text()
    colours = {name: re.findall(rf"--{name}: (#\w+);", text)[scheme] for name in
               ("paper", "raised", "ink", "faint", "accent", "bad", *(f"c{n}" for n in range(8)))}  # fmt: skip
    for name in ("ink", "faint", "accent", "bad"):
        assert min(contrast(colours[name], colours[paper]) for paper in ("paper", "raised")) >= 4.5, name
    for name in (f"c{place}" for place in range(8)):
        assert contrast(colours[name], colours["paper"]) >= 2, name


def test_lines_of_one_method_differ():
    rows = [{"line": line, "method": "gradient"} for line in ("gradient", "gradient, biases fixed")]
    found = styles(ERROR, rows)
    assert found["gradient"]["colour"] != found["gradient, biases fixed"]["colour"]
    assert found["gradient, biases fixed"]["label"] == "gradient (Adam LoRA), biases fixed"


def test_headlines_compare_where_there_is_an_error_left():
    text = headline(*chart_and_rows(curve_cells("fnn"), "fnn"))
    assert text.startswith("Random frozen network, depths 1/2, mean squared error at rank 4: 0.02")
    assert text.index("(refined)") < text.index("(gradient)") < text.index("(stable)") < text.index("(paper)")
    assert text.endswith("; below 1e-12 from rank 8 on: refined, stable (medians over 3 runs).")


def test_headlines_of_the_other_kinds():
    by_suite = {}
    for rows in all_cells():
        by_suite.setdefault(rows[0]["suite"], []).append(rows)
    told = {suite: headline(*chart_and_rows(cells, suite)) for suite, cells in by_suite.items()}
    exact = "paper exact in 16 of 33 settings, stable exact in 32 of 32 settings"
    assert told["exactness"] == f"At the rank needed: {exact}."
    assert told["certificates"].startswith("The bound holds in 36 of 36 runs; at the median it is 4 times")
    assert "lowest at 5+7+9+11" in told["rank-allocation"]
    assert "from 2 layers to 8 layers: 0.75 to 0.19 (rank 1)" in told["depth"]
    assert "from 1 steps to 10000 steps" in told["convergence"]
    assert told["foreign"].startswith("Score against seed") or told["foreign"].startswith("score lowest at seed 0")


def test_a_suite_that_only_failed_says_so():
    runs = collected([[row for rows in all_cells() for row in rows if row["status"] == "failed"]])
    folder = dict(made(runs, "here", lambda *_: None))
    assert "No run gave a result." in folder["index.html"]


def test_small_pictures_lie_in_their_frame(pages):
    text = (pages / "index.html").read_text()
    points = re.findall(r'points="([^"]*)"', text)
    numbers = [float(number) for one in points for pair in one.split() for number in pair.split(",")]
    assert len(points) > 20
    assert min(numbers) >= 0
    assert max(numbers) <= 180
    chart, rows = chart_and_rows(curve_cells("fnn", seeds=(0,)), "fnn")
    picture = sparkline(chart, rows, styles(chart, rows))
    assert picture.count("<polyline") == 4
    assert picture.count("<circle") == 4 * len(RANKS)


def test_exactness_counts_failures_as_settings():
    runs = [run for run in collected(bound_cells()) if run.suite == "exactness"]
    rows = [fields(run) | {"target": run.spec["target_depth"]} for run in runs]
    found = {tuple(row[1:5]): row[5:] for row in exactness(rows).rows}
    assert found["fnn", "float32", "8", "paper"] == ("1", "0", "1", "-", "-")
    assert found["fnn", "float32", "1", "paper"][:3] == ("4", "0", "0")
    assert found["transformer", "float64", "2", "stable"][:3] == ("4", "4", "0")
    assert sum(int(row[5]) for row in exactness(rows).rows) == len(rows)


def test_a_bound_that_does_not_hold_is_counted():
    metrics = {"test_mse": 1.0, "error_bound": 1.0}
    rows = [fields(run) for run in collected([rows_of("s", spec("stable", seed=0), 1, metrics | {"error_bound": 9.0}),
                                              rows_of("s", spec("stable", seed=1), 1, metrics)])]  # fmt: skip
    assert bounds(rows).rows[0][5] == "1 of 2"
    nothing = [fields(run) for run in collected([rows_of("s", spec("stable"), 1, metrics | {"test_mse": math.nan})])]
    assert bounds(nothing).rows[0][5:] == ("0 of 1", "-", "-")
    told = certificates([fields(run) for run in collected(bound_cells()) if run.suite == "certificates"])
    assert {row[-1] for row in told.rows} == {"2 of 2"}
    assert [row[4] for row in told.rows[:3]] == ["1", "4", "8"]


def test_origins_add_up():
    runs = collected(curve_cells("fnn"))
    (row,) = origins(runs).rows
    assert row[:5] == ("fnn", "smoke", "0.1.0", "0123456789", "cpu")
    assert (row[5], float(row[6])) == (str(len({run.cell for run in runs})), len(runs) * 0.25)


def test_what_the_authors_report_lies_in_the_panel_it_is_of():
    cells = list(curve_cells("fnn-depths"))
    chart, _ = chart_and_rows(cells, "fnn-depths")
    found = {
        (one["panel"]["init"], one["panel"]["depths"], one["line"]): one for one in reported(chart, collected(cells))
    }
    paper = found["random", "1/2", "paper"]
    assert (paper["x"][0], paper["y"][0], paper["x"][-1], paper["y"][-1]) == (1, 0.1097, 8, 4.6e-10)
    assert paper["x"] == sorted(paper["x"])
    assert ("pretrained", "1/2", "paper") not in found
    assert reported(chart, collected(curve_cells("mine"))) == []


@pytest.mark.slow
def test_twenty_thousand_rows_in_ten_seconds(tmp_path):
    metrics = {"test_mse": 0.1, "validation_mse": 0.1, "lr": 0.01, "weight_decay": 0.0, "parameters": 64.0,
               "bias_parameters": 32.0, "test_accuracy": 0.5, "test_kl": 0.1}  # fmt: skip
    few = rows_of("many", spec("gradient", ranks=[4]), 4, metrics, "a message")
    rows = []
    for seed in range(2500):
        one = spec("gradient", seed=seed, ranks=[4])
        changed = {"cell": cell_name(one), "seed": cell_seed(one), "spec": canonical_json(one)}
        rows += [row | changed | {"value": row["value"] * (1 + seed)} for row in few]
    assert len(rows) == 20_000
    write_part(tmp_path / "records", rows)
    started = time.process_time()  # whatever else the machine does
    index = write_report(tmp_path / "records", tmp_path / "out")
    assert time.process_time() - started < 10
    assert max(path.stat().st_size for path in index.parent.glob("*.html")) < 3e6
