"""The explorer in JupyterLab and the study's page, used as a person uses them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import TimeoutError, expect
from servers import PICTURES, free_port, served

from gan_lib.classifiers import load_classifier, save_classifier
from gan_lib.cli.project import LARGEST_UPLOAD

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 60_000  # milliseconds
HTML = '<img src=x onerror="window.executed=1">'  # what a name could try
SMALL = {"explorer.learned_images": 300, "study.studies": 2, "study.images": 3}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A copy of what the notebooks need, so that nothing is written into the project."""
    tmp_path = tmp_path_factory.mktemp("workplace")
    pages = tmp_path / "notebooks/pages"
    pages.mkdir(parents=True)
    shutil.copy(ROOT / "notebooks/pages/user_study.ipynb", pages)
    text = (ROOT / "notebooks/09_explorer.ipynb").read_text()
    assert "changes = {}" in text
    text = text.replace("changes = {}", f"changes = {SMALL}")
    (tmp_path / "notebooks/09_explorer.ipynb").write_text(text)
    shutil.copytree(ROOT / "notebooks/profiles", tmp_path / "notebooks/profiles")
    pretrained = tmp_path / "data/pretrained"
    pretrained.mkdir(parents=True)
    for own in (ROOT / "data/pretrained").iterdir():
        (pretrained / own.name).symlink_to(own)
    named = load_classifier(ROOT / "data/pretrained/slim_vgg", class_names=[HTML + str(k) for k in range(10)])
    save_classifier(named, pretrained / "zz_named")
    # All cells in the page at once, also those that are not in view.
    settings = tmp_path / "jupyterlab_settings_dir/@jupyterlab/notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))
    return tmp_path


def pictures(page):
    return page.eval_on_selector_all(".gan-lib-view img", "images => images.map(image => image.src)")


def menu(page, label):
    return page.locator(
        ".gan-lib-explorer .widget-dropdown", has=page.get_by_text(label, exact=True)
    ).locator("select")


def changed(page, before):
    page.wait_for_function(
        "before => { const now = [...document.querySelectorAll('.gan-lib-view img')].map(i => i.src);"
        " return now.length > 0 && JSON.stringify(now) !== JSON.stringify(before); }",
        arg=before,
        timeout=PATIENCE,
    )
    return pictures(page)


def open_with_kernel(page, notebook):
    """Open a notebook and wait for its kernel.

    "Run all" before there is a kernel would open a dialog and wait for ever. Now and then a fresh server's
    first connection to a kernel stays at "Connecting"; the page is then loaded again, as a person would.
    """
    for _ in range(3):
        page.goto(notebook, timeout=PATIENCE)
        try:
            page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=PATIENCE / 4)
        except TimeoutError:
            continue
        return
    pytest.fail("JupyterLab does not connect to its kernel")


@pytest.fixture(scope="module")
def explored(browser, workplace):
    """Notebook 09 in JupyterLab after "Run all", where nothing can be downloaded."""
    port = free_port()
    command = [
        "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--IdentityProvider.token=", f"--ServerApp.root_dir={workplace / 'notebooks'}",
        f"--ServerApp.tornado_settings={{'websocket_max_message_size': {LARGEST_UPLOAD}}}",
    ]  # fmt: skip
    nothing = {"TORCH_HOME": str(workplace), "https_proxy": "http://127.0.0.1:9"}
    with served(command, port, workplace, **nothing) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        open_with_kernel(page, f"{address}/lab/tree/09_explorer.ipynb?reset")
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.locator(".gan-lib-view img").first.wait_for(timeout=PATIENCE)
        yield page
        page.close()


def photographed(page, name):
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


def upload(page, file):
    with page.expect_file_chooser() as chooser:
        page.locator(".gan-lib-explorer").get_by_role("button", name="upload an image").click()
    chooser.value.set_files(file)


def test_explorer_in_jupyterlab(explored):
    page, explorer = explored, explored.locator(".gan-lib-explorer")
    first = pictures(page)
    assert len(first) == 4
    menu(page, "method").select_option(label="grad_cam")
    other_method = changed(page, first)
    slider = page.locator(".gan-lib-explorer .widget-hslider", has=page.get_by_text("area shown"))
    slider.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")  # reached and moved by keyboard alone
    page.keyboard.press("ArrowRight")
    smaller = changed(page, other_method)
    menu(page, "compare with").select_option(label="edges")
    changed(page, smaller)
    expect(page.locator(".gan-lib-view img")).to_have_count(8)
    explorer.get_by_role("tab", name="Conditions").click()
    menu(page, "method").select_option(label="contrastive_lsft")
    expect(explorer.get_by_text("of the relevance").first).to_be_visible(timeout=PATIENCE)
    photographed(page, "explorer_conditions")
    explorer.get_by_role("tab", name="Contrasting").click()
    expect(explorer.get_by_text("activations moved by 0 from").first).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".gan-lib-study .gan-lib-answer").first).to_be_attached(timeout=PATIENCE)
    expect(explorer.locator("[role=alert]")).to_have_count(0)
    expect(
        page.locator(
            ".Toastify__toast--error, .jp-RenderedText[data-mime-type*=stderr] pre:has-text('Traceback')"
        )
    ).to_have_count(0)
    upload(page, {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no pixels"})
    expect(explorer.get_by_text("no image that can be read")).to_be_visible(timeout=PATIENCE)


def test_a_photograph_of_ones_own_and_a_large_cnn(explored, test_data, tmp_path):
    page, explorer = explored, explored.locator(".gan-lib-explorer")
    menu(page, "compare with").select_option(label="(none)")
    expect(page.locator(".gan-lib-view img")).to_have_count(4, timeout=PATIENCE)
    menu(page, "CNN").select_option(label="mobilenet_v2")
    expect(explorer.locator("[role=alert]")).to_contain_text("could not be downloaded", timeout=PATIENCE)
    expect(page.locator(".gan-lib-view img")).to_have_count(0)
    menu(page, "method").select_option(label="grad_cam")  # which still can be chosen
    expect(explorer.locator("[role=alert]")).to_contain_text("could not be downloaded", timeout=PATIENCE)
    photographed(page, "explorer_without_weights")
    weights = test_data / "weights/mobilenet_v2_imagenet.safetensors"
    explorer.get_by_placeholder("path of a file").fill(str(weights))
    explorer.get_by_role("button", name="use these weights").click()
    expect(page.locator(".gan-lib-view img")).to_have_count(4, timeout=PATIENCE)
    expect(explorer.get_by_placeholder("path of a file")).to_be_hidden()
    before = pictures(page)
    with Image.open(test_data / "test-images/cat_dog.png") as image:
        large = image.convert("RGB").resize((3000, 2800))
    large.save(tmp_path / "cat_dog.bmp")
    assert (tmp_path / "cat_dog.bmp").stat().st_size > 20 * 2**20  # as from a camera
    upload(page, tmp_path / "cat_dog.bmp")
    changed(page, before)
    expect(explorer.get_by_text("3000 x 2800")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".gan-lib-view").get_by_text("bull mastiff: ").first).to_be_visible()
    expect(explorer.locator("[role=alert]")).to_have_count(0)
    photographed(page, "explorer_mobilenet_v2")


def executed(page):
    """Whether a page took a name for HTML."""
    page.wait_for_timeout(500)  # in which a browser finds that x is no picture
    return page.evaluate("window.executed") is not None or page.locator("img[src=x]").count() > 0


def test_names_are_no_html_in_the_explorer(explored, tmp_path):
    page, explorer = explored, explored.locator(".gan-lib-explorer")
    menu(page, "compare with").select_option(label="(none)")
    menu(page, "CNN").select_option(label="zz_named")
    expect(page.locator(".gan-lib-view").get_by_text(HTML).first).to_be_visible(timeout=PATIENCE)
    menu(page, "method").select_option(label="grad_cam")
    for tab, words in (
        ("Contrasting", "activations moved by"),
        ("Scores", "insertion"),
        ("Concepts", "prototype 1"),
    ):
        explorer.get_by_role("tab", name=tab).click()
        expect(explorer.get_by_text(words).first).to_be_visible(timeout=PATIENCE)
    Image.new("RGB", (20, 30), (200, 40, 90)).save(tmp_path / f"{HTML}.png")
    upload(page, tmp_path / f"{HTML}.png")
    expect(explorer.get_by_text(f"{HTML}.png, 20 x 30")).to_be_visible(timeout=PATIENCE)
    upload(page, {"name": f"{HTML}.txt", "mimeType": "text/plain", "buffer": b"no pixels"})
    expect(explorer.get_by_text("no image that can be read")).to_be_visible(timeout=PATIENCE)
    assert not executed(page)


def test_study_page(page, workplace):
    port, answers = free_port(), workplace / "answers.csv"
    notebook = workplace / "notebooks/pages/user_study.ipynb"
    text = notebook.read_text()
    assert "changes = {}" in text
    named = {"explorer.cnn": "zz_named", "study.methods": ["grad_cam", "saliency", "edges"]}
    notebook.write_text(text.replace("changes = {}", f"changes = {named}"))
    command = ["voila", str(notebook), "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
    with served(command, port, workplace, GAN_LIB_STUDY_ANSWERS=str(answers)) as address:
        page.goto(address, timeout=PATIENCE)
        for number in range(1, 4):
            expect(page.get_by_text(f"Question {number} of 27")).to_be_visible(timeout=PATIENCE)
            page.locator(".gan-lib-answer").first.click()
        expect(page.get_by_text("Question 4 of 27")).to_be_visible(timeout=PATIENCE)
        table = pd.read_csv(answers)
        assert not executed(page)
    assert len(table) == 3
    assert table["number"].tolist() == [0, 1, 2]
    assert table["participant"].nunique() == 1
