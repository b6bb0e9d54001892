"""The page of a report, in a real browser, from the file system."""

import json
import math
import shutil
import time

import pytest

from research.lab.record import Record
from research.lab.reports import curves, page, provenance, report
from research.lab.reports.report import Report
from research.lab.reports.results import Cell, Measure, Results
from research.lab.reports.sheets import Sheet
from research.lab.reports.statistics import Difference
from research.lab.table import Column, Table
from research.metrics.jackknife import Gap

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"
)
ODD = 'a <b>bold</b> & "quoted" </script> name'


TASK = "sequence_classification"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The file of a page with two stages, levels and differences. The first stage has two variants,
    one of them with three seeds."""
    named = [("a", "pre-training", 3), ("a", "pre-training", 2), ("a", "pre-training", 4)]
    named += [("b", "pre-training", 5), ("c", TASK, 1)]
    levels = {TASK: {"validation/accuracy": {"chance": 1 / 3, "linear svm": 0.4}}}
    return written(tmp_path_factory.mktemp("page"), named, levels, [differences()])


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """One stage with 8 variants that have long names, each with 3 seeds."""
    rows = [f"kind-{'long-' * 10}{row}" for row in range(8)]
    named = [(row, "", 3 + seed) for row in rows for seed in range(3)]
    return written(tmp_path_factory.mktemp("large"), named)


def written(folder, named, levels=None, more=()):
    """named: the variant, the stage and the level of the loss of each run."""
    runs = []
    for number, (variant, _, level) in enumerate(named):
        workdir = folder / str(number)
        workdir.mkdir()
        lines = [{"step": 10 * i, "loss": level / i} for i in range(1, 5)]
        lines.append({"step": 40, "validation/accuracy": level / 10})
        lines[-1] |= {"validation/tag_accuracy": 0.5} if variant == "c" else {}
        times = [{"step": 10 * i, "seconds": 36.0, "tokens_per_second": 100.0} for i in range(1, 5)]
        for file, found in (("metrics.jsonl", lines), ("timing.jsonl", times)):
            (workdir / file).write_text("".join(json.dumps(line) + "\n" for line in found))
        config = {"train": {"steps": 4 + number}, "seed": number}
        (workdir / "config.json").write_text(json.dumps(config))
        runs.append(Record(workdir, variant))
    stages = {variant: stage for variant, stage, _ in named}
    wide = [f"column {i} with a long name" for i in range(12)]
    sheets = [
        Sheet("Results", ["", *wide], [[ODD, *["0.123 ± 0.004 (3)"] * 12]], "What ± is."),
        Sheet("Small", ["", "one"], [["a", "1"]]),
    ]
    whole = Report(
        ODD,
        [*sheets, *more],
        {"One prediction of each": f"- **{ODD}**\n  - a: good\n  - b: bad"},
        ["The runs took 1 minute."],
        provenance.config_differences(runs),
        curves.of_runs(runs, stages, levels),
    )
    (folder / "report.html").write_text(page.render(whole), encoding="utf-8")
    return folder / "report.html"


def differences():
    """A table of differences in two columns: a significant one, one not resolved, one with a single
    seed whose metric is not finite, and one without an interval."""
    found = {
        ("b", "f1"): Difference(0.3, (5, 5), Gap(0.3, 0.04, 8), Gap(0.3, 0.05, 20)),
        (ODD, "f1"): Difference(-0.1, (2, 2), Gap(-0.1, 0.1, 2), Gap(-0.1, 0.04, 20)),
        ("d", "f1"): Difference(0.05, (1, 1), None),
        ("b", "perplexity"): Difference(math.inf, (1, 1), None),
        ("d", "perplexity"): Difference(-2.0, (2, 2), Gap(-2.0, 0.2, 2)),
    }
    rows = {"a": {}, "b": {}, ODD: {}, "d": {}}
    columns = {metric: Column() for metric in ("f1", "perplexity")}
    measures = {
        "f1": Measure("f1", False),
        "perplexity": Measure("perplexity", True, "bigram", simple=7.0),
    }
    ps = dict.fromkeys(found) | {("b", "f1"): 0.001}
    cells = {("a", "perplexity"): Cell("a", {(0,): 3.0}, [])}
    return report.differences(Results(Table(rows, columns, "a"), cells, measures, found, ps, {}))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-component-update"),
        *("disable-background-networking", "disable-sync"),
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def opened(browser, made, width=1280, dark=False):
    # Below 500 pixels a window grows again; what a page sees does not.
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(made.as_uri())
    return browser


def count(browser, selector):
    return len(browser.find_elements("css selector", selector))


def size(browser, selector):
    return browser.find_element("css selector", selector).rect


def plots(browser):
    """The plots of the visible curves."""
    return [p for p in browser.find_elements("css selector", ".stage .plot") if p.is_displayed()]


def toggle(browser, number):
    """Clicks on a name of the first legend."""
    browser.find_elements("css selector", ".stage .legendtoggle")[number].click()


def drawn(browser):
    """Paths of the visible lines, without the edges of bands."""
    # In one go: what is drawn anew meanwhile is another element.
    paths = "[...document.querySelectorAll('.stage .scatterlayer .trace path.js-line')]"
    script = f"return {paths}.filter((path) => path.style.strokeWidth !== '0px').length"
    return browser.execute_script(script)


def bands(browser):
    return count(browser, ".stage .scatterlayer .js-fill")


def test_tables_and_curves_are_there_and_nothing_fails(browser, made):
    opened(browser, made)
    assert browser.title == ODD
    tables = browser.find_elements("css selector", "table")
    assert len(tables) == 4 and ODD in tables[0].text and "0.123 ± 0.004 (3)" in tables[0].text
    assert "train.steps" in tables[3].text and "seed" not in tables[3].text
    text = browser.find_element("tag name", "main").text
    assert "What ± is." in text and "b: bad" in text and "The runs took 1 minute." in text
    assert browser.get_log("browser") == []


def test_each_stage_has_axes_of_its_own_and_seeds_share_a_line_with_a_band(browser, made):
    opened(browser, made)
    captions = [c.text for c in browser.find_elements("css selector", ".stage figcaption")]
    assert captions == ["pre-training", "sequence classification"]
    first, second = plots(browser)
    ranges = "return [arguments[0].layout.yaxis.range, arguments[0].layout.yaxis.title.text]"
    (own, name), (other, _) = (browser.execute_script(ranges, plot) for plot in (first, second))
    assert own[1] > 5 and other[1] < 1.5 and name == "loss"
    assert drawn(browser) == 3 and bands(browser) == 1
    names = [t.text for t in first.find_elements("css selector", ".legendtext")]
    assert names == ["a (3)", "b"], "how many runs a line is the mean of"
    assert "band: lowest to highest" in first.find_element("css selector", ".legendtitletext").text
    assert not second.find_elements("css selector", ".legendtitletext")
    lines = browser.execute_script("return arguments[0].data.map(t => [t.name, t.y])", first)
    low, high, mean, alone = (line[1] for line in lines)
    assert (low[0], high[0], mean[0], alone[0]) == (2, 4, 3, 5)


def test_a_variant_is_switched_off_and_on_with_its_band(browser, made):
    opened(browser, made)
    assert count(browser, ".stage .legendtoggle") == 3
    toggle(browser, 0)
    wait(lambda: (drawn(browser), bands(browser)) == (2, 0))
    toggle(browser, 0)
    wait(lambda: (drawn(browser), bands(browser)) == (3, 1))


def test_chance_and_the_simple_method_are_lines_of_that_metric_alone(browser, made):
    opened(browser, made)
    assert count(browser, ".stage .shapelayer path") == 0
    choose(browser, "metric", "validation/accuracy")
    wait(lambda: count(browser, ".stage .shapelayer path") == 2)
    for plot in plots(browser):
        drawn_width = plot.find_element("css selector", ".main-svg").rect["width"]
        assert drawn_width == plot.rect["width"] < 640, "two beside each other"
    second = plots(browser)[1]
    names = [t.text for t in second.find_elements("css selector", ".legendtext")]
    assert names == ["c", "chance: 0.333", "linear svm: 0.400"]
    low, high = browser.execute_script("return arguments[0].layout.yaxis.range", second)
    assert low < 0.1 and high > 0.4, "none of them is cut off"


def test_differences_are_intervals_beside_zero(browser, made):
    for width in (1280, 400):
        opened(browser, made, width)
        panels = browser.find_elements("css selector", ".forest .plot")
        assert len(panels) == 2
        for panel, intervals in zip(panels, (6, 1), strict=True):
            assert len(panel.find_elements("css selector", ".zl")) == 1, "the line of zero"
            assert len(panel.find_elements("css selector", ".errorbars .xerror")) == intervals
            low, high = browser.execute_script("return arguments[0].layout.xaxis.range", panel)
            assert low < 0 < high
        symbols = "return arguments[0].data.map(t => t.marker.symbol)"
        over_seeds, over_examples, over_both, without = browser.execute_script(symbols, panels[0])
        assert over_seeds == ["circle", "circle-open"], "hollow: 0 is in it"
        assert over_examples == ["square", "square"]
        assert over_both == ["triangle-up", "triangle-up-open"] and without == "diamond-open"
        labels = [t.text for t in panels[0].find_elements("css selector", ".ytick")]
        assert labels[0] == "b*better" and labels[1].endswith("not resolved")
        assert "<b>" in labels[1] and labels[2] == "done seed"
        levels = "return arguments[0].layout.shapes?.map(s => s.x0)"
        assert browser.execute_script(levels, panels[0]) is None
        assert browser.execute_script(levels, panels[1]) == [4.0], "of the simple method"
        assert panels[1].find_element("css selector", ".annotation-text").text == "bigram"
        titles = [t.text for t in browser.find_elements("css selector", ".forest .xtitle")]
        assert titles == ["difference, better →", "difference, ← better"]
    assert browser.get_log("browser") == []


def test_a_table_that_goes_on_says_so(browser, made):
    opened(browser, made, 400)
    frames = browser.find_elements("css selector", ".wide")
    wait(lambda: "goes-on" in frames[0].get_attribute("class"))
    assert "goes-on" not in frames[1].get_attribute("class")
    hints = [h.is_displayed() for h in browser.find_elements("css selector", ".hint")]
    assert hints[:2] == [True, False]
    edge = "return getComputedStyle(arguments[0], '::after').content"
    assert browser.execute_script(edge, frames[0]) == '"›"'
    assert browser.execute_script(edge, frames[1]) == "none"
    assert "went-on" not in frames[0].get_attribute("class")
    browser.execute_script("arguments[0].firstElementChild.scrollLeft = 1e6", frames[0])
    wait(lambda: "went-on" in frames[0].get_attribute("class"))
    assert "goes-on" not in frames[0].get_attribute("class")


def test_the_legend_has_room_for_many_names(browser, large):
    for width in (1280, 400):
        opened(browser, large, width)
        assert drawn(browser) == 8 and count(browser, ".stage .legendtoggle") == 8
        plot, needed = size(browser, ".stage .nsewdrag"), size(browser, ".stage .legend")
        assert plot["height"] > 250 and plot["width"] > 0.6 * width
        assert needed["height"] < 250, "no name is left to be scrolled to"
        assert needed["x"] + needed["width"] <= width, "no name is cut"
        assert browser.get_log("browser") == []


def test_a_metric_and_what_it_is_drawn_by_are_chosen(browser, made):
    opened(browser, made)
    for name, value, axis in (("metric", "validation/accuracy", "y"), ("by", "hours", "x")):
        choose(browser, name, value)
        wait(lambda axis=axis, value=value: title(browser, axis) == value)
    assert count(browser, ".stage .scatterlayer .trace .point") == 3, "one value of each: a point"
    assert count(browser, ".stage .errorbars .yerror") == 1, "the band of a point"
    x = browser.execute_script("return document.querySelector('.stage .plot').data[0].x")
    assert x == [pytest.approx(4 * 36 / 3600)]
    choose(browser, "by", "positions")
    wait(lambda: title(browser, "x") == "positions")
    x = browser.execute_script("return document.querySelector('.stage .plot').data[0].x")
    assert x == [4 * 3600]


@pytest.mark.parametrize("expected", [400, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_a_telephone_and_a_screen_in_both_schemes(browser, made, dark, expected):
    opened(browser, made, expected, dark)
    script = "return [document.documentElement.scrollWidth, window.innerWidth]"
    needed, width = browser.execute_script(script)
    assert width == expected and needed <= width
    script = "return getComputedStyle(document.body).backgroundColor"
    assert (browser.execute_script(script) == "rgb(255, 255, 255)") != dark
    script = "return document.querySelector('.stage .plot').layout.font.color"
    assert (browser.execute_script(script) == "#1c1d20") != dark
    assert browser.get_log("browser") == []


def test_curves_have_the_width_that_there_is(browser, made):
    opened(browser, made)
    choose(browser, "metric", "validation/tag_accuracy")  # of one stage alone
    wait(lambda: len(plots(browser)) == 1)
    for width in (1280, 400):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        svg = plots(browser)[0].find_element("css selector", ".main-svg")
        wait(lambda svg=svg, width=width: 0.8 * width < svg.rect["width"] < width)
        assert 0.8 * width < svg.rect["width"] < width


def choose(browser, name, value):
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("css selector", f"#{name}")).select_by_visible_text(value)


def title(browser, axis):
    found = browser.find_elements("css selector", f".stage .{axis}title")
    return found[0].text if found else ""


def wait(true):
    """Waits at most 10 seconds."""
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)
