"""The page of a report on a telephone, on a screen and on paper, in light and dark."""

from __future__ import annotations

import re

import pytest
from reporting.synthetic import write_report

WIDTHS, SCHEMES = (390, 1280), ("light", "dark")
# Of every element that has text of its own: how it contrasts with what lies below it, by WCAG.
CONTRASTS = """
() => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const shade = colour => parts(colour).slice(0, 3).map(own => own / 255)
    .map(own => own <= 0.04045 ? own / 12.92 : ((own + 0.055) / 1.055) ** 2.4)
    .reduce((sum, own, channel) => sum + own * [0.2126, 0.7152, 0.0722][channel], 0);
  const below = element => {
    for (let own = element; own; own = own.parentElement) {
      const colour = getComputedStyle(own).backgroundColor;
      if ((parts(colour)[3] ?? 1) === 1) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const told = [...document.body.querySelectorAll('*')].filter(
    element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
  return told.map(element => {
    const pair = [shade(getComputedStyle(element).color), shade(below(element))].sort((a, b) => a - b);
    return [`${element.tagName}.${element.className}`, (pair[1] + 0.05) / (pair[0] + 0.05)];
  });
}
"""
OVERFLOW = "() => [document.documentElement.scrollWidth, innerWidth]"
# Text that is cut off at a side, outside of what scrolls and what is clipped on purpose.
CUT = """
() => [...document.querySelectorAll('p, h1, h2, h3, li, figcaption, dd, dt')]
  .filter(own => own.scrollWidth > own.clientWidth + 1).map(own => own.outerHTML.slice(0, 80))
"""
TOO_WIDE = """
() => [...document.querySelectorAll('.scroll, .row, .scroll td, .scroll th')]
  .filter(own => own.scrollWidth > own.clientWidth + 1).map(own => own.outerHTML.slice(0, 80))
"""


@pytest.fixture(scope="module", params=["plain", "nasty"])
def report(request, tmp_path_factory):
    """Address of a report's page; nasty: names of 1,000 characters, and HTML in every text."""
    folder = tmp_path_factory.mktemp(request.param)
    return write_report(folder, nasty=request.param == "nasty").as_uri()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_scrolls_sideways_and_everything_can_be_read(page, report, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    strange = []
    page.on("request", lambda request: strange.append(request.url))
    page.on("dialog", lambda dialog: strange.append(dialog.message))
    page.on("console", lambda message: strange.append(message.text))
    page.goto(report)
    across, inner = page.evaluate(OVERFLOW)
    assert across <= inner == width
    assert page.evaluate(CUT) == []
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert {"SPAN.badge holds", "SPAN.badge fails", "SPAN.badge undecided"} <= {name for name, _ in contrasts}
    assert [own for own in contrasts if own[1] < 4.5] == []
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(253, 253, 252)") == (scheme == "light")
    assert [own for own in strange if own != report and not own.startswith("data:image/jpeg")] == []


def test_three_columns_of_pictures_are_in_view_on_a_telephone(page, report):
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(report)
    for row in (".gallery .scroll tbody tr", ".gallery .row"):
        boxes = [own.bounding_box() for own in page.locator(row).first.locator("img").all()[:3]]
        assert all(box["width"] >= 70 for box in boxes)
        assert len({round(box["y"]) for box in boxes}) == 1
        assert boxes[2]["x"] + boxes[2]["width"] <= 390
    page.set_viewport_size({"width": 1280, "height": 900})
    for where, least in ((".scroll .picture img", 115), (".titled > .strip img", 70)):  # of strips: small
        widths = page.eval_on_selector_all(where, "images => images.map(own => own.clientWidth)")
        assert least <= min(widths) <= max(widths) <= 170
    rendering = "own => getComputedStyle(own).imageRendering"
    assert page.locator(".pixels img").first.evaluate(rendering) == "pixelated"
    assert page.locator(".smooth img").first.evaluate(rendering) == "auto"
    assert page.eval_on_selector_all("img", "all => all.every(own => own.naturalWidth > 0)")


def test_without_javascript(browser, report):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 900})
    page = context.new_page()
    page.goto(report)
    assert page.locator("h1").is_visible()
    assert "could not be made" in page.locator(".failed strong").inner_text()
    page.locator("nav a").nth(2).click()
    assert page.url.endswith("#part-reliance")
    assert abs(page.locator("#part-reliance").bounding_box()["y"]) < 2
    page.locator("#part-reliance .finding a").first.click()
    assert page.url.endswith("#table-reliance_faithfulness")
    context.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_on_paper(page, report, scheme, tmp_path):
    page.emulate_media(media="print", color_scheme=scheme)
    page.set_viewport_size({"width": 680, "height": 1000})  # A4 between its margins, at 96 points per inch
    page.goto(report)
    across, inner = page.evaluate(OVERFLOW)
    assert across <= inner
    assert page.evaluate(TOO_WIDE) == [], "tables and rows of pictures fit"
    assert page.evaluate(CUT) == []
    assert [own for own in page.evaluate(CONTRASTS) if own[1] < 4.5] == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".evidence").first.is_visible()
    pdf = page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    sizes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert {(round(float(width)), round(float(height))) for width, height in sizes} == {(595, 842)}
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= (70 if "nasty" in report else 8)
