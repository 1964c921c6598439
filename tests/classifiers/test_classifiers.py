from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gan_lib.classifiers import (
    FitOptions,
    accuracy,
    classifier_names,
    fit,
    lent_weights,
    load_classifier,
    make_classifier,
    predictions,
    randomised,
    relabelled,
    save_classifier,
)
from gan_lib.core.storage import save_tensors
from gan_lib.core.targets import resolve_target

NAMES = ("a", "b", "c")


def own_factory(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))


@pytest.mark.parametrize(
    "name",
    [
        "slim_vgg",
        "slim_resnet",
        "slim_mobilenet",
        "resnet18",
        "vgg11",
        "mobilenet_v2",
        "squeezenet1_1",
        "densenet121",
    ],
)
def test_cnns_by_name_get_a_new_head(name):
    cnn = make_classifier(name, NAMES)
    assert cnn(torch.rand(2, 3, 64, 64)).shape == (2, 3)


def test_inception_has_no_auxiliary_head():
    cnn = make_classifier("inception_v3", NAMES)
    assert cnn(torch.rand(2, 3, 96, 96)).shape == (2, 3)
    assert not any("Aux" in name for name, _ in cnn.named_modules())


@pytest.mark.parametrize(
    ("name", "width"), [("resnet18", 512), ("mobilenet_v2", 1280), ("inception_v3", 2048), ("resnet50", 2048)]
)
def test_published_head(name, width):
    cnn = make_classifier(name, NAMES, head="published").eval()
    assert cnn(torch.rand(1, 3, 96, 96)).shape == (1, 3)
    dense = [(m.in_features, m.out_features) for m in cnn.modules() if isinstance(m, nn.Linear)]
    assert dense == [(width, 256), (256, 128), (128, 3)]
    assert any(isinstance(module, nn.AdaptiveMaxPool2d) for module in cnn.modules())


def test_published_head_by_hand():
    """Largest value of every channel, dense and ReLU, dropout, dense and ReLU, dense."""
    cnn = make_classifier("mobilenet_v2", NAMES, head="published", seed=3).eval()
    backbone = cnn.backbone
    assert [name for name, _ in backbone.named_children()] == ["features", "pool", "fc1", "fc2", "fc3"]
    assert [type(own) for own in backbone.fc1] == [nn.Linear, nn.ReLU, nn.Dropout]
    assert backbone.fc1[2].p == 0.1
    features = torch.randn(2, 1280, 4, 4)
    hidden = torch.relu(backbone.fc1[0](features.amax((2, 3))))
    expected = backbone.fc3(torch.relu(backbone.fc2[0](hidden)))
    assert torch.equal(backbone[1:](features), expected)
    first = backbone.fc1[0]
    assert first.weight.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.02)  # He's, as published
    assert not first.bias.any()


def test_inception_at_its_published_size():
    """Logits in train and in eval mode: there are no auxiliary ones; images of 64 px are scaled to 256."""
    cnn = make_classifier("inception_v3", NAMES, head="published", input_size=(256, 256))
    images, seen = torch.rand(2, 3, 64, 64), []
    handle = cnn.backbone.features[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    for mode in (True, False):
        assert cnn.train(mode)(images).shape == (2, 3)
    handle.remove()
    assert [tuple(shape) for shape in seen] == [(2, 3, 256, 256)] * 2
    F.cross_entropy(cnn.train()(images), torch.tensor([0, 1])).backward()
    assert all(parameter.grad is not None for parameter in cnn.parameters())


@pytest.mark.parametrize("side", [16, 32, 48])
def test_images_are_scaled_before_the_cnn(side, tmp_path):
    """To the card's size, whatever theirs; then normalised; the card is kept with the weights."""
    cnn = make_classifier("slim_vgg", NAMES, input_size=(32, 32)).eval()
    plain = make_classifier("slim_vgg", NAMES).eval()
    images = torch.rand(2, 3, side, side, requires_grad=True)
    scaled = F.interpolate(images, (32, 32), mode="bilinear", antialias=True)
    assert torch.allclose(cnn(images), plain(scaled), atol=1e-6)
    (slope,) = torch.autograd.grad(cnn(images).sum(), images)
    assert slope.shape == images.shape
    save_classifier(cnn, tmp_path)
    assert torch.equal(load_classifier(tmp_path)(images), cnn(images))


def test_a_transformer_is_built_for_what_enters_it():
    cnn = make_classifier("vit_b_32", NAMES, image_size=(64, 64), input_size=(96, 96))
    assert cnn.backbone.image_size == 96
    assert cnn.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 3)


def test_normalisation_is_inside():
    cnn = make_classifier("slim_vgg", NAMES).eval()
    images = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    by_hand = cnn.backbone((images - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
    assert torch.equal(cnn(images), by_hand)


def test_names_and_errors():
    assert {"slim_vgg", "resnet50", "vgg19", "inception_v3", "mobilenet_v2"} <= set(classifier_names())
    with pytest.raises(KeyError, match="slim_vgg"):
        make_classifier("no_such_net", NAMES)
    with pytest.raises(ValueError, match="class_names"):
        make_classifier("slim_vgg")
    with pytest.raises(ValueError, match="two class names"):
        make_classifier("slim_vgg", ["only"])
    with pytest.raises(KeyError, match="nothing"):
        make_classifier("test_classifiers:nothing", NAMES)
    with pytest.raises(ValueError, match="own head"):
        make_classifier("slim_vgg", NAMES, head="published")
    with pytest.raises(FileNotFoundError, match="no weights at"):
        make_classifier("slim_vgg", NAMES, weights="nowhere.safetensors")


def test_own_factory_with_own_weights(tmp_path):
    source = own_factory(3)
    save_tensors(tmp_path / "net.safetensors", source.state_dict())
    cnn = make_classifier("test_classifiers:own_factory", NAMES, weights=tmp_path / "net.safetensors")
    assert torch.equal(cnn.backbone[0].weight, source[0].weight)
    save_classifier(cnn, tmp_path / "saved")
    loaded = load_classifier(tmp_path / "saved", architecture="test_classifiers:own_factory")
    assert loaded.class_names == NAMES
    assert torch.equal(loaded.backbone[3].weight, source[3].weight)
    with pytest.raises(ValueError, match="does not fit"):
        make_classifier("slim_vgg", NAMES, weights=tmp_path / "net.safetensors")
    with pytest.raises(FileNotFoundError, match="no classifier"):
        load_classifier(tmp_path / "nowhere")


def test_imagenet_weights_below_a_new_head(tmp_path):
    full = make_classifier("resnet18", seed=5)
    assert len(full.class_names) == 1000
    save_tensors(tmp_path / "full.safetensors", full.backbone.state_dict())
    cnn = make_classifier("resnet18", NAMES, weights=tmp_path / "full.safetensors", seed=6)
    assert torch.equal(cnn.backbone.conv1.weight, full.backbone.conv1.weight)
    assert cnn.backbone.fc.out_features == 3


def test_weights_that_cannot_be_downloaded(monkeypatch):
    def refuse(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(FileNotFoundError, match="resnet18-"):
        make_classifier("resnet18", weights="DEFAULT")


def test_targets_are_checked():
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    assert resolve_target(logits, None).tolist() == [1, 0]
    assert resolve_target(logits, 1).tolist() == [1, 1]
    for wrong, error in (([0], ValueError), ([[0, 1]], ValueError), (-1, IndexError), ([0, 2], IndexError)):
        with pytest.raises(error):
            resolve_target(logits, wrong)


def test_training_learns_and_resumes_to_the_same_weights(tmp_path, scenes, monkeypatch):
    options = FitOptions(epochs=3, batch_size=16, learning_rate=5e-3, seed=1)
    whole = make_classifier("slim_vgg", scenes.class_names, seed=1)
    history = fit(whole, scenes.train, options)
    assert list(history["epoch"]) == [1, 2, 3]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]

    module = importlib.import_module("gan_lib.classifiers.fit")  # the package exports its function `fit`
    one_epoch, calls = module._epoch, []

    def killed_in_the_second(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return one_epoch(*arguments)

    monkeypatch.setattr(module, "_epoch", killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        fit(make_classifier("slim_vgg", scenes.class_names, seed=1), scenes.train, options, tmp_path)
    monkeypatch.undo()
    resumed = make_classifier("slim_vgg", scenes.class_names, seed=1)
    assert fit(resumed, scenes.train, options, tmp_path).equals(history)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_predictions_table(scenes):
    cnn = make_classifier("slim_resnet", scenes.class_names)
    table = predictions(cnn, scenes.test, batch_size=7)
    assert list(table.columns) == ["image", "path", "label", "prediction", "probability", "label_probability"]
    with torch.no_grad():
        expected = cnn.eval()(scenes.test.batch(range(20)).images).softmax(1)
    assert table["prediction"].tolist() == expected.argmax(1).tolist()
    assert torch.allclose(torch.tensor(table["probability"]), expected.max(1).values, atol=1e-5)
    assert table["label"].tolist() == scenes.test.labels.tolist()
    of_label = expected[range(20), scenes.test.labels]
    assert torch.allclose(torch.tensor(table["label_probability"]), of_label, atol=1e-5)
    assert not torch.allclose(of_label, expected.max(1).values, atol=1e-3)
    assert 0 <= accuracy(table) <= 1


def test_pretrained_mobilenet_on_real_images(test_data):
    from gan_lib.data import image_folder

    data = image_folder(test_data / "imagenette", size=224, train=50, test=50)
    cnn = make_classifier("mobilenet_v2", weights=test_data / "weights/mobilenet_v2_imagenet.safetensors")
    wanted = sorted(path.name for path in (test_data / "imagenet-samples").iterdir())
    classes = torch.tensor([wanted.index(name) for name in data.class_names])
    with torch.no_grad():
        logits = cnn.eval()(data.test.batch(range(len(data.test))).images)
    assert (logits[:, classes].argmax(1) == data.test.labels).float().mean() > 0.9


def test_layers_are_forgotten_from_the_last_to_the_first():
    cnn = make_classifier("slim_vgg", ["a", "b", "c"]).eval()
    before = {name: value.clone() for name, value in cnn.state_dict().items()}
    state = torch.random.get_rng_state()
    shares, changed = [], []
    for share, forgetful in randomised(cnn, torch.zeros(1, 3, 64, 64), stages=4, seed=1):
        shares.append(share)
        now = forgetful.state_dict()
        weights = [name for name in before if before[name].ndim > 1]
        changed.append([name for name in weights if not torch.equal(now[name], before[name])])
    assert shares[-1] == 1
    assert [len(names) for names in changed] == sorted(len(names) for names in changed)
    assert "backbone.classifier.0.weight" in changed[0]
    assert "backbone.features.0.weight" not in changed[-2]
    assert len(changed[-1]) == 10  # nine convolutions and the linear layer
    assert all(torch.equal(value, before[name]) for name, value in cnn.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("architecture", ["slim_vgg", "slim_resnet", "slim_mobilenet"])
@pytest.mark.parametrize("number_format", [None, torch.float16])
def test_a_slim_cnn_is_read_without_being_initialised(architecture, number_format, tmp_path, images):
    """All values, those of batch normalisation and the input's normalisation too, and no random number drawn."""
    made = make_classifier(architecture, ["a", "b", "c"], seed=3).eval()
    with torch.no_grad():
        for name, value in made.named_buffers():
            if name.endswith("running_mean"):
                value.normal_()
    save_classifier(made, tmp_path, number_format)
    state = torch.random.get_rng_state()
    read = load_classifier(tmp_path)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(own.dtype == torch.float32 for own in read.parameters())
    assert all(own.requires_grad for own in read.parameters())
    assert not read.training
    assert torch.equal(read.mean, made.mean)
    tolerance = 0 if number_format is None else 0.05
    assert torch.allclose(read(images), made(images), atol=tolerance)
    missing = {name: own for name, own in made.state_dict().items() if "bias" not in name}
    from gan_lib.classifiers.zoo import filled

    with pytest.raises(ValueError, match="tensors are missing"):
        filled(made.card, {"": missing}, "a file")


def test_a_relabelled_cnn_is_the_same_function():
    torch.manual_seed(0)
    cnn = make_classifier("slim_vgg", ["one", "two"])
    images = torch.rand(8, 3, 64, 64)
    cnn(images)  # statistics of the normalisations
    layers = [f"backbone.features.{place}" for place in (0, 1, 4)]
    other = relabelled(cnn.eval(), *layers, seed=1)
    torch.testing.assert_close(other(images), cnn(images), rtol=1e-4, atol=1e-5)
    before, after = (own.get_submodule(layers[1]).weight for own in (cnn, other))
    assert not torch.allclose(before, after)
    assert (after.abs() / before.abs().mean()).max() > 2, "channels differ in size"
    again = relabelled(cnn, *layers, seed=1)
    assert torch.equal(again.get_submodule(layers[2]).weight, other.get_submodule(layers[2]).weight)
    with pytest.raises(TypeError, match=r"features\.2 is no batch normalisation"):
        relabelled(cnn, layers[0], "backbone.features.2", layers[2])
    with pytest.raises(TypeError, match="no two convolutions"):
        relabelled(cnn, layers[1], layers[1], layers[2])
    grouped = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    with pytest.raises(TypeError, match="groups"):
        relabelled(grouped, "0", "1", "2")
    plain = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 2, 1))
    with pytest.raises(TypeError, match="1 is no batch normalisation with a weight"):
        relabelled(plain, "0", "1", "2")


def test_lent_weights_are_given_back():
    """Also where the block fails; the lender keeps its own."""
    own, other = nn.Linear(2, 2), nn.Linear(2, 2)
    before, lent = own.weight.clone(), other.weight.clone()
    with lent_weights(other, own):
        assert torch.equal(own.weight, lent)
        own.weight.data += 1
    assert torch.equal(own.weight, before)
    assert torch.equal(other.weight, lent)
    with pytest.raises(RuntimeError, match="in it"), lent_weights(other, own):
        raise RuntimeError("in it")
    assert torch.equal(own.weight, before)
