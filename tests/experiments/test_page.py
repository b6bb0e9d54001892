"""The page of a report, in a real browser, from the file system."""

import json
import shutil
import time

import pytest

from research.experiments import curves, page, provenance
from research.experiments.report import Report
from research.experiments.sheets import Sheet

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"
)
ODD = 'a <b>bold</b> & "quoted" </script> name'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The file of a page with two kinds of runs, one of them with two seeds."""
    runs = [("a-seed0", "a", 3), ("a-seed1", "a", 2), ("b-seed0", "b", 5)]
    return written(tmp_path_factory.mktemp("page"), runs)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The same with 8 kinds of runs that have long names, each with 3 seeds."""
    rows = [f"kind-{'long-' * 10}{row}" for row in range(8)]
    runs = [(f"{row}-seed{seed}", row, 3 + seed) for row in rows for seed in range(3)]
    return written(tmp_path_factory.mktemp("large"), runs)


def written(folder, named):
    runs = []
    for name, group, level in named:
        workdir = folder / name
        workdir.mkdir()
        lines = [{"step": 10 * i, "loss": level / i} for i in range(1, 5)]
        lines.append({"step": 40, "validation/accuracy": level / 10})
        times = [{"step": 10 * i, "seconds": 36.0, "tokens_per_second": 100.0} for i in range(1, 5)]
        for file, found in (("metrics.jsonl", lines), ("timing.jsonl", times)):
            (workdir / file).write_text("".join(json.dumps(line) + "\n" for line in found))
        runs.append(curves.of_run(workdir, name, group))
    wide = [f"column {i} with a long name" for i in range(12)]
    sheets = [
        Sheet("Results", ["", *wide], [[ODD, *["0.123 ± 0.004 (3)"] * 12]], "What ± is."),
    ]
    configs = {"a": {"train.steps": 4, "seed": 1}, "b": {"train.steps": 5, "seed": 2}}
    report = Report(
        ODD,
        sheets,
        {"One prediction of each": f"- **{ODD}**\n  - a: good\n  - b: bad"},
        ["The runs took 1 minute."],
        provenance.config_differences(configs),
    )
    text = page.render(report, {"runs": runs, "metrics": curves.metrics_of(runs)})
    (folder / "report.html").write_text(text, encoding="utf-8")
    return folder / "report.html"


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


def toggle(browser, number):
    """Clicks on a name of the legend."""
    browser.find_elements("css selector", "#plot .legendtoggle")[number].click()


def drawn(browser):
    """Paths of the curves that are seen."""
    return count(browser, "#plot .scatterlayer .trace path.js-line")


def test_tables_and_curves_are_there_and_nothing_fails(browser, made):
    opened(browser, made)
    assert browser.title == ODD
    tables = browser.find_elements("css selector", "table")
    assert len(tables) == 2 and ODD in tables[0].text and "0.123 ± 0.004 (3)" in tables[0].text
    assert "train.steps" in tables[1].text and "seed" not in tables[1].text
    assert drawn(browser) == 3
    text = browser.find_element("tag name", "main").text
    assert "What ± is." in text and "b: bad" in text and "The runs took 1 minute." in text
    assert browser.get_log("browser") == []


def test_a_run_is_switched_off_and_on(browser, made):
    opened(browser, made)
    assert count(browser, "#plot .legendtoggle") == 3
    for run in (0, 2):  # the first one has another seed beside it
        toggle(browser, run)
        wait(lambda: drawn(browser) == 2)
        toggle(browser, run)
        wait(lambda: drawn(browser) == 3)


def test_of_many_runs_the_legend_has_the_rows(browser, large):
    for width in (1280, 400):
        opened(browser, large, width)
        assert drawn(browser) == 24 and count(browser, "#plot .legendtoggle") == 8
        plot, needed = size(browser, "#plot .nsewdrag"), size(browser, "#plot .legend")
        assert plot["height"] > 250 and plot["width"] > 0.6 * width
        assert needed["height"] < 250, "no name is left to be scrolled to"
    toggle(browser, 1)
    wait(lambda: drawn(browser) == 21)


def test_a_metric_and_what_it_is_drawn_by_are_chosen(browser, made):
    opened(browser, made)
    for name, value, axis in (("metric", "validation/accuracy", "y"), ("by", "hours", "x")):
        choose(browser, name, value)
        wait(lambda axis=axis, value=value: title(browser, axis) == value)
    assert count(browser, "#plot .scatterlayer .trace .point") == 3, "one value of each: a point"
    x = browser.execute_script("return document.getElementById('plot').data[0].x")
    assert x == [pytest.approx(4 * 36 / 3600)]
    choose(browser, "by", "tokens")
    wait(lambda: title(browser, "x") == "tokens")
    x = browser.execute_script("return document.getElementById('plot').data[0].x")
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
    script = "return document.getElementById('plot').layout.font.color"
    assert (browser.execute_script(script) == "#1c1d20") != dark
    assert browser.get_log("browser") == []


def choose(browser, name, value):
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("css selector", f"#{name}")).select_by_visible_text(value)


def title(browser, axis):
    found = browser.find_elements("css selector", f"#plot .{axis}title")
    return found[0].text if found else ""


def wait(true):
    """Waits at most 10 seconds."""
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)
