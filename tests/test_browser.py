"""The HTML report in a real browser: it draws, sorts and filters without a console error."""

import shutil

import pytest

import fxq
from tests.nets import Classifier, lively, ramp

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [pytest.mark.browser,
              pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs Debian's chromium")]
X = ramp(2, 3, 16, 16)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    compiled = fxq.compile(lively(Classifier()), example_inputs=(X,), calibration_data=[X],
                           runtime="python")
    path = tmp_path_factory.mktemp("page") / "report.html"
    compiled.profile(X, rounds=5, budget=0.1).to_html(path)
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic",
                 "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.get(f"file://{path}")
    yield driver
    driver.quit()


def cells(driver, column):
    rows = driver.find_elements("css selector", "#nodes tbody tr")
    return [r.find_elements("tag name", "td")[column].get_attribute("data-v") for r in rows
            if r.is_displayed()]


def test_no_console_error(page):
    """The browser has nothing to complain about."""
    assert page.get_log("browser") == []


def test_a_click_sorts(page):
    """The slowest first, then the fastest."""
    head = page.find_elements("css selector", "#nodes th")[6]
    head.click()
    down = [float(v) for v in cells(page, 6)]
    assert down == sorted(down, reverse=True)
    head.click()
    assert [float(v) for v in cells(page, 6)] == sorted(down)


def test_typing_filters(page):
    """Rows without the text disappear."""
    everything = len(cells(page, 6))
    page.find_element("id", "filter").send_keys("max_pool")
    assert 0 < len(cells(page, 6)) < everything


def test_every_section_is_drawn(page):
    """Bars, the line, the graph and the histograms are there, and have a size."""
    pictures = page.find_elements("tag name", "svg")
    assert len(pictures) >= 5
    assert all(p.size["width"] > 50 for p in pictures)
