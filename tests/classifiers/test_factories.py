"""CNNs that somebody else's code makes, by module or by file, and CNNs by name with all that belongs to them."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from joblib import Parallel, delayed
from torch import nn
from torchvision import models

import gan_lib
from gan_lib import api
from gan_lib.classifiers import Classifier, load_classifier, make_classifier, save_classifier
from gan_lib.classifiers import factories as own_factories
from gan_lib.classifiers.factories import code_of_factory, folder_name, located
from gan_lib.classifiers.wrap import ModelCard
from gan_lib.core.storage import read_json, write_json
from gan_lib.figures.labels import class_titles
from gan_lib.workbench import Workbench
from gan_lib.workbench.jobs import TrainedClassifier

NAMES = ["cat", "dog", "hen"]
NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, num_classes)

    def forward(self, images):
        return self.head(self.conv(images).relu().mean((2, 3)))
"""


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """Each test in a folder of its own, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(own_factories, "_folders", set())
    yield
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def write(text, name="own.py", folder="."):
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path.resolve()


def outputs(cnn):
    return cnn(torch.rand(1, 3, 32, 32)).shape[1]


FACTORIES = {
    "by position": "def make(n):\n    return Net(n)",
    "by position only": "def make(n, /):\n    return Net(n)",
    "by keyword": "def make(width=3, *, num_classes=5):\n    return Net(num_classes)",
    "under another name": "def make(width=3, n_classes=5):\n    return Net(n_classes)",
    "no argument": "def make():\n    return Net(3)",
    "other defaults": "def make(width=4, depth=2):\n    return Net(3)",
    "any keyword": "def make(pretrained=False, **options):\n    return Net(**options)",
    "position and keywords": "def make(n, **options):\n    return Net(n, **options)",
    "a class": "class make(Net):\n    pass",
    "a class without __init__": (
        "class make(nn.Sequential):\n    def __init__(self, num_classes=9):\n"
        "        super().__init__(Net(num_classes))"
    ),
    "a partial": "from functools import partial\nmake = partial(Net, num_classes=5)",
    "a lambda": "make = lambda k: Net(k)",
    "any arguments": "def make(*sizes, num_classes):\n    return Net(num_classes)",
}


@pytest.mark.parametrize("kind", FACTORIES)
def test_a_factory_is_given_the_number_of_classes_as_it_takes_it(kind):
    write(NET + FACTORIES[kind])
    cnn = make_classifier("own.py:make", NAMES)
    assert outputs(cnn) == 3
    assert cnn.class_names == tuple(NAMES)


def test_a_class_of_modules_that_takes_nothing():
    write(
        NET + "class Plain(nn.Module):\n    def forward(self, images):\n        return images.mean((2, 3))\n"
    )
    assert outputs(make_classifier("own.py:Plain", NAMES)) == 3


BAD = {
    "no file": ("", "onw.py:make", FileNotFoundError, r"no file .*onw\.py; did you mean own\.py\?"),
    "no folder": ("", "nets/own.py:make", FileNotFoundError, "no folder .*nets"),
    "no module": ("", "own_nets.models:make", FileNotFoundError, "no module 'own_nets'"),
    "a module misspelt": ("", "torchvisoin:make", FileNotFoundError, "did you mean .*torchvision"),
    "a sub-module misspelt": ("", "torchvision.modles:make", FileNotFoundError, r"torchvision\.models\?"),
    "a file by its name": ("", "own:make", FileNotFoundError, r"a file own\.py here: say own\.py:factory"),
    "a name misspelt": ("def make_net(n): ...", "own.py:make_nte", KeyError, "did you mean make_net"),
    "no name": ("", "own.py:", ValueError, "names no factory"),
    "syntax": ("x = 1\ndef make(:\n", "own.py:make", ValueError, r"invalid syntax \(.*own\.py:2\)"),
    "raises on import": ("\n1 / 0\n", "own.py:make", ValueError, r"ZeroDivisionError: .*own\.py:2\)"),
    "ends on import": ("import sys\nsys.exit(3)\n", "own.py:make", ValueError, "SystemExit: 3"),
    "imports what is not there": ("import timmm\n", "own.py:make", ValueError, r"'timmm' \(.*own\.py:1\)"),
    "a number": ("make = 3\n", "own.py:make", ValueError, "is a int, which cannot be called"),
    "a module": (NET + "make = Net(3)\n", "own.py:make", ValueError, "ready-made Net.*gan_lib.wrap"),
    "needs more": ("def make(width, n): ...\n", "own.py:make", ValueError, "needs n as well as the number"),
    "needs a keyword": ("def make(n, *, width): ...\n", "own.py:make", ValueError, "needs width as well"),
    "raises": (
        "def make(n):\n    raise RuntimeError('no GPU\\nat all')\n",
        "own.py:make",
        ValueError,
        r"own\.py:make raises RuntimeError: no GPU \(.*own\.py:2\)",
    ),
    "no module comes of it": (
        "def make(n):\n    return {}\n",
        "own.py:make",
        ValueError,
        "returns a dict, not",
    ),
    "seven outputs": (
        NET + "def make():\n    return Net(7)\n",
        "own.py:make",
        ValueError,
        "gives 7 outputs for 3 class names",
    ),
    "maps": (
        "from torch import nn\nmake = lambda n: nn.Conv2d(3, n, 1)",
        "own.py:make",
        ValueError,
        r"scores \(B, K\), not \(B, 3, 224, 224\)",
    ),
    "grey images": (
        "from torch import nn\nmake = lambda n: nn.Conv2d(1, n, 1)",
        "own.py:make",
        ValueError,
        "fails on pictures of 224 x 224 .*is it a CNN for RGB images",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_with_a_factory_is_said_in_one_sentence(kind):
    text, architecture, error, message = BAD[kind]
    write(text)
    with pytest.raises(error, match=message) as caught:
        make_classifier(architecture, NAMES)
    assert "\n" not in caught.value.args[0]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", "dog", "cat"], "'cat' stands there twice"),
        (["cat"], "two class names or more"),
        ("cat", "a list of names, not 'cat'"),
        ([0, 1], r"strings, not 0 \(int\)"),
    ],
)
def test_class_names_are_checked(names, message):
    with pytest.raises(ValueError, match=message):
        make_classifier("slim_vgg", names)


# -- files and what lies beside them -----------------------------------------------------------------


def test_a_file_imports_what_lies_beside_it_and_is_imported_once():
    write(NET, "layers_beside.py", "nets")
    write(
        "from layers_beside import Net\nCALLS = []\ndef make(n):\n    CALLS.append(n)\n    return Net(n)\n",
        folder="nets",
    )
    first, second = (make_classifier("nets/own.py:make", names) for names in (NAMES, NAMES[:2]))
    assert (outputs(first), outputs(second)) == (3, 2)
    assert type(first.backbone) is type(second.backbone)
    assert sys.modules["own"].CALLS == [3, 2]
    assert sys.path[-1].endswith("nets"), "after all else"
    assert first.card.architecture == f"{write(NET, 'layers_beside.py', 'nets').parent / 'own.py'}:make"


def test_two_files_of_one_name_are_two_modules():
    for folder, count in (("one", 3), ("two", 4)):
        write(
            NET.replace("Conv2d(3, 4", f"Conv2d(3, {count}").replace("Linear(4", f"Linear({count}"),
            folder=folder,
        )
    widths = [
        make_classifier(f"{folder}/own.py:Net", NAMES).backbone.conv.out_channels for folder in ("one", "two")
    ]
    assert widths == [3, 4]


def test_files_beside_two_files_are_not_taken_for_each_other():
    for folder in ("one", "two"):
        write("from beside import Net\n", f"own_{folder}.py", folder)
        write(NET, "beside.py", folder)
    make_classifier("one/own_one.py:Net", NAMES)
    with pytest.raises(ValueError, match=r"imports 'beside', and another module .*one/beside\.py"):
        make_classifier("two/own_two.py:Net", NAMES)


def test_a_name_that_a_module_has_already_is_left_to_it():
    path = write(NET, "json.py")
    cnn = make_classifier("json.py:Net", NAMES)
    assert sys.modules["json"].__file__ != str(path)
    assert type(cnn.backbone).__module__.startswith("json_")


def kind_of(trained):
    return type(trained.cnn.backbone).__module__, outputs(trained.cnn)


@pytest.mark.parametrize("name", ["own_worker.py", "json.py"])
def test_workers_that_run_already_are_given_it(name):
    """The factory gives a class of a file beside it: a worker has to import the one before it knows the other."""
    parallel = Parallel(n_jobs=2)
    parallel(delayed(abs)(number) for number in (1, 2))
    write(NET, "beside_worker.py", "nets")
    write("import beside_worker\nmake = beside_worker.Net\n" + NET, name, "nets")
    for factory in ("make", "Net"):
        cnn = make_classifier(f"nets/{name}:{factory}", NAMES)
        trained = TrainedClassifier(cnn, None, "")
        done = parallel(delayed(partial(kind_of))(own) for own in (trained, trained))
        assert done == [(type(cnn.backbone).__module__, 3)] * 2


def test_another_process_unpickles_it(tmp_path):
    write(NET, folder="nets")
    trained = TrainedClassifier(make_classifier("nets/own.py:Net", NAMES), None, "key")
    (tmp_path / "trained.pickle").write_bytes(pickle.dumps(trained))
    code = "import pickle; print(pickle.load(open('trained.pickle', 'rb')).cnn.class_names)"
    root = Path(gan_lib.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "('cat', 'dog', 'hen')", done.stderr


def test_the_address_of_what_it_makes_follows_its_code():
    write("WIDTH = 3\n", "beside_code.py")
    write("import beside_code\n" + NET)
    before = code_of_factory(located("own.py:Net"))
    write("import beside_code  # the same\n" + NET)
    assert code_of_factory(located("own.py:Net")) == before
    write("WIDTH = 4\n", "beside_code.py")
    assert code_of_factory(located("own.py:Net")) != before
    assert code_of_factory("slim_vgg") == {}


@pytest.mark.parametrize("name", ["slim_vgg", "package.module:make", "nets/own.py:make", "/far/own.py:make"])
def test_folders_are_called_by_no_path(name):
    assert "/" not in folder_name(name)
    assert (folder_name(name) == name) == ("/" not in name)


# -- saved CNNs --------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    write(NET)
    cnn = make_classifier("own.py:Net", NAMES, image_size=(32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)
    save_classifier(cnn, tmp_path / "saved")
    return tmp_path / "saved", cnn


def test_a_saved_file_does_not_choose_what_code_is_run(saved):
    folder, _ = saved
    (folder / "checksums.json").unlink()  # nothing is noted about a file from somewhere else
    write("import pathlib\npathlib.Path('sprung').touch()\n" + NET, "evil.py")
    for named in ("evil:Net", "evil.py:Net"):
        write_json(
            folder / "classifier.json", read_json(folder / "classifier.json") | {"architecture": named}
        )
        for load in (load_classifier, lambda own: api.load_cnn(str(own))):
            with pytest.raises(ValueError, match=rf"names its own factory {named}.*architecture='{named}'"):
                load(folder)
    assert not Path("sprung").exists()
    assert load_classifier(folder, architecture="own.py:Net").class_names == tuple(NAMES), "the caller's"
    assert not Path("sprung").exists()


def test_the_caller_may_name_it(saved):
    folder, cnn = saved
    for again in (
        load_classifier(folder, architecture="own.py:Net"),
        api.load_cnn("own.py:Net", str(folder)),
    ):
        assert again.card == cnn.card
        assert torch.equal(again.backbone.head.weight, cnn.backbone.head.weight)


@pytest.mark.parametrize("other", ["slim_resnet", "own.py:Net"])
def test_another_architecture_than_the_saved_one_is_refused(other, saved, tmp_path):
    save_classifier(make_classifier("slim_vgg", NAMES), tmp_path / "slim")
    with pytest.raises(ValueError, match=r"is of a slim_vgg, not of a .*"):
        load_classifier(tmp_path / "slim", architecture=other)
    assert load_classifier(tmp_path / "slim", architecture="slim_vgg").class_names == tuple(NAMES)


def test_a_profile_trains_a_cnn_of_a_file_and_finds_it_again(places):
    """Its path is relative to the project; explainers are kept in its data, and not beside the file."""
    path = write(NET, "recipes_net.py", places.data.parent / "nets")
    changes = {"cnn.architecture": "nets/recipes_net.py:Net"}
    first = Workbench("test", "tiny", changes, places).subject()
    again = Workbench("test", "tiny", changes, places).subject()
    assert first.trained.key == again.trained.key
    assert first.cnn.card.architecture == f"{path}:Net"
    assert first.cnn.card.image_size == (32, 32)
    assert str(first.kept.home).startswith(str(places.data))
    path.write_text(NET.replace("relu()", "tanh()"))
    assert Workbench("test", "tiny", changes, places).subject().trained.key != first.trained.key


def test_other_weights_of_the_same_name_are_another_cnn(places):
    keys = []
    for seed in (1, 2):
        cnn = make_classifier("slim_vgg", ["a", "b", "c", "d"], seed=seed)
        torch.save(cnn.state_dict(), places.data / "mine.pth")
        changes = {"data.name": "sorted", "cnn.weights": "mine.pth", "cnn.epochs": 0}
        changes |= {"data.train_images": None, "data.test_images": None}
        subject = Workbench("test", "tiny", changes, places).subject()
        assert torch.equal(subject.cnn.backbone.classifier[0].weight, cnn.backbone.classifier[0].weight)
        keys.append(subject.trained.key)
    assert keys[0] != keys[1]


# -- the front door ----------------------------------------------------------------------------------


@pytest.fixture
def published(monkeypatch):
    """Torchvision's weights without a download: drawn anew; which were asked for is noted."""
    asked = []

    def state(entry, **_):
        asked.append(entry)
        name = type(entry).__name__.removesuffix("_Weights").lower()
        known = {own.replace("_", ""): own for own in models.list_models(module=models)}
        size = {"image_size": entry.transforms().crop_size[0]} if name.startswith("vit") else {}
        return models.get_model(known[name.replace("_", "")], weights=None, **size).state_dict()

    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", state)
    return asked


@pytest.mark.parametrize(
    ("name", "weights", "size", "mean"),
    [
        ("mnasnet0_5", None, (224, 224), (0.485, 0.456, 0.406)),
        ("squeezenet1_1", "IMAGENET1K_V1", (224, 224), (0.485, 0.456, 0.406)),
        ("efficientnet_b1", None, (240, 240), (0.485, 0.456, 0.406)),
        ("googlenet", None, (224, 224), (0.5, 0.5, 0.5)),
        ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1", (384, 384), (0.485, 0.456, 0.406)),
    ],
)
def test_torchvisions_weights_bring_what_belongs_to_them(name, weights, size, mean, published):
    cnn = gan_lib.load_cnn(name, weights)
    assert (cnn.card.image_size, cnn.card.mean) == (size, pytest.approx(mean))
    assert api.image_size(cnn) == size
    assert len(cnn.class_names) == 1000
    assert cnn.class_names[1] == "goldfish"
    assert [entry.name for entry in published] == [weights or models.get_model_weights(name).DEFAULT.name]


def test_inceptions_input_is_what_its_weights_were_trained_on():
    """torchvision's model, made with weights, converts ImageNet's normalisation to that by halves."""
    theirs = models.googlenet(weights=None, transform_input=True, init_weights=False).eval()
    card = ModelCard("googlenet", ("a", "b"), mean=(0.5,) * 3, std=(0.5,) * 3)
    images = torch.rand(2, 3, 8, 8)
    plain = Classifier(nn.Identity(), ModelCard("own", ("a", "b")))(images)
    assert torch.allclose(theirs._transform_input(plain), Classifier(nn.Identity(), card)(images), atol=1e-6)


def test_given_things_come_before_those_of_the_weights(published, tmp_path):
    torch.save(models.get_model("squeezenet1_1", weights=None).state_dict(), tmp_path / "net.pth")
    about = {"image_size": 96, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    cnn = gan_lib.load_cnn("squeezenet1_1", "net.pth", class_names=NAMES, **about)
    assert (cnn.class_names, cnn.card.image_size) == (tuple(NAMES), (96, 96))
    assert (cnn.card.mean, cnn.card.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert outputs(cnn) == 3
    assert published == []
    plain = gan_lib.load_cnn("squeezenet1_1", "net.pth")
    assert plain.card.image_size == (224, 224)
    assert len(plain.class_names) == 1000


def test_a_factory_at_the_front_door():
    write(NET + "def make(num_classes=4):\n    return Net(num_classes)\n")
    with pytest.warns(UserWarning, match=r"own\.py:make: .* ImageNet's mean .* give mean= and std="):
        cnn = gan_lib.load_cnn("own.py:make")
    assert cnn.class_names == ("0", "1", "2", "3")
    assert api.image_size(cnn) == (224, 224)
    assert not cnn.training
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = gan_lib.load_cnn(
            "own.py:make", class_names=NAMES, mean=(0.5,) * 3, std=(0.5,) * 3, image_size=40
        )
    assert (named.class_names, api.image_size(named)) == (tuple(NAMES), (40, 40))
    with pytest.raises(ValueError, match="is to be told the number of classes: give class_names="):
        gan_lib.load_cnn("own.py:Net", mean=(0.5,) * 3, std=(0.5,) * 3)


def test_what_the_outputs_mean_is_kept_in_the_card():
    write(NET)
    about = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "output": "multi_label"}
    assert gan_lib.load_cnn("own.py:Net", class_names=NAMES, **about).card.output == "multi_label"
    assert gan_lib.load_cnn("slim_vgg", output="multi_label").card.output == "multi_label"
    assert gan_lib.load_cnn("slim_vgg").card.output == "logits"


HEADS = {
    "binary": (
        "return z",
        {"output": "binary", "class_names": ["cat"]},
        ("not cat", "cat"),
        lambda z: z.sigmoid(),
    ),
    "binary by number": ("return z", {"output": "binary"}, ("no", "yes"), lambda z: z.sigmoid()),
    "a field": (
        "return {'a': z, 'b': 3 * z}",
        {"output": "binary", "select": "b"},
        ("no", "yes"),
        lambda z: (3 * z).sigmoid(),
    ),
    "regression": (
        "return z.flatten()",
        {"output": "regression", "span": (-50.0, 50.0)},
        ("lower", "higher"),
        lambda z: (50 + z) / 100,
    ),
}


@pytest.mark.parametrize("head", HEADS)
def test_a_factory_with_one_output(head):
    give, about, names, right = HEADS[head]
    write(f"{NET}\ndef make(num_classes=1):\n    net = Net(num_classes)\n    first = net.forward\n"
          f"    def forward(images):\n        z = first(images)\n        {give}\n    net.forward = forward\n    return net\n")  # fmt: skip
    cnn = gan_lib.load_cnn("own.py:make", mean=(0.0,) * 3, std=(1.0,) * 3, **about)
    assert cnn.class_names == names
    images = torch.rand(2, 3, 32, 32)
    net = cnn.backbone
    logit = net.head(net.conv(images).relu().mean((2, 3)))[:, 0]
    torch.testing.assert_close(cnn.probabilities(cnn(images))[:, 1], right(logit), rtol=1e-4, atol=1e-5)


def test_a_factory_with_one_output_that_does_not_say_what_it_means():
    write(NET + "def make():\n    return Net(1)\n")
    with pytest.raises(ValueError, match=r"one output.*binary.*regression"):
        gan_lib.load_cnn("own.py:make", mean=(0.5,) * 3, std=(0.5,) * 3)


def test_a_shipped_cnn_with_other_names():
    cnn = gan_lib.load_cnn("slim_vgg", class_names=[f"digit {number}" for number in range(10)])
    assert cnn.class_names[3] == "digit 3"
    assert api.image_size(cnn) == (64, 64)
    with pytest.raises(ValueError, match=r"its head classifier\.0 has 10 outputs, 3 class names are given"):
        gan_lib.load_cnn("slim_vgg", class_names=NAMES)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"name": "resnet81"}, FileNotFoundError, r"no weights for 'resnet81'.*did you mean resnet18"),
        ({"name": "slim_resnet"}, FileNotFoundError, "give weights= and class_names="),
        ({"name": "own.py"}, FileNotFoundError, r"own\.py:factory"),
        ({"name": "net.pth"}, FileNotFoundError, "give it as weights="),
        (
            {"name": "resnet18", "weights": "IMAGENET1K_V9"},
            ValueError,
            r"no weights 'IMAGENET1K_V9'.*IMAGENET1K_V1",
        ),
        ({"name": "resnet18", "mean": (0.5,) * 3}, ValueError, "mean and std go together"),
        ({"name": "resnet18", "mean": (0.5,), "std": (0.5,)}, ValueError, "three values each"),
        ({"name": "resnet18", "mean": (0.5,) * 3, "std": (0.5, 0, 0.5)}, ValueError, "above 0"),
        ({"name": "resnet18", "image_size": (3, 224, 224)}, ValueError, "image_size is a side"),
        ({"name": "resnet18", "device": "gpu"}, ValueError, "not 'gpu'"),
        ({"name": "slim_vgg", "class_names": ["a"] * 10}, ValueError, "'a' stands there twice"),
    ],
)
def test_mistakes_at_the_front_door(given, error, message):
    write("")
    write("", "net.pth")
    with pytest.raises(error, match=message):
        gan_lib.load_cnn(**given)


@pytest.mark.parametrize(
    ("names", "titles"),
    [
        (["n02102040_English_springer", "n03000684_chain_saw"], ("English springer", "chain saw")),
        (["n02085620-Chihuahua", "n02085936-Maltese_dog"], ("Chihuahua", "Maltese dog")),
        (["garbage_truck", "black_cat", "white_cat"], ("garbage_truck", "black_cat", "white_cat")),
        (["n1_cat", "n02123045", "class_0"], ("n1_cat", "n02123045", "class_0")),
        (["n02012849_crane", "n03126707_crane", "cat"], ("n02012849_crane", "n03126707_crane", "cat")),
    ],
)
def test_only_wordnet_ids_are_cut_from_class_names(names, titles):
    assert class_titles(names) == titles
