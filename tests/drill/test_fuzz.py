"""Two thousand files that nobody meant: they are taken or refused in a sentence, and none of them runs code."""

from __future__ import annotations

import ast
import json
import random
import sys
from pathlib import Path

import pytest
import yaml
from drill.damages import copied
from papermill.translators import PythonTranslator

from gan_lib.classifiers import load_classifier
from gan_lib.explainers import GeneratorExplainer
from gan_lib.figures.save import read_manifest
from gan_lib.workbench import Profile, ProfileError, parsed_change
from gan_lib.workbench.claims import load_claims
from gan_lib.workbench.explained import ExplanationFolder, written_to
from gan_lib.workbench.values import plain

ROOT = Path(__file__).parents[2]
CASES = 1000  # of each
TOLD = (ValueError, FileNotFoundError, KeyError)  # what commands tell in one line, as the giver's to mend
TAGS = (
    *("!!python/object/apply:os.system", "!!python/object/new:evilmod.Made", "!!python/name:evilmod.make"),
    *("!!python/module:evilmod", "!!binary", "!!set", "!!omap", "!!pairs", "!!timestamp", "!!int", "!!float"),
    *("!!bool", "!!null", "!!str", "!!seq", "!!map", "!evil", "!<tag:yaml.org,2002:python/tuple>"),
)
EVIL = "evilmod:make"
CODE = "import evilmod"


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A module that leaves a file behind when it is imported, and the place of that file."""
    sung = tmp_path / "canary"
    (tmp_path / "evilmod.py").write_text(
        f"open({str(sung)!r}, 'w').close()\ndef make(*_): return None\nMade = make\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "evilmod", raising=False)
    monkeypatch.chdir(tmp_path)
    yield sung
    assert not sung.exists(), "code was run"


def texts(drawn: random.Random, canary: Path) -> str:
    """Something that would run if it were pasted into a cell."""
    code = drawn.choice([CODE, f"open({str(canary)!r},'w')", "__import__('evilmod')"])
    wrapped = (
        "{}",
        "';{};'",
        '";{};"',
        "b'x';{};b'",
        "\\';{}#",
        "\n{}\n",
        "'''\n{}\n'''",
        "${{{}}}",
        "{{{{{}}}}}",
        "`{}`",
        "$({})",
    )
    return drawn.choice(wrapped).format(code)


def scalar(drawn: random.Random, canary: Path) -> str:
    odd = (
        "~",
        "1e999",
        ".nan",
        "-.inf",
        "0x1F",
        "0o17",
        "1_000",
        "2020-01-01",
        "on",
        "''",
        "*a",
        "&a x",
        "<<",
        "? x",
        "- -",
        "{",
        "[",
        "|",
        ">-",
        "\u2028",
        "\x85",
        "%",
        "@",
        "\t",
    )
    if drawn.random() < 0.5:
        return json.dumps(texts(drawn, canary))
    return drawn.choice(odd)


def fuzzed_yaml(drawn: random.Random, canary: Path, base: str) -> str:
    """A profile with something wrong: a tag, a value, an alias, a byte."""
    kind = drawn.randrange(6)
    names = (
        "cnn.weights",
        "data.name",
        "cnn.architecture",
        "gan.variants",
        "seeds",
        "judge.fills",
        "data.image_size",
        "concepts.classes",
        "machine.device",
        "nowhere.x",
        "supervised.epochs",
        "claims",
    )
    name = drawn.choice(names)
    section, _, field = name.partition(".")
    value = scalar(drawn, canary)
    if kind == 0:
        value = f"{drawn.choice(TAGS)} {drawn.choice([value, '[' + value + ']', '{a: ' + value + '}'])}"
    elif kind == 1:
        value = "[" * drawn.randrange(1, 60) + value + "]" * drawn.randrange(1, 60)
    elif kind == 2:
        value = f"&a [{value}, *a]" if drawn.random() < 0.5 else f"{{<<: &b {{x: {value}}}, y: *b}}"
    elif kind == 3:
        content = bytearray(base.encode() or b"a: b")
        for _ in range(drawn.randrange(1, 4)):
            content[drawn.randrange(len(content))] = drawn.randrange(256)
        return content.decode("latin-1")
    elif kind == 4:
        return base[: drawn.randrange(len(base) + 1)] + value
    return f"{section}: {{{field}: {value}}}\n" if field else f"{section}: {value}\n"


def refused(call, kinds=ProfileError) -> str:
    """The sentence with which a call is refused; empty where it is not."""
    try:
        call()
    except kinds as error:
        return str(error) or "nothing"
    return ""


def pasted(text: str, canary: Path) -> None:
    """A change as a notebook gets it: run as papermill's cell, of which every line is a value."""
    name, value = parsed_change(text)
    cell = PythonTranslator().codify({"changes": plain({name: value}, "changes"), "profile": "cpu"}, "")
    for line in ast.parse(cell).body:
        assert isinstance(line, ast.Assign)
        ast.literal_eval(line.value)
    exec(cell, {})


def test_profiles_changes_and_claims(tmp_path, canary):
    drawn, bases = (
        random.Random(7),
        [path.read_text() for path in (ROOT / "notebooks/profiles").glob("*.yaml")],
    )
    file, taken = tmp_path / "fuzz.yaml", 0
    for number in range(CASES):
        text = fuzzed_yaml(drawn, canary, drawn.choice(bases))
        file.write_bytes(text.encode() if number % 7 else text.encode("latin-1", "replace"))
        why = refused(lambda: Profile.load(str(file), tmp_path))
        taken += not why
        assert why != "nothing"
        refused(lambda: load_claims(file))
        change = f"{drawn.choice(['cnn.weights', 'x', 'a=b', ''])}={text}"
        refused(lambda change=change: pasted(change, canary))
    assert 0 < taken < CASES, "some fit, most do not"


@pytest.mark.parametrize("tag", TAGS[:4])
def test_the_canary_sings_where_yaml_is_loaded_carelessly(tmp_path, canary, tag):
    """So that the test above could fail."""
    given = f"['touch {canary}']" if "apply" in tag else "[]" if "new" in tag else "''"
    yaml.unsafe_load(f"{tag} {given}")
    assert canary.exists()
    canary.unlink()


def places_of(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, own in items:
        yield from places_of(own, (*path, key))


def fuzzed_json(drawn: random.Random, canary: Path, base) -> str:
    """A JSON file with a value exchanged, a name taken out, or bytes of it changed."""
    value = json.loads(json.dumps(base))
    path = drawn.choice([*places_of(value)][1:])
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    junk = (
        None,
        [],
        {},
        -1,
        0,
        1e308,
        10**30,
        True,
        EVIL,
        "evilmod.py:make",
        "../../etc/passwd",
        [[[]]],
        {"a": EVIL},
        texts(drawn, canary),
        "slim_vgg",
        "",
    )
    kind = drawn.randrange(5)
    if kind < 3:
        holder[path[-1]] = drawn.choice(junk)
    elif kind == 3:
        del holder[path[-1]]
    text = json.dumps(value)
    if kind == 4:
        place = drawn.randrange(len(text))
        text = drawn.choice(
            [text[:place], text[:place] + chr(drawn.randrange(256)) + text[place + 1 :], "[" * 5000, text * 2]
        )
    return text


def test_cards_of_networks_figures_and_explanations(tmp_path, canary):
    drawn = random.Random(11)
    home = copied(ROOT / "data/pretrained/slim_vgg", tmp_path / "slim_vgg")
    for path in home.rglob("checksums.json"):
        path.unlink()  # else all would be refused by them
    row = {"run": "p", "caption": "A", "sha256": "0" * 64}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": {"a.csv": row}, "runs": {"p": {"seed": 0}}}))
    folder = ExplanationFolder(tmp_path / "out", {"cnn": "a", "size": [64, 64]}, {"edges": ""})
    folder.begin()

    def explained():
        written_to(tmp_path / "out")
        ExplanationFolder(tmp_path / "out", {"cnn": "a", "size": [64, 64]}, {"edges": ""}).rows()

    readers = {
        home / "classifier.json": lambda: load_classifier(home),
        home / "lsft/explainer.json": lambda: GeneratorExplainer.from_pretrained(home / "lsft"),
        home / "lsft/generator.json": lambda: GeneratorExplainer.from_pretrained(home / "lsft"),
        tmp_path / "manifest.json": lambda: read_manifest(tmp_path),
        tmp_path / "out/explain.json": explained,
    }
    count = 0
    for path, read in readers.items():
        before = path.read_text()
        for _ in range(CASES // len(readers)):
            text = fuzzed_json(drawn, canary, json.loads(before))
            path.write_text(text)
            try:
                why = refused(read, TOLD)
            except Exception as error:
                raise AssertionError(f"{path.name}: {text[:300]}") from error
            count += bool(why)
            assert not why or " " in why, f"no sentence: {why}"
        path.write_text(before)
        read()
    assert count > CASES // 2
