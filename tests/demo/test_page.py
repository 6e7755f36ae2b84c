"""The page in a real browser: generated faces, uploads, the slider, and what a hostile file gets."""

import shutil

import pytest

from lrfr_jax.demo import server
from tests.demo.test_server import FIRST, SECOND, model, running  # noqa: F401  # fixtures

playwright = pytest.importorskip("playwright.sync_api", reason="no browser driver: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed on this machine")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture
def page(running):  # noqa: F811
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened = browser.new_page()
        opened.faults = []
        opened.on("pageerror", lambda error: opened.faults.append(str(error)))
        opened.goto(f"http://{server.HOST}:{running.server_address[1]}/")
        opened.wait_for_selector("#decisions tr", timeout=60_000)
        yield opened
        browser.close()


def similarity(page):
    return float(page.inner_text("#decisions td:nth-child(2)"))


def test_generated_faces_the_slider_and_both_modes(page):
    assert page.inner_text("#size") == "112 px"
    assert page.locator("#chart polyline").count() == 1
    whole, first_view = similarity(page), page.get_attribute("#view0", "src")
    page.focus("#slider")
    page.keyboard.press("End")
    assert page.inner_text("#size") == "7 px"
    assert similarity(page) != whole
    assert page.get_attribute("#view0", "src") == first_view
    assert page.get_attribute("#view1", "src") != first_view
    page.check("input[value=lr_lr]")
    assert page.get_attribute("#view0", "src") != first_view
    assert page.faults == []


def test_uploads(page):
    for place, content in enumerate((FIRST, FIRST)):
        page.set_input_files(f"#file{place}", {"name": "../../a.png", "mimeType": "image/png", "buffer": content})
    page.wait_for_selector("#decisions td:text-is('1.0000')")
    page.set_input_files("#file1", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"<html>"})
    page.wait_for_selector("#error:has-text('the second picture is')")
    page.set_input_files("#file1", {"name": "b.jpg", "mimeType": "image/jpeg", "buffer": bytes(11 * 2**20)})
    page.wait_for_selector("#error:has-text('at most 10 MB')")
    page.set_input_files("#file1", {"name": "c.png", "mimeType": "image/png", "buffer": SECOND})
    page.wait_for_selector("#error:text-is('')", state="attached")
    assert similarity(page) < 0.9999
    assert page.faults == []
