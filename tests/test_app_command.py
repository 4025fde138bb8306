"""The page in a real browser: a face, several faces, a file that is no picture, a very large photograph."""

import re
import shutil
import socket
import subprocess
import sys
import time

import pytest
import torch
from photographs import CHECKOUT, SHEET, TEMPLATE, detector_file
from PIL import Image
from small_runs import child_process

from poster_ada.checkpoints.create import create_model
from poster_ada.checkpoints.own import save_checkpoint

FACE = CHECKOUT / "data" / "demo" / "Image" / "aligned" / "test_0001_aligned.jpg"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 60  # seconds


pytestmark = pytest.mark.slow  # a browser, and a page with the model in it


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of the page, and its process."""
    pytest.importorskip("gradio", reason="the page needs gradio: pip install 'poster-ada[app]'")
    torch.manual_seed(3)
    model = create_model("nano", channel_order="grey")
    model.face_template = TEMPLATE
    folder = tmp_path_factory.mktemp("page")
    save_checkpoint(model, folder / "nano.safetensors")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    detector = detector_file()
    words = ["--detector", str(detector)] if detector else ["--crop", "none"]
    (folder / "tmp").mkdir()
    child = child_process(TMPDIR=str(folder / "tmp"))
    server = subprocess.Popen(
        [sys.executable, "-m", "poster_ada.app", "-c", str(folder / "nano.safetensors"), "--port", str(port),
         "--no-browser", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **child)
    end = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < end:
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    else:
        server.kill()
        pytest.fail(server.communicate()[0].decode())
    yield f"http://127.0.0.1:{port}", folder / "tmp"
    server.terminate()
    server.wait(PATIENCE)


@pytest.fixture(scope="module")
def browser(page):
    """The page, open in a browser."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="the browser is driven by selenium")
    if CHROMIUM is None or shutil.which("chromedriver") is None:
        pytest.skip("there is no Chromium with its driver here")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync"):
        options.add_argument(word)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.get(page[0])
    yield driver
    driver.quit()


def upload(browser, path, expected):
    """Put a file into the page and wait until its bars show `expected`; gives their text."""
    end, text, again = time.monotonic() + PATIENCE, "", 0.0
    while time.monotonic() < end:
        inputs = browser.find_elements("css selector", "#given input[type=file]")
        if inputs and time.monotonic() > again:  # a page that is not ready yet forgets the file
            inputs[0].send_keys(str(path))
            again = time.monotonic() + 10
        elif not again:  # the last picture is in the way
            for button in browser.find_elements("css selector", "#given button[aria-label=Clear]"):
                button.click()
        for bars in browser.find_elements("css selector", "#bars"):
            text = bars.text
        if again and re.search(expected, text):
            return text
        time.sleep(0.2)
    pytest.fail(f"the page shows {text!r}")


def test_a_face_gets_bars_a_picture_and_heat(browser):
    text = upload(browser, FACE, r"Face 1: \w+")
    assert len(re.findall(r"\d+%", text)) == 7
    for name in ("faces", "heat"):
        image = browser.find_element("css selector", f"#{name} img")
        assert image.get_attribute("src").startswith("http://127.0.0.1:")


def test_a_file_that_is_no_picture_is_one_sentence(browser, tmp_path):
    (tmp_path / "photo.jpg").write_text("no picture", encoding="utf-8")
    text = upload(browser, tmp_path / "photo.jpg", "photo.jpg is not a picture")
    assert "Face" not in text and "Traceback" not in text


def test_a_large_photograph_is_recognised(browser, tmp_path):
    side = Image.open(FACE).convert("RGB").resize((1200, 1200))
    large = Image.new("RGB", (8000, 5000), "gray")
    large.paste(side, (3000, 1500))
    large.save(tmp_path / "large.jpg", quality=80)
    upload(browser, tmp_path / "large.jpg", r"Face 1: \w+")


def test_every_face_of_a_picture_is_listed(browser, tmp_path):
    if detector_file() is None:
        pytest.skip("the face detector is not here: python -m poster_ada.download detector")
    Image.open(SHEET).convert("RGB").crop((150, 0, 450, 300)).save(tmp_path / "several.png")
    assert "Face 2" in upload(browser, tmp_path / "several.png", "Face 2")


def test_the_page_says_what_it_is_for_and_asks_nobody_else(browser, page):
    text = browser.find_element("css selector", "body").text
    assert "not for judging people" in text and "stay on this machine" in text
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [address for address in asked if not address.startswith((page[0], "data:", "blob:"))] == []


def test_only_this_machine_reaches_the_page(page):
    port = int(page[0].rsplit(":", 1)[1])
    with socket.socket() as asked:
        asked.settimeout(2)
        try:
            address = socket.gethostbyname(socket.gethostname())
        except OSError:
            pytest.skip("this machine has no address of its own")
        if address.startswith("127."):
            pytest.skip("this machine has no address of its own")
        assert asked.connect_ex((address, port)) != 0
