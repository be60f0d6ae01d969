"""Uses the dashboard in a browser: dashboard.py URL TOKEN PID DRAINED KILLED

Sends requests meanwhile, drains the backend DRAINED with the buttons of the page, kills the process PID of the backend KILLED,
and looks at the page on screens of three widths. Prints "ok" at the end, or what was wrong."""

import os
import shutil
import signal
import sys
import threading
import urllib.request

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

url, token, pid, drained, killed = sys.argv[1:]
options = Options()
for argument in ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1000"]:
    options.add_argument(argument)
options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
browser.set_script_timeout(30)
done = threading.Event()


def load():
    while not done.is_set():
        try:
            urllib.request.urlopen(url + "/", timeout=5).read()
        except OSError:
            pass


def wait(what, condition):
    try:
        WebDriverWait(browser, 30, poll_frequency=0.1).until(lambda _: condition())
    except Exception:
        page = browser.find_element(By.TAG_NAME, "body").text
        raise SystemExit(f"it did not happen: {what}\n{page}")


def text(selector):
    return browser.execute_script("return (document.querySelector(arguments[0]) || {}).textContent || ''", selector)


def row(name):
    rows = browser.find_elements(By.CSS_SELECTOR, "tbody tr")
    return next(row for row in rows if row.find_element(By.CSS_SELECTOR, ".name").text == name)


def state(name):
    return browser.execute_script(
        "for (const row of document.querySelectorAll('tbody tr'))"
        " if (row.querySelector('.name').textContent === arguments[0]) {"
        "  const word = row.querySelector('.state .pill'); return [word.textContent, word.className]; } return ['', '']",
        name,
    )


def number(selector):
    digits = text(selector).strip().split(" ")[0]
    return float(digits) if digits.replace(".", "", 1).isdigit() else 0.0


def painted(canvas):
    """Whether a canvas has pixels of the accent colour: not only of its axes."""
    return browser.execute_script(
        "const c = document.getElementById(arguments[0]); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 40 && d[i + 2] > d[i] + 60) return true; return false",
        canvas,
    )


try:
    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    browser.get(url + "/__dashboard__")
    wait("the word is healthy", lambda: text("#word") == "healthy")
    wait("requests are counted", lambda: number("#tile-rate b") > 0)
    wait("durations are told", lambda: "s" in text("#tile-p99 b") and text("#tile-p99 b") != "–")
    former = text("#tile-rate b")
    wait("figures move", lambda: text("#tile-rate b") != former)
    wait("the heat map is painted", lambda: painted("heat") and painted("rate"))
    wait("both backends are up", lambda: state(drained)[0] == "up" and state(killed)[0] == "up")

    for width, height in [(360, 800), (1280, 900), (1920, 1080)]:
        for scheme in ["light", "dark"]:
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            feature = {"name": "prefers-color-scheme", "value": scheme}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            wide = browser.execute_script("return document.documentElement.scrollWidth")
            if wide > width:
                raise SystemExit(f"the page is {wide} wide on a screen of {width}")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    # With the keyboard alone: a wrong token changes nothing, the right one drains.
    def give(word):
        browser.find_element(By.ID, "operate").send_keys(Keys.ENTER)
        browser.find_element(By.ID, "token").send_keys(word, Keys.ENTER)
        wait("the buttons are there", lambda: row(drained).find_element(By.TAG_NAME, "button").is_displayed())

    give("not the token at all")
    row(drained).find_element(By.XPATH, ".//button[text()='Drain']").send_keys(Keys.ENTER)
    wait("the wrong token is refused", lambda: "not the token" in text("#toast"))
    wait("the page has forgotten the token", lambda: text("#operate") == "Operate…")
    give(token)
    row(drained).find_element(By.XPATH, ".//button[text()='Drain']").send_keys(Keys.ENTER)
    wait("the backend is drained", lambda: state(drained)[0] == "drained")
    if "bad" in state(drained)[1]:
        raise SystemExit("a drained backend looks like a broken one")
    row(drained).find_element(By.XPATH, ".//button[text()='Serve again']").send_keys(Keys.ENTER)
    wait("the backend serves again", lambda: state(drained)[0] == "up")
    weight = row(drained).find_element(By.TAG_NAME, "input")
    weight.clear()
    weight.send_keys("7")
    row(drained).find_element(By.XPATH, ".//button[text()='Set weight']").send_keys(Keys.ENTER)
    wait("the weight is told", lambda: "weight 7" in row(drained).text)

    os.kill(int(pid), signal.SIGKILL)
    wait("the killed backend is down", lambda: state(killed)[0] in ("down", "ejected"))
    if "bad" not in state(killed)[1]:
        raise SystemExit("a backend that is down does not look like one")
    wait("the word is degraded", lambda: text("#word") == "degraded")
    wait("the event is told", lambda: killed in text("#events") and "down" in text("#events"))

    browser.find_element(By.ID, "pause").send_keys(Keys.ENTER)
    if text("#word") != "paused":
        raise SystemExit("the page does not pause")
    messages = [entry for entry in browser.get_log("browser") if "favicon" not in entry["message"]]
    # The refused token is told by the browser as well.
    messages = [entry for entry in messages if "401" not in entry["message"]]
    if messages:
        raise SystemExit(f"the console has messages: {messages}")
    print("ok")
finally:
    done.set()
    browser.quit()
