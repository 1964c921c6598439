"""README's results and figures/RESULTS.md, made from tables."""

from __future__ import annotations

import pandas as pd
import pytest
from typer.testing import CliRunner

from gan_lib.cli import app
from gan_lib.workbench import Places, ProfileError
from gan_lib.workbench.results import load_sheets, readme_block, stale_results, write_results

SHEETS = """
- title: Ours
  table: cpu/01_x/results
  columns: {dice: Dice, drop: "drop [%]"}
  readme: [ours, nobody]
- {title: Costs, table: cpu/01_x/cost, digits: 1}
- {title: Not made here, table: gpu/01_x/results, columns: {dice: Dice}, readme: [ours]}
"""
ROWS = [
    ("ours", "dice", 0.71234, 0.65, 0.75, 500, 5),
    ("ours", "drop", 12.0, 9.0, 15.0, 500, 5),
    ("theirs", "dice", 0.5, 0.4, 0.6, 500, 5),
    ("theirs", "drop", 30.0, 20.0, 40.0, 500, 5),
]
COLUMNS = ["method", "measure", "mean", "low", "high", "n", "cnns"]


@pytest.fixture
def project(tmp_path):
    own = Places.of(tmp_path)
    (own.figures / "cpu/01_x").mkdir(parents=True)
    own.notebooks.mkdir()
    (own.notebooks / "results.yaml").write_text(SHEETS)
    pd.DataFrame(ROWS, columns=COLUMNS).to_csv(own.figures / "cpu/01_x/results.csv", index=False)
    pd.DataFrame({"method": ["a"], "ms": [1.26]}).to_csv(own.figures / "cpu/01_x/cost.csv", index=False)
    claims = {"notebook": "01_x", "claim": ["better"], "condition": "mean > 0", "value": 0.2, "low": 0.1}
    claims |= {"high": 0.3, "verdict": ["holds"]}
    pd.DataFrame(claims).to_csv(own.figures / "cpu/claims.csv", index=False)
    text = "# Title\n\n<!-- results: begin -->\nold\n<!-- results: end -->\n\nAfter.\n"
    (tmp_path / "README.md").write_text(text)
    return own


def test_readme_and_page(project):
    write_results(project)
    readme = (project.notebooks.parent / "README.md").read_text()
    assert readme.startswith("# Title\n\n<!-- results: begin -->\n**Ours** (500 images, 5 CNNs):")
    assert readme.endswith("<!-- results: end -->\n\nAfter.\n")
    assert "| ours | 0.71 [0.65, 0.75] | 12.00 [9.00, 15.00] |" in readme
    assert "theirs" not in readme
    assert "\nold\n" not in readme
    assert "1 of 1 claims hold here (`figures/cpu/claims.csv`)." in readme
    page = (project.figures / "RESULTS.md").read_text()
    assert "| theirs | 0.50 [0.40, 0.60] | 30.00 [20.00, 40.00] |" in page
    assert "| a | 1.3 |" in page
    assert "| better | 0.2 [0.1, 0.3] | mean > 0 | holds |" in page
    assert "Not made here" not in page
    write_results(project)
    assert (project.notebooks.parent / "README.md").read_text() == readme


def moved(project, mean):
    rows = [list(row) for row in ROWS]
    rows[0][2] = mean
    pd.DataFrame(rows, columns=COLUMNS).to_csv(project.figures / "cpu/01_x/results.csv", index=False)


def test_readme_is_stale_only_where_a_mean_has_left_its_interval(project):
    root = ["--root", str(project.notebooks.parent)]
    assert CliRunner().invoke(app, ["results", *root]).exit_code == 0
    assert stale_results(project) == []
    moved(project, 0.69)
    assert stale_results(project) == []
    moved(project, 0.80)
    (line,) = stale_results(project)
    assert "0.71 [0.65, 0.75]" in line
    assert "0.80" in line
    made = CliRunner().invoke(app, ["results", "--check", *root])
    assert made.exit_code == 1
    assert "0.80" in made.output


def test_what_does_not_fit(project, tmp_path):
    path = project.notebooks / "results.yaml"
    path.write_text("- {title: a, tabel: b}")
    with pytest.raises(ProfileError, match="tabel"):
        load_sheets(path)
    path.write_text("- {title: Ours, table: cpu/01_x/results, columns: {dcie: Dice}}")
    with pytest.raises(ProfileError, match="dcie"):
        write_results(project)
    with pytest.raises(FileNotFoundError):
        load_sheets(tmp_path / "none.yaml")
    path.write_text(SHEETS)
    (tmp_path / "README.md").write_text("no markers")
    with pytest.raises(ProfileError, match="results: begin"):
        write_results(project)


def test_readme_has_room_for_so_many_lines(project):
    rows = [(f"m{i}", "dice", 0.5, 0.4, 0.6, 1, 1) for i in range(40)]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(project.figures / "cpu/01_x/results.csv", index=False)
    names = ", ".join(f"m{i}" for i in range(40))
    text = f"- {{title: Ours, table: cpu/01_x/results, columns: {{dice: Dice}}, readme: [{names}]}}"
    (project.notebooks / "results.yaml").write_text(text)
    with pytest.raises(ProfileError, match="room for 40 lines"):
        readme_block(load_sheets(project.notebooks / "results.yaml"), project.figures)
