"""The page of a report: everything is in it, and nothing in it is believed."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import torch
from reporting.synthetic import CLASSES, ENDLESS, HTML, write_report

from gan_lib.reporting.page import KINDS, anchor, write_page
from gan_lib.reporting.parts import Part, load_part

EMPTY = {"name": "empty", "title": "Empty", "blocks": [], "tables": [], "findings": []}
FINDING = {"part": "own", "sentence": "It falls.", "claim": "c", "table": "kept", "where": "class = a"}
FINDING |= {"condition": "mean < 0", "verdict": "holds", "value": -0.5, "low": -0.75, "high": -0.25, "n": 40}


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text outside of style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._inside = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice: {attrs}"
        self.found.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        self.text += "" if self._inside == "style" else data

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for own, attributes in self.found if own == tag]

    def values(self, attribute: str) -> list[str]:
        return [own[attribute] or "" for _, own in self.found if attribute in own]


def page_of(folder: Path, *blocks, findings=(), lead=(), about=None) -> Elements:
    """The page of one part of these blocks."""
    part = {**EMPTY, "name": "own", "title": "Own", "blocks": list(blocks), "findings": list(findings)}
    return Elements(write_page(folder, "Title", lead, [part], about or {}).read_text())


@pytest.fixture(scope="module", params=["plain", "nasty"])
def report(tmp_path_factory, request):
    """The text of a whole report's page, and whether all its names are nasty."""
    folder = tmp_path_factory.mktemp("report")
    return write_report(folder, request.param == "nasty"), request.param == "nasty"


def test_nothing_comes_from_elsewhere_and_nothing_runs(report):
    page = Elements(report[0].read_text())
    allowed = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "nav",
        "section",
        "h1",
        "h2",
    }
    allowed |= {
        "h3",
        "p",
        "span",
        "strong",
        "a",
        "ol",
        "ul",
        "li",
        "div",
        "dl",
        "dt",
        "dd",
        "figure",
        "img",
        "wbr",
    }
    allowed |= {"figcaption", "table", "thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _ in page.found} <= allowed
    assert page.values("src")
    assert all(own.startswith("data:image/jpeg;base64,") for own in page.values("src"))
    assert all(re.match(r"#|tables/[\w%.-]+\.csv$", own) for own in page.values("href"))
    assert not {name for _, own in page.found for name in own if name.startswith("on")}
    style = re.findall(r"<style>(.*?)</style>", report[0].read_text(), re.DOTALL)
    assert len(style) == 1
    assert not re.search(r"https?:|url\(|@import|&\w+;|[{}][{%#]", style[0])
    assert "default-src 'none'" in next(own["content"] for own in page.every("meta") if "http-equiv" in own)
    assert page.every("html") == [{"lang": "en"}]


def test_links_within_the_page_and_to_tables_lead_somewhere(report):
    page = Elements(report[0].read_text())
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    links = page.values("href")
    assert {own[1:] for own in links if own.startswith("#")} <= set(ids)
    assert {"#part-trust", "#part-concepts", "#part-reliance", "#part-doubles", "#about"} <= set(links)
    assert "#table-trust_faithfulness" in links
    assert "tables/trust_kept.csv" in links, "a table that the page does not show"
    assert all((report[0].parent / own).is_file() for own in links if not own.startswith("#"))


def test_everything_is_there(report):
    path, nasty = report
    page = Elements(path.read_text())
    assert "This part could not be made: ValueError: the CNN has no layer" in page.text
    assert "Not made yet." in page.text
    for own in ("does not hold", "undecided", "[-0.28, -0.15]", "n = 200", "mean < 0", "images", "shown: 7"):
        assert own in page.text
    assert all(own in page.text for own in CLASSES[:2])
    assert (f"a, {ENDLESS}" if nasty else "Twelve columns.") in page.text or ENDLESS in page.text
    assert len(page.every("img")) == 2 * 2 * 11 + sum(
        6 - (number % 3 == 2) for count in ((5, 3) if nasty else (7, 3)) for number in range(count)
    )
    assert all(own["alt"] and own["width"] and own["height"] for own in page.every("img"))


def test_texts_are_texts_everywhere(tmp_path):
    part = Part("own", HTML)
    part.words(HTML)
    part.heading(HTML)
    part.table("own_table", pd.DataFrame({HTML: [HTML]}), HTML)
    part.gallery([[(torch.rand(3, 4, 4), HTML), (torch.rand(3, 4, 4), "")]], [HTML, HTML], [HTML], HTML)
    part.gallery([[(torch.rand(3, 4, 4), HTML)]], titles=[HTML + HTML], caption=HTML)
    part.save(tmp_path / "parts/own")
    finding = {**FINDING, "sentence": HTML, "claim": HTML, "table": HTML, "where": HTML, "condition": HTML}
    loaded = dict(load_part(tmp_path / "parts/own"))
    loaded["blocks"] = [*loaded["blocks"], {"kind": "finding", **finding}]
    failed = {"name": HTML, "title": HTML, "error": HTML}
    text = write_page(tmp_path, HTML, [finding], [loaded, failed], {HTML: [HTML]}).read_text()
    page = Elements(text)
    assert "<script" not in text
    assert len(page.every("img")) == 3, "those of the galleries only"
    assert {HTML, f"{HTML}, {HTML}"} == {own["alt"] for own in page.every("img")}
    assert page.text.replace("\u2026", "").count("<script>alert(") >= 20
    assert page.values("title").count(HTML) == 7, "heads, cells, captions"
    assert {own[1:] for own in page.values("href") if own.startswith("#")} <= set(page.values("id"))
    assert anchor(HTML, "part") in page.values("id")


def test_pictures_are_inside_byte_by_byte(tmp_path):
    part = Part("own", "Own")
    part.gallery(
        [[(torch.rand(3, 5, 7), "one"), None], [(torch.rand(3, 4, 4), "")]], ["image"], ["a"], smooth=False
    )
    part.save(tmp_path / "parts/own")
    page = Elements(write_page(tmp_path, "Title", [], [load_part(tmp_path / "parts/own")], {}).read_text())
    inside = [base64.b64decode(own.partition(",")[2], validate=True) for own in page.values("src")]
    assert inside == [
        (tmp_path / "parts/own/pictures" / name).read_bytes() for name in ("0000.jpg", "0001.jpg")
    ]
    assert [(own["width"], own["height"], own["alt"]) for own in page.every("img")] == [
        ("7", "5", "one"), ("4", "4", "image"),
    ]  # fmt: skip
    assert [own for own in page.values("class") if own.startswith("gallery")] == ["gallery pixels"]
    loaded = load_part(tmp_path / "parts/own")
    (tmp_path / "parts/own/pictures/0001.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"0001\.jpg"):
        write_page(tmp_path, "Title", [], [loaded], {})
    assert load_part(tmp_path / "parts/own") is None


@pytest.mark.parametrize(("left_out", "told"), [(0, None), (1, "1 more row in"), (12, "12 more rows in")])
def test_tables_say_what_they_leave_out(tmp_path, left_out, told):
    block = {"kind": "table", "name": "a b/c", "caption": "All.", "heads": ["class", "share"]}
    page = page_of(tmp_path, {**block, "rows": [["a", "1"], ["b", ""]], "left_out": left_out})
    assert "a b/c.csv" in page.text
    assert "tables/a%20b%2Fc.csv" in page.values("href")
    assert "table-a%20b%2Fc" in page.values("id")
    assert (told in page.text) if told else ("more row" not in page.text)


@pytest.mark.parametrize(
    ("cells", "numeric"),
    [(["1", "-0.25", ""], True), (["1e-05", "12 %"], True), (["[-0.1, 0.2]"], True), (["0.1 [-0.1, 0.2]"], True),
     (["1", "a"], False), (["2 cats"], False), (["", ""], False), (["nan", "inf"], True)],
)  # fmt: skip
def test_columns_of_numbers_stand_at_the_right(tmp_path, cells, numeric):
    block = {"kind": "table", "name": "t", "caption": "", "heads": ["own"], "rows": [[own] for own in cells]}
    page = page_of(tmp_path, {**block, "left_out": 0})
    assert [own.get("class") == "number" for own in page.every("td")] == [numeric] * len(cells)


def test_a_table_shown_twice_has_one_id(tmp_path):
    block = {"kind": "table", "name": "t", "caption": "", "heads": ["own"], "rows": [], "left_out": 0}
    page = page_of(tmp_path, block, block)
    assert page.values("id").count("table-t") == 1
    assert page.text.count("The table has no rows.") == 2


def test_a_finding_says_where_it_comes_from(tmp_path):
    block = {name: own for name, own in FINDING.items() if name not in ("value", "low", "high", "n", "part")}
    shown = {"kind": "table", "name": "kept", "caption": "", "heads": [], "rows": [], "left_out": 0}
    evidence = ["rows class = a", "condition mean < 0", "value -0.5 [-0.75, -0.25]", "n = 40"]
    page = page_of(tmp_path, {"kind": "finding", **block}, findings=[FINDING])
    assert all(own in page.text for own in evidence), "the numbers are those of the part's findings"
    assert page.values("href") == ["#part-own", "tables/kept.csv"]
    page = page_of(tmp_path, {"kind": "finding", **block}, shown, lead=[FINDING])
    assert page.values("href").count("#table-kept") == 2
    assert page.values("href").count("#part-own") == 2
    assert [own for own in page.values("class") if "holds" in own] == [
        "badge holds",
        "finding holds",
        "badge holds",
    ]
    none = {**FINDING, "where": "", "value": None, "low": None, "high": None, "n": None}
    page = page_of(tmp_path, lead=[none])
    assert "all rows" in page.text
    assert "value" not in page.text
    assert "n =" not in page.text


@pytest.mark.parametrize(
    ("verdict", "name"),
    [("does not hold", "fails"), ("undecided", "undecided"), ("not measured", "unmeasured")],
)
def test_verdicts_are_words_and_classes(tmp_path, verdict, name):
    page = page_of(tmp_path, {"kind": "finding", **FINDING, "verdict": verdict})
    assert f"badge {name}" in page.values("class")
    assert verdict in page.text


def test_what_cannot_be_a_page(tmp_path):
    with pytest.raises(ValueError, match=r"'own' has a block of the kind 'film'; a page shows words"):
        page_of(tmp_path, {"kind": "film"})
    with pytest.raises(ValueError, match="two parts of one name: empty, empty"):
        write_page(tmp_path, "Title", [], [EMPTY, EMPTY], {})
    with pytest.raises(ValueError, match="findings of own are to open the page"):
        write_page(tmp_path, "Title", [FINDING], [EMPTY], {})
    assert list(tmp_path.iterdir()) == [], "nothing half written"


def test_every_kind_of_a_part_is_known_and_old_pages_are_replaced(tmp_path):
    path = write_report(tmp_path)
    kinds = {own["kind"] for own in load_part(tmp_path / "parts/trust")["blocks"]}
    assert kinds == set(KINDS)
    assert path == tmp_path / "report.html"
    assert write_page(tmp_path, "caf\udce9", [], [EMPTY], {}) == path
    assert "<title>caf?</title>" in path.read_text(encoding="utf-8")
