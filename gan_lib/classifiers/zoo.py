"""CNNs by name: small ones for two CPU cores, torchvision's, and your own."""

from __future__ import annotations

import difflib
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.resnet import BasicBlock
from torchvision.models.vgg import VGG, make_layers
from torchvision.ops import Conv2dNormActivation

from gan_lib.classifiers.factories import is_factory, located, made_by_factory
from gan_lib.classifiers.forms import probe_outputs
from gan_lib.classifiers.matching import best_match, checked_values
from gan_lib.classifiers.published import is_torchvisions, names_torchvisions, published
from gan_lib.classifiers.resnet20 import resnet20
from gan_lib.classifiers.varied import is_varied, varied
from gan_lib.classifiers.weights import State, read_weights
from gan_lib.classifiers.wrap import Classifier, ModelCard
from gan_lib.core.outputs import SINGLE, check_meaning, guessed_meaning, label_names

IMAGENET_CLASSES = 1000
WITH_AUXILIARY_HEADS = ("inception_v3", "googlenet")
AUXILIARY = re.compile(r"(^|\.)(AuxLogits|aux1|aux2)\.")  # what their tensors are called
OF_ONE_SIZE = "vit_"  # torchvision's CNNs and transformers that are built for one size of images
PROBE = 224  # height and width of the picture on which a factory's outputs are counted


def slim_vgg(num_classes: int) -> nn.Module:
    """torchvision's VGG with batch norm, nine narrow convolutions and global average pooling."""
    layers = [16, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 64]
    vgg = VGG(make_layers(layers, batch_norm=True), num_classes=num_classes, init_weights=False)
    vgg.avgpool = nn.AdaptiveAvgPool2d(1)
    vgg.classifier = nn.Sequential(nn.Linear(64, num_classes))
    return vgg


def slim_resnet(num_classes: int) -> nn.Module:
    """torchvision's basic residual blocks, five of them, narrow; the last maps are an eighth in size."""

    def block(wide_in: int, wide_out: int, stride: int = 1) -> BasicBlock:
        shortcut = None
        if stride != 1 or wide_in != wide_out:
            shortcut = Conv2dNormActivation(wide_in, wide_out, 1, stride, activation_layer=None)
        return BasicBlock(wide_in, wide_out, stride, shortcut)

    stages: dict[str, nn.Module] = {
        "stem": Conv2dNormActivation(3, 16, 3, stride=2),
        "layer1": nn.Sequential(block(16, 16)),
        "layer2": nn.Sequential(block(16, 32, stride=2), block(32, 32)),
        "layer3": nn.Sequential(block(32, 64, stride=2), block(64, 64)),
        "pool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "fc": nn.Linear(64, num_classes),
    }
    return nn.Sequential(OrderedDict(stages))


def slim_mobilenet(num_classes: int) -> nn.Module:
    """torchvision's MobileNetV2 with six inverted residual blocks and a quarter of the head."""
    settings = [[1, 16, 1, 1], [3, 32, 2, 2], [3, 64, 3, 2]]  # expansion, width, repeats, stride
    net = MobileNetV2(num_classes, inverted_residual_setting=settings, dropout=0.0)
    net.features[-1] = Conv2dNormActivation(settings[-1][1], 128, 1, activation_layer=nn.ReLU6)
    net.classifier = nn.Sequential(nn.Linear(128, num_classes))
    return net


SMALL: dict[str, Callable[[int], nn.Module]] = {
    own.__name__: own for own in (slim_vgg, slim_resnet, slim_mobilenet, resnet20)
}


def is_small(name: str) -> bool:
    """Whether a CNN is one of this package's, which begin without weights: slim, of 32 pixels, or drawn."""
    return name in SMALL or is_varied(name)


def _small(name: str, num_classes: int) -> nn.Module:
    return SMALL[name](num_classes) if name in SMALL else varied(name, num_classes)


def classifier_names() -> tuple[str, ...]:
    """Names that :func:`make_classifier` knows: the small CNNs and torchvision's classification models. There
    are also ``varied_0``, ``varied_1`` and so on (:mod:`gan_lib.classifiers.varied`)."""
    return (*SMALL, *models.list_models(module=models))


def make_classifier(
    architecture: str,
    class_names: Sequence[str] | None = None,
    weights: str | Path | None = None,
    head: str = "linear",
    seed: int = 0,
    **about: Any,
) -> Classifier:
    """A CNN by name.

        cnn = make_classifier("slim_vgg", class_names=data.class_names)
        cnn = make_classifier("resnet50", weights="DEFAULT")                   # 1000 ImageNet classes
        cnn = make_classifier("vgg16", data.class_names, weights="DEFAULT")    # pretrained, new head
        cnn = make_classifier("my_package.models:make_net", ["cat", "dog"], weights="net.pth")
        cnn = make_classifier("nets/own.py:make_net", ["cat", "dog"], mean=(0.5,) * 3, std=(0.5,) * 3)

    Args:
        architecture: one of :func:`classifier_names`, or a factory of one's own, ``package.module:factory``
            or ``path/to/file.py:factory`` (:mod:`gan_lib.classifiers.factories` says what it is given), which
            returns a module from normalised images to logits.
        class_names: one name per class, two or more, no two the same. ``None`` keeps a torchvision model's
            ImageNet classes, and asks a factory how many there are, which are then called by their numbers.
        weights: a file (:func:`gan_lib.classifiers.weights.read_weights`; for the CNN with this head; or, for
            a torchvision model with ``class_names``, with the ImageNet head, which is then replaced), or the
            name of torchvision weights (``DEFAULT``, ``IMAGENET1K_V1``), downloaded when not cached.
        head: ``linear``, or ``published`` for the head of arXiv 2301.08067: global max pooling,
            dense 256 ReLU, dropout 0.1, dense 128 ReLU, dense K.
        seed: decides the initial weights.
        about: further fields of the :class:`gan_lib.classifiers.wrap.ModelCard`: ``mean``, ``std``,
            ``image_size``, ``input_size``, ``output``, ``select``. Mean and deviation are by default those
            that torchvision's weights were trained with, else ImageNet's.

    Raises:
        KeyError: an unknown architecture, a factory that its module does not hold.
        FileNotFoundError: a weights file or a module that is not there, or weights that cannot be downloaded.
        ValueError: weights that do not fit, class names missing or twice, a factory that raises, or makes
            another number of outputs than there are class names.
    """
    architecture = located(architecture)
    if class_names is None and is_factory(architecture):
        asked = probe_outputs(made_by_factory(architecture, None), *_seen(about), architecture)
        class_names = label_names(None, about.get("output") or guessed_meaning(asked), _count(asked))
    if class_names is None:
        if not is_torchvisions(architecture):
            raise ValueError(f"{architecture} needs class_names")
        class_names = published(architecture, weights).class_names
    names = checked_names(class_names, architecture, about.get("output"))
    if about.get("output") in SINGLE:
        names = label_names(names, about["output"], 1)
    if weights is not None and is_torchvisions(architecture):
        about = published(architecture, weights).needed(architecture) | about
    card = ModelCard(architecture, names, head, **about)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = build(card) if weights is None else with_weights(card, weights)
    if is_factory(architecture):
        made.card = settled(made, about.get("output"))
    return made


def checked_names(names: Sequence[str], architecture: str, output: str | None = None) -> tuple[str, ...]:
    """Class names as they are.

    Raises:
        ValueError: no sequence of strings, fewer than two (one or none will do where the CNN has one output),
            or some of them twice.
    """
    if isinstance(names, str):
        raise ValueError(f"class_names are a list of names, not {names!r}")
    if others := [name for name in names if not isinstance(name, str)]:
        raise ValueError(f"class names are strings, not {others[0]!r} ({type(others[0]).__name__})")
    if twice := [name for name, number in Counter(names).items() if number > 1]:
        raise ValueError(
            f"class names are told apart by their names: {', '.join(map(repr, twice))} stands there twice"
        )
    if len(names) < 2 and output not in SINGLE:
        raise ValueError(f"{architecture} needs two class names or more, got {list(names)}")
    return tuple(names)


def settled(classifier: Classifier, said: str | None) -> ModelCard:
    """The card of a CNN, with what its outputs mean, as was said or as they tell.

    Raises:
        ValueError: outputs that cannot mean this, or whose meaning must be said; another number of them than
            there are classes.
    """
    card = classifier.card
    outputs = probe_outputs(classifier.backbone, *_seen(asdict(card)), card.architecture)
    given, names = _count(outputs), card.class_names
    if said in SINGLE and given > 1:
        check_meaning(outputs, said)
    if given != (1 if card.output in SINGLE else len(names)):
        raise ValueError(
            f"{card.architecture} gives {given} outputs for {len(names)} class names: give as many names, or "
            "let the factory take num_classes"
        )
    meaning = guessed_meaning(outputs) if said is None else check_meaning(outputs, said)
    return replace(card, output=meaning, class_names=label_names(names, meaning, given))


def _seen(about: Mapping[str, Any]) -> tuple[tuple[int, int], str | int | None]:
    """The size of pictures that a CNN is asked about, and which of its outputs is meant."""
    return about.get("image_size") or (PROBE, PROBE), about.get("select")


def _count(outputs: Tensor) -> int:
    return 1 if outputs.ndim == 1 else outputs.shape[1]


def _outputs(card: ModelCard) -> int:
    """How many outputs a CNN has."""
    return 1 if card.output in SINGLE else len(card.class_names)


def build(card: ModelCard) -> Classifier:
    """A classifier from its card, with random weights; of a head that it cannot have a ``ValueError``."""
    name, count = card.architecture, _outputs(card)
    if is_small(name) or is_factory(name):
        if card.head != "linear":
            raise ValueError(f"{name} has its own head; the {card.head!r} head is for torchvision's CNNs")
        return Classifier(_small(name, count) if is_small(name) else made_by_factory(name, count), card)
    model = _torchvision_model(card)
    if count != IMAGENET_CLASSES or card.head != "linear":
        model = _with_head(model, name, count, card.head)
    return Classifier(model, card)


def _torchvision_model(card: ModelCard) -> nn.Module:
    name = card.architecture
    if not is_torchvisions(name):
        near = difflib.get_close_matches(name, classifier_names(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else f"small are {sorted(SMALL)};"
        raise KeyError(f"unknown CNN {name!r}: {hint} else torchvision's or 'package.module:factory'")
    options: dict[str, Any] = {}
    if name in WITH_AUXILIARY_HEADS:
        options = {"aux_logits": False, "init_weights": False}
    if name.startswith(OF_ONE_SIZE) and (size := card.input_size or card.image_size) is not None:
        options["image_size"] = size[0]
    model: nn.Module = models.get_model(name, weights=None, **options)
    return model


def filled(card: ModelCard, states: Mapping[str, State], source: object) -> Classifier:
    """A classifier from its card, with the state that one of the kind had, in float32.

    Small CNNs are not initialised first: torchvision's VGG draws the weights of a head of 120 million, which
    is then replaced.

    Raises:
        ValueError: a state that does not fit.
    """
    counts = dict.fromkeys(
        [_outputs(card), len(card.class_names)]
    )  # what the file has, another check refuses
    for count in counts if is_small(card.architecture) else [0]:
        classifier = _empty(card, count) if count else build(card)
        own = classifier.backbone.state_dict()
        found = best_match(states, own, source)
        if found.fits:
            break
    if not found.fits:
        raise ValueError(f"{source} does not fit {card.architecture}: {found.told(len(card.class_names))}")
    state = checked_values(found.state, own, source)
    classifier.backbone.load_state_dict(state, assign=is_small(card.architecture))
    return classifier


def _empty(card: ModelCard, count: int) -> Classifier:
    """A small CNN of so many outputs, without weights."""
    with torch.device("meta"):
        backbone = _small(card.architecture, count)
    return Classifier(backbone, card)


def with_weights(card: ModelCard, weights: str | Path) -> Classifier:
    """A classifier from its card, with weights as :func:`make_classifier` takes them.

    Raises:
        FileNotFoundError, ValueError: as :func:`make_classifier`.
    """
    states, name, count = _states(card.architecture, weights), card.architecture, len(card.class_names)
    if is_torchvisions(name) and (count != IMAGENET_CLASSES or card.head != "linear"):
        model = _torchvision_model(card)
        own = model.state_dict()
        found = best_match(states, own, weights)
        if found.fits:
            model.load_state_dict(checked_values(found.state, own, weights))
            return Classifier(_with_head(model, name, count, card.head), card)
    return filled(card, states, weights)


def _states(architecture: str, weights: str | Path) -> dict[str, State]:
    if names_torchvisions(architecture, weights):
        states = {"": _torchvision_state(architecture, str(weights))}
    else:
        states = read_weights(weights)
    if architecture not in WITH_AUXILIARY_HEADS:
        return states
    return {
        address: {name: own for name, own in state.items() if not AUXILIARY.search(name)}
        for address, state in states.items()
    }


def _torchvision_state(name: str, weights: str) -> State:
    entry = models.get_model_weights(name)[weights]
    try:
        state: State = entry.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        target = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
        raise FileNotFoundError(
            f"the weights {weights} of {name} could not be downloaded ({error}); put the file at {target}, "
            "or pass weights= a file"
        ) from error
    return state


def _with_head(model: nn.Module, name: str, count: int, head: str) -> nn.Module:
    if head == "linear":
        return _with_linear_head(model, name, count)
    if head != "published":
        raise ValueError(f"head is 'linear' or 'published', not {head!r}")
    children = OrderedDict(model.named_children())
    if "features" not in children and "avgpool" not in children:
        raise ValueError(f"the published head needs a CNN with `features` or `avgpool`; {name} has neither")
    before = takewhile(lambda child: child[0] != "avgpool", children.items())
    features = children["features"] if "features" in children else nn.Sequential(OrderedDict(before))
    with torch.no_grad():
        width = features.eval()(torch.zeros(1, 3, 96, 96)).shape[1]
    layers: dict[str, nn.Module] = {
        "features": features.train(),
        "pool": nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten()),
        "fc1": nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Dropout(0.1)),
        "fc2": nn.Sequential(nn.Linear(256, 128), nn.ReLU()),
        "fc3": nn.Linear(128, count),
    }
    made = nn.Sequential(OrderedDict(layers))
    for name, module in made.named_modules():
        if name.startswith("fc") and isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return made


def _with_linear_head(model: nn.Module, name: str, count: int) -> nn.Module:
    """Replace the layer that gives the 1000 ImageNet logits, a linear one or a 1x1 convolution."""
    for layer, module in reversed(list(model.named_modules())):
        if isinstance(module, nn.Linear) and module.out_features == IMAGENET_CLASSES:
            model.set_submodule(layer, nn.Linear(module.in_features, count))
            return model
        if isinstance(module, nn.Conv2d) and module.out_channels == IMAGENET_CLASSES:
            model.set_submodule(layer, nn.Conv2d(module.in_channels, count, 1))
            return model
    raise ValueError(f"found no layer with {IMAGENET_CLASSES} outputs in {name} to replace")
