"""The command line: it starts at once, and every mistake is told in one line, before anything is written."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gan_lib import __version__
from gan_lib.cli import app, values
from gan_lib.cli.explain import METHODS as TOLD_METHODS
from gan_lib.cli.problems import TRACEBACK, InputError, in_one_line

ROOT = Path(__file__).parents[1]

# -- it starts at once -------------------------------------------------------------------------------

HEAVY = ("torch", "papermill", "pandas", "numpy", "matplotlib", "lightning_fabric", "captum", "sklearn")
STARTED = """
import json, runpy, sys
sys.argv = ["gan-lib", *sys.argv[1:]]
try:
    runpy.run_module("gan_lib", run_name="__main__")
except SystemExit as end:
    code = end.code
peak = next((line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), "0")
sys.stderr.write("\\n" + json.dumps({"code": code, "modules": [*sys.modules], "peak": int(peak)}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of the memory is read from /proc")
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("", 0, "Usage: gan-lib"),
        ("--help", 0, "explain"),
        ("explain --help", 0, "--model"),
        ("run --help", 0, "--profile"),
        ("--version", 0, f"gan-lib {__version__}"),
        ("explain", 2, "error: Missing argument"),
        ("explain photo.png --bogus", 2, "error: No such option: --bogus"),
        ("explain photo.png --image-size 0", 2, "error: --image-size 0"),
        ("explan", 2, "Did you mean 'explain'"),
    ],
)
def test_it_starts_without_what_takes_long(arguments, code, told):
    command = [sys.executable, "-c", STARTED, *shlex.split(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    *errors, last = done.stderr.splitlines()
    about = json.loads(last)
    assert about["code"] == code
    assert told in done.stdout + "\n".join(errors)
    assert not set(about["modules"]) & set(HEAVY)
    assert about["peak"] < 100_000, "KiB"


def test_shell_completion_starts_without_torch():
    environment = {
        **os.environ,
        "_GAN_LIB_COMPLETE": "complete_bash",
        "COMP_WORDS": "gan-lib e",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "gan_lib"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
    )
    assert done.stdout.split() == ["explain"]
    assert "typer" in done.stderr
    assert " torch\n" not in done.stderr


def test_the_help_names_all_methods(untrained_methods):
    from gan_lib.explainers import methods_of

    shipped = [*untrained_methods, *methods_of("trained")]
    assert sorted(TOLD_METHODS.split(", ")) == sorted(shipped)


# -- values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"), [("224", (224, 224)), ("96x128", (96, 128)), ("7X9", (7, 9)), (None, None)]
)
def test_sizes(text, size):
    assert values.image_size(text) == size


def test_names_of_classes(tmp_path):
    (tmp_path / "names.txt").write_text("\ufeffcat\r\n dog \nred fox\n\n", encoding="utf-8")
    assert values.class_names(str(tmp_path / "names.txt")) == ("cat", "dog", "red fox")
    assert values.class_names("cat, dog") == ("cat", "dog")
    assert values.class_names(None) is None
    (tmp_path / "gap.txt").write_text("cat\n\ndog\n")
    with pytest.raises(InputError, match="name 2 of 3 is empty"):
        values.class_names(str(tmp_path / "gap.txt"))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No such file or directory", "/proc/x"), "/proc/x: No such file or directory"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (KeyError("unknown method 'x'"), "unknown method 'x'"),
        (KeyError("x"), "KeyError: x"),
        (ValueError("two\n  lines"), "two lines"),
        (ValueError(), "ValueError"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_messages_in_one_line(error, told):
    assert in_one_line(error) == told


# -- what is wrong is told in one line ----------------------------------------------------------------


def invoke(arguments):
    return CliRunner().invoke(app, shlex.split(arguments))


def listing(folder):
    return sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)


E = "explain photo.png"
WRONG = [
    ("explan photo.png", 2, "Did you mean 'explain'"),
    ("explain", 2, "Missing argument 'photos'"),
    (f"{E} --bogus 3", 2, "No such option: --bogus"),
    (f"{E} --out", 2, "--out"),
    ("explain nowhere.png", 2, "nowhere.png is neither an image nor a folder"),
    ("explain empty", 2, "no images in empty"),
    ("explain broken", 1, "nothing was explained, 1 image skipped"),
    ("explain taken", 1, "nothing was explained, 1 image skipped"),
    (f"{E} --device cuda", 2, "device 'cuda' is asked for, but torch"),
    (f"{E} --device gpu", 2, "a device is auto, cpu, cuda, mps, not 'gpu'"),
    (f"{E} --out taken", 2, "--out taken is a file"),
    (f"{E} --out taken/deeper", 2, "taken/deeper: Not a directory"),
    (f"{E} --out /proc/x", 2, "/proc/x: No such file or directory"),
    (f"{E} --weights text.safetensors", 2, "text.safetensors is text, 'text' ...: a safetensors file"),
    (f"{E} --weights nowhere.safetensors", 2, "nowhere.safetensors"),
    (f"{E} --weights other.safetensors", 2, "other.safetensors"),
    (f"{E} --model resnet18 --weights IMAGENET9", 2, "IMAGENET9"),
    (f"{E} --model my_net", 2, "no weights for 'my_net'"),
    (f"{E} --root nowhere", 2, "no weights for 'slim_vgg'"),
    (f"{E} --target eleven", 2, "no class 'eleven'; there are 10 classes, numbered 0 to 9"),
    (f"{E} --target 99", 2, "no class '99'; there are 10 classes"),
    (f"{E} --target -1", 2, "no class '-1'"),
    (f"{E} --classes 'ant,gas_pump,c,d,e,f,g,h,i,j' --target 'gas pumpe'", 2, "did you mean 'gas_pump'"),
    (f"{E} --method magic", 2, "unknown method 'magic'; there are saliency"),
    (f"{E} --method salency", 2, "did you mean saliency"),
    (f"{E} --method saliency --method Saliency", 2, "--method saliency is given twice"),
    (f"{E} --model pooled.py:make --method lsft", 2, "no lsft is trained for this CNN"),
    (f"{E} --model raises.py:make", 2, "no licence"),
    (f"{E} --model nothing.py:make", 2, "nothing.py:make"),
    (f"{E} --model wants.py:make", 2, "wants.py:make"),
    (f"{E} --model broken.py:make", 2, "broken.py"),
    (f"{E} --model flat.py:make", 2, "not (B, 4, 224, 224)"),
    (f"{E} --model pooled.py:made", 2, "made"),
    (f"{E} --model nowhere.py:make", 2, "nowhere.py"),
    (f"{E} --model nowhere_package.nets:make", 2, "nowhere_package"),
    (f"{E} --classes nowhere.txt", 2, "--classes nowhere.txt: there is no such file"),
    (f"{E} --classes empty", 2, "--classes empty: there is no such file"),
    (f"{E} --classes empty.txt", 2, "there are no names"),
    (f"{E} --classes latin.txt", 2, "latin.txt"),
    (f"{E} --classes ,", 2, "there are no names"),
    (f"{E} --classes twice.txt", 2, "names appear twice: cat"),
    (f"{E} --classes three.txt", 2, "has 10 outputs, 3 class names are given"),
    (f"{E} --image-size 0", 2, "--image-size 0: give pixels"),
    (f"{E} --image-size -3", 2, "--image-size -3: give pixels"),
    (f"{E} --image-size abc", 2, "--image-size abc: give pixels"),
    (f"{E} --image-size 5x", 2, "--image-size 5x: give pixels"),
    (f"{E} --image-size 99999", 2, "from 1 to 8192"),
    (f"{E} --image-size 2", 2, "2x2"),
    (f"{E} --mean 0.5,0.5", 2, "--mean 0.5,0.5: give three numbers"),
    (f"{E} --mean red,green,blue", 2, "give three numbers"),
    (f"{E} --mean nan,0,0", 2, "the numbers must be finite"),
    (f"{E} --std 1,0,1", 2, "the numbers must be above 0"),
    (f"{E} --output nonsense", 2, "output='nonsense'"),
    (f"{E} --output binary", 2, "output='binary' does not fit a CNN of 10 outputs"),
    (f"{E} --span 3", 2, "--span 3: give the lowest and the highest value"),
    (f"{E} --span 3,1", 2, "--span 3,1: give the lowest"),
    (f"{E} --span 0,1", 2, "a regression, and nothing else, has span="),
    (f"{E} --model pooled.py:make --output regression", 2, "has span="),
    (f"{E} --import nowhere.py", 2, "nowhere.py"),
    (f"{E} --import nowhere_module", 2, "there is no module 'nowhere_module'"),
    (f"{E} --import broken.py", 2, "SyntaxError"),
    ("run", 2, "notebooks"),
    ("run --root {ROOT} --only 99", 2, "no notebook starts with 99"),
    ("run --root {ROOT} --profile nothing", 2, "nothing.yaml"),
    ("run --root {ROOT} --profile no.yaml", 2, "no.yaml, line 1:"),
    ("run --root {ROOT} --set nonsense", 2, "a change is name=value, not 'nonsense'"),
    ("run --root {ROOT} --set seeds=[a]", 2, "seeds.0"),
    ("run --root {ROOT} --set seedz=1", 2, "did you mean seed"),
    ("run --root {ROOT} --import nowhere.py", 2, "nowhere.py"),
    ("sweep nothing --root {ROOT}", 2, "nothing.yaml"),
    ("sweep list.yaml --root {ROOT}", 2, "list.yaml must map names to values"),
    ("sweep nothing", 2, "nothing.yaml"),
    ("ship", 2, "cpu.yaml"),
    ("ship --profile nothing --root {ROOT}", 2, "nothing.yaml"),
    ("reference --only nonsense --root project", 2, "nonsense"),
    ("reference --workers 0", 2, "--workers"),
    ("figures", 2, "no figures were made in"),
    ("figures --compare nothing --root {ROOT}", 2, "'nothing' is no folder and no revision with figures"),
    ("figures --compare empty --root {ROOT}", 2, "there are no tables of 'cpu' in empty"),
    ("results", 2, "results.yaml"),
    ("lab", 2, "--root is the project"),
    ("study", 2, "--root is the project"),
    ("study --port http", 2, "--port"),
    ("study --port 99999", 2, "--port"),
]


@pytest.mark.parametrize(("arguments", "code", "told"), WRONG, ids=[arguments for arguments, *_ in WRONG])
def test_a_mistake_is_told_in_one_line(here, arguments, code, told):
    before = listing(here)
    done = invoke(arguments.replace("{ROOT}", str(ROOT)))
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.exit_code == code, done.output
    assert len(errors) == 1, done.output
    assert told in errors[0]
    assert "Traceback" not in done.output
    assert listing(here) == before, "nothing is written"


def test_there_are_many_mistakes():
    assert len({arguments for arguments, *_ in WRONG}) == len(WRONG) >= 45


def test_a_profile_without_explainers_has_nothing_to_ship(places):
    done = invoke(f"ship --profile tiny --root {places.data.parent}")
    assert done.exit_code == 2
    assert done.stderr == "error: the profile has trained no explainers: run 02 and 03 first\n"


@pytest.mark.parametrize("arguments", ["explain nowhere.png", "explain photo.png --model broken.py:make"])
def test_a_mistake_in_a_process_of_its_own(here, arguments):
    command = [sys.executable, "-m", "gan_lib", *shlex.split(arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")


def test_what_fails_in_running_says_how_to_see_where(here, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("gan_lib.workbench.explain.explain_images", fail)
    done = invoke("explain photo.png --out out")
    assert done.exit_code == 1
    assert done.stderr == "error: ZeroDivisionError: by zero (GAN_LIB_TRACEBACK=1 shows where)\n"
    assert not (here / "out").exists()
    monkeypatch.setenv(TRACEBACK, "1")
    assert isinstance(invoke("explain photo.png --out out").exception, ZeroDivisionError)


def test_a_folder_that_cannot_be_written_to(here, monkeypatch):
    def touch(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", touch)
    done = invoke("explain photo.png --out out")
    assert done.exit_code == 2
    assert re.fullmatch(r"error: out/\S+: Permission denied\n", done.stderr)
    assert not (here / "out").exists()
