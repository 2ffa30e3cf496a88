"""The audit page in headless Chromium: what one does with it, and what a hostile corpus cannot."""

from __future__ import annotations

import json
import shutil
import subprocess
import time

import pytest
from audited_workspace import ARABIC, HOSTILE, audits, make

from cslm_data.auditing.page import write_audit_page
from cslm_data.workspace import Workspace

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    reason = "chromium and chromedriver are not installed (apt: chromium, chromium-driver)"
    pytest.skip(reason, allow_module_level=True)

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=1366,768",
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in OPTIONS:
        options.add_argument(option)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = Service(executable_path=DRIVER, log_output=subprocess.DEVNULL)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        screen = {"width": 1366, "height": 768, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        driver.set_script_timeout(20)
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    workspace = make(Workspace(tmp_path_factory.mktemp("made") / "workspace"))
    path = workspace.root / "audit.html"
    write_audit_page(workspace, audits(), path)
    return path.as_uri()


@pytest.fixture
def page(driver, address):
    """The page, freshly opened; whatever a test does with it must leave no complaint."""
    driver.get_log("browser")
    driver.get_log("performance")
    driver.get(address)
    yield driver
    assert driver.get_log("browser") == []


def box(page, section, number=0):
    return page.find_elements(By.CSS_SELECTOR, f"#{section} .box")[number]


def column(found, name):
    """Texts of a column, of the rows that are shown."""
    table = found.find_element(By.CSS_SELECTOR, "table")
    heads = table.find_elements(By.CSS_SELECTOR, ":scope > thead > tr > *")
    place = [head.text.split(" ")[0] for head in heads].index(name)
    rows = table.find_elements(By.CSS_SELECTOR, ":scope > tbody > tr:not(.detail)")
    cells = [
        row.find_elements(By.CSS_SELECTOR, ":scope > td") for row in rows if row.is_displayed()
    ]
    return [row[place].text for row in cells]


def sort_by(found, name):
    for button in found.find_elements(By.CSS_SELECTOR, "thead button"):
        if button.text == name:
            button.click()
            return button.find_element(By.XPATH, "..").get_attribute("aria-sort")
    raise AssertionError(name)


def number(text):
    return float(text.replace(",", ""))


def open_audit(page, title):
    for toggle in page.find_elements(By.CSS_SELECTOR, ".toggle"):
        if toggle.text.startswith(title):
            toggle.click()
            details = page.find_element(By.ID, toggle.get_attribute("aria-controls"))
            return toggle, details
    raise AssertionError(title)


def test_it_fits_a_laptop_screen_and_asks_for_nothing_but_itself(page, address):
    size = page.execute_script(
        "const root = document.documentElement;"
        "return [innerWidth, innerHeight, root.scrollWidth <= root.clientWidth,"
        "document.body.scrollWidth <= root.clientWidth]"
    )
    assert size == [1366, 768, True, True]
    sections = [each.text.split("\n")[0] for each in page.find_elements(By.CSS_SELECTOR, "nav a")]
    assert sections[:3] == ["Audits", "Speech and texts", "Bitext, dialogues"]
    assert all(each.is_displayed() for each in page.find_elements(By.CSS_SELECTOR, "h2"))
    strip = page.find_element(By.CSS_SELECTOR, ".strip")
    assert strip.size["height"] < 80 and "22\nutterances" in strip.text
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    requests = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert requests == [address]


def test_numbers_and_texts_sort_both_ways_and_what_is_missing_comes_last(page):
    found = box(page, "speech")
    assert sort_by(found, "hours") == "descending"
    hours = [number(text) for text in column(found, "hours")]
    assert hours == sorted(hours, reverse=True) and hours[0] > hours[-1]
    assert sort_by(found, "hours") == "ascending"
    assert [number(text) for text in column(found, "hours")] == sorted(hours)
    assert sort_by(found, "corpus") == "ascending"
    names = column(found, "corpus")
    assert names == [
        "<b>corpus</b>",
        "corpus ar",
        "corpus zh",
        "corpus zh",
        "pairs",
        "pairs",
        "talk",
    ]
    assert sort_by(found, "corpus") == "descending"
    assert column(found, "corpus") == names[::-1]
    sort_by(found, "split")
    assert column(found, "split")[:2] == ["test", "train"]
    sort_by(found, "split")
    assert column(found, "split") == ["train", "test", "–", "–", "–", "–", "–"]
    figures = box(page, "distributions")
    sort_by(figures, "median")
    medians = [number(text) for text in column(figures, "median")]
    assert medians == sorted(medians, reverse=True)  # 9.5 before 10, not as text


def test_audits_sort_with_their_details_by_number_and_by_gravity(page):
    found = box(page, "audits")
    toggle, details = open_audit(page, "Title of long")
    sort_by(found, "found")
    assert column(found, "found") == ["1,234", "2", "2", "0", "–", "–"]
    assert sort_by(found, "state") == "ascending"
    states = ["error", "failed", "warning", "note", "not asked", "passed"]
    assert sorted(column(found, "state")[:2]) == states[:2]
    assert column(found, "state")[2:] == states[2:]
    below = page.execute_script("return arguments[0].closest('tr').nextElementSibling.id", toggle)
    assert below == details.get_attribute("id") and details.is_displayed()


def test_the_search_filters_rows_and_counts_them(page):
    found = box(page, "speech")
    field = found.find_element(By.CSS_SELECTOR, "input")
    field.send_keys("ZH corpus")
    assert column(found, "corpus") == ["corpus zh", "corpus zh"]
    assert found.find_element(By.CSS_SELECTOR, "output").text == "2 of 7 rows"
    field.send_keys("nothing of that")
    assert column(found, "corpus") == []
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(Keys.DELETE)
    assert found.find_element(By.CSS_SELECTOR, "output").text == "7 rows"
    other = box(page, "bitext")
    assert column(other, "corpus") == ["pairs"]


def test_audits_are_found_by_what_their_examples_say_and_by_state(page):
    found = box(page, "audits")
    found.find_element(By.CSS_SELECTOR, "input").send_keys("ar-2")
    [audit] = column(found, "audit")
    assert audit.startswith("Title of long")
    page.refresh()
    found = box(page, "audits")
    chips = {chip.text: chip for chip in found.find_elements(By.CSS_SELECTOR, ".chips button")}
    assert set(chips) == {"error 2", "warning 1", "note 1", "not asked 1", "passed 1"}
    chips["passed 1"].click()
    assert column(found, "state") == ["passed"]
    chips["error 2"].click()
    assert column(found, "state") == ["error", "failed"]
    chips["error 2"].click()
    assert len(column(found, "state")) == 6


def test_an_audit_opens_by_mouse_and_by_keyboard(page):
    toggle, details = open_audit(page, "Title of long")
    assert details.is_displayed() and toggle.get_attribute("aria-expanded") == "true"
    assert "Because." in details.text and "4 of 1,234 findings" in details.text
    assert column(details, "duration") == ["7.25", "7.35", "7.45", "7.55"]
    inside = details.find_element(By.CSS_SELECTOR, ".box")
    sort_by(inside, "duration s")
    sort_by(inside, "utt id")
    assert column(inside, "utt")[:2] == ["ar-0", "ar-1"]
    toggle.send_keys(Keys.ENTER)
    assert not details.is_displayed() and toggle.get_attribute("aria-expanded") == "false"
    toggle.send_keys(Keys.SPACE)
    assert details.is_displayed()
    toggle.send_keys(Keys.SPACE)
    toggle.find_element(By.XPATH, "ancestor::tr").click()
    assert details.is_displayed()
    everything = page.find_element(By.CSS_SELECTOR, "[data-open-all]")
    everything.click()
    shown = [each.is_displayed() for each in page.find_elements(By.CSS_SELECTOR, "tr.detail")]
    assert shown == [True] * 6 and everything.text == "Close all"


def test_a_clip_really_plays_and_is_as_long_as_the_recording(page):
    _, details = open_audit(page, "Same ")
    [button] = details.find_elements(By.CSS_SELECTOR, '[aria-label="play zh-0"]')
    audio = page.find_element(By.CSS_SELECTOR, ".player audio")
    assert not audio.is_displayed()
    button.click()
    assert audio.is_displayed()
    told = page.find_element(By.CSS_SELECTOR, ".player p").text
    assert "zh-0" in told and "zh, 1.5 s" in told
    assert wait_until(page, "return arguments[0].currentTime > 0.2", audio)
    assert page.execute_script("return arguments[0].error", audio) is None
    assert page.execute_script("return arguments[0].duration", audio) == pytest.approx(
        1.5, abs=0.08
    )
    before = page.execute_script("return arguments[0].currentTime", audio)
    assert wait_until(page, f"return arguments[0].currentTime > {before + 0.2}", audio)
    button.click()
    assert page.execute_script("return arguments[0].paused", audio)
    button.click()
    assert wait_until(page, "return arguments[0].ended", audio)
    assert button.text == "▶"
    page.find_element(By.CSS_SELECTOR, "body").send_keys(Keys.ESCAPE)
    assert not audio.is_displayed()


def test_every_clip_can_be_decoded_and_a_long_one_says_that_it_is_cut(page):
    durations = page.execute_async_script(
        """
        const done = arguments[arguments.length - 1];
        const audio = document.querySelector(".player audio");
        (async () => {
          const found = [];
          for (const clip of JSON.parse(document.getElementById("clips").textContent)) {
            audio.src = clip.address;
            await audio.play();
            found.push([clip.seconds, audio.duration]);
          }
          return found;
        })().then(done, (error) => done(String(error)));
        """
    )
    assert len(durations) == 8
    for told, real in durations:
        assert real == pytest.approx(told, abs=0.08)
    _, details = open_audit(page, "Title of long")
    details.find_element(By.CSS_SELECTOR, '[aria-label="play ar-1"]').send_keys(Keys.ENTER)
    assert "the first 5.0 s of 7.3 s" in page.find_element(By.CSS_SELECTOR, ".player p").text


def wait_until(page, script, *arguments, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if page.execute_script(script, *arguments):
            return True
        time.sleep(0.05)
    return False


def test_text_of_the_corpus_is_shown_and_does_nothing(page):
    page.find_element(By.CSS_SELECTOR, "[data-open-all]").click()
    assert page.execute_script("return window.hacked") is None
    assert page.find_elements(By.CSS_SELECTOR, "img, iframe, object") == []
    page.find_element(By.CSS_SELECTOR, '[aria-label="play en-2"]').click()
    assert HOSTILE in page.find_element(By.CSS_SELECTOR, ".player p").text
    texts = page.execute_script(
        "return [...document.querySelectorAll('td.text')].map((cell) => cell.textContent)"
    )
    assert HOSTILE in texts and ARABIC in texts
    way = page.execute_script(
        "return [...document.querySelectorAll('td.text')].filter((cell) => cell.textContent === "
        "arguments[0]).map((cell) => getComputedStyle(cell).direction)",
        ARABIC,
    )
    assert way and set(way) == {"rtl"}


def test_a_handler_that_slipped_into_the_page_would_not_run(driver, address):
    driver.get(address)
    driver.get_log("browser")
    driver.execute_script(
        "document.body.insertAdjacentHTML('beforeend', "
        '\'<img src="data:image/png;base64,x" onerror="window.hacked = 3">'
        "<a id=bad onclick=\"window.hacked = 4\">x</a>'); document.getElementById('bad').click()"
    )
    time.sleep(0.3)
    assert driver.execute_script("return window.hacked") is None
    complaints = [entry["message"] for entry in driver.get_log("browser")]
    assert complaints and all("Content Security Policy" in each for each in complaints)


def test_a_language_is_hidden_in_every_plot_and_each_can_stand_alone(page):
    section = page.find_element(By.ID, "distributions")
    lines = section.find_elements(By.CSS_SELECTOR, '.over [data-series="0"]')
    assert len(lines) == 6 and all(line.is_displayed() for line in lines)
    key = section.find_element(By.CSS_SELECTOR, '.key[data-series="0"]')
    assert key.text.split() == ["ar", "4"]
    key.click()
    assert not any(line.is_displayed() for line in lines)
    key.click()
    panels = section.find_elements(By.CSS_SELECTOR, ".panels figure")
    assert len(panels) == 6 * 3 and not panels[0].is_displayed()
    section.find_element(By.CSS_SELECTOR, "[data-apart]").click()
    assert panels[0].is_displayed() and not lines[0].is_displayed()


def test_a_command_is_copied(page):
    _, details = open_audit(page, "Title of long")
    button = details.find_element(By.CSS_SELECTOR, "[data-copy]")
    button.click()
    assert wait_until(page, "return arguments[0].textContent === 'Copied'", button)


def test_on_paper_there_is_what_one_reads_and_no_more(page):
    open_audit(page, "Title of long")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not page.find_element(By.CSS_SELECTOR, "nav").is_displayed()
        assert not page.find_element(By.CSS_SELECTOR, "input").is_displayed()
        assert "ar-3" in page.find_element(By.CSS_SELECTOR, "#audits").text
        printed = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
        assert len(printed["data"]) > 10_000
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_at_night_ink_and_ground_change_places(page):
    def colours():
        return page.execute_script(
            "const style = getComputedStyle(document.body); return [style.color, "
            "style.backgroundColor].map((text) => text.match(/\\d+/g).slice(0, 3)"
            ".reduce((sum, each) => sum + Number(each), 0))"
        )

    def prefer(value):
        feature = {"name": "prefers-color-scheme", "value": value}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    prefer("light")
    ink, ground = colours()
    assert ink < 150 and ground > 700
    prefer("dark")
    ink, ground = colours()
    assert ink > 600 and ground < 150
    prefer("light")
