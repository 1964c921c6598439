"""CNNs by name: slim ones for two CPU cores, torchvision's, and your own."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.resnet import BasicBlock
from torchvision.models.vgg import VGG, make_layers
from torchvision.ops import Conv2dNormActivation

from gan_lib.classifiers.wrap import Classifier, ModelCard
from gan_lib.core.storage import load_tensors

IMAGENET_CLASSES = 1000
WITH_AUXILIARY_HEADS = ("inception_v3", "googlenet")


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


SLIM: dict[str, Callable[[int], nn.Module]] = {
    own.__name__: own for own in (slim_vgg, slim_resnet, slim_mobilenet)
}


def classifier_names() -> tuple[str, ...]:
    """Names that :func:`make_classifier` knows: the slim CNNs and torchvision's classification models."""
    return (*SLIM, *models.list_models(module=models))


def made_for(card: ModelCard) -> tuple[int, int] | None:
    """Height and width that torchvision crops images to for its ImageNet weights of a CNN of its own.

    ``None`` for other CNNs, and for such a one of other classes.
    """
    own = len(card.class_names) == IMAGENET_CLASSES and card.architecture in models.list_models(module=models)
    if not own:
        return None
    side = models.get_model_weights(card.architecture).DEFAULT.transforms().crop_size[0]
    return side, side


def make_classifier(
    architecture: str,
    class_names: Sequence[str] | None = None,
    weights: str | Path | None = None,
    head: str = "linear",
    seed: int = 0,
) -> Classifier:
    """A CNN by name.

        cnn = make_classifier("slim_vgg", class_names=data.class_names)
        cnn = make_classifier("resnet50", weights="DEFAULT")                   # 1000 ImageNet classes
        cnn = make_classifier("vgg16", data.class_names, weights="DEFAULT")    # pretrained, new head
        cnn = make_classifier("my_package.models:make_net", ["cat", "dog"], weights="net.safetensors")

    Args:
        architecture: one of :func:`classifier_names`, or ``package.module:factory`` where
            ``factory(num_classes)`` returns a module from normalised images to logits.
        class_names: one name per class. ``None`` keeps a torchvision model's ImageNet classes.
        weights: a safetensors state dict (for the CNN with this head; or, for a torchvision model
            with ``class_names``, with the ImageNet head, which is then replaced), or the name of
            torchvision weights (``DEFAULT``, ``IMAGENET1K_V1``), downloaded when not cached.
        head: ``linear``, or ``published`` for the head of arXiv 2301.08067: global max pooling,
            dense 256 ReLU, dropout 0.1, dense 128 ReLU, dense K.
        seed: decides the initial weights.

    Raises:
        KeyError: an unknown architecture.
        FileNotFoundError: a weights file that is not there, or weights that cannot be downloaded.
        ValueError: weights that do not fit, or class names missing.
    """
    if class_names is None:
        if architecture not in models.list_models(module=models):
            raise ValueError(f"{architecture} needs class_names")
        class_names = models.get_model_weights(architecture).DEFAULT.meta["categories"]
    card = ModelCard(architecture, tuple(class_names), head)
    if len(card.class_names) < 2:
        raise ValueError(f"{architecture} needs two class names or more, got {list(card.class_names)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(card) if weights is None else with_weights(card, weights)


def build(card: ModelCard, imagenet_state: dict[str, Tensor] | None = None) -> Classifier:
    """A classifier from its card, with random weights.

    ``imagenet_state`` is loaded into a torchvision model before its ImageNet head is replaced.
    """
    name, count = card.architecture, len(card.class_names)
    if name in SLIM or ":" in name:
        if card.head != "linear":
            raise ValueError(f"{name} has its own head; the {card.head!r} head is for torchvision's CNNs")
        return Classifier(SLIM[name](count) if name in SLIM else _own_factory(name)(count), card)
    if name not in models.list_models(module=models):
        raise KeyError(
            f"unknown CNN {name!r}: slim are {sorted(SLIM)}; else torchvision's or 'package.module:factory'"
        )
    options = {"aux_logits": False, "init_weights": False} if name in WITH_AUXILIARY_HEADS else {}
    model = models.get_model(name, weights=None, **options)
    if imagenet_state is not None:
        model.load_state_dict(imagenet_state)
    if count != IMAGENET_CLASSES or card.head != "linear":
        model = _with_head(model, name, count, card.head)
    return Classifier(model, card)


def filled(card: ModelCard, state: dict[str, Tensor]) -> Classifier:
    """A classifier from its card, with the state that one of the kind had, in float32.

    Slim CNNs are not initialised first: torchvision's VGG draws the weights of a head of 120 million, which
    is then replaced.
    """
    if card.architecture not in SLIM:
        classifier = build(card)
        classifier.load_state_dict(state)
        return classifier
    with torch.device("meta"):
        backbone = SLIM[card.architecture](len(card.class_names))
    classifier = Classifier(backbone, card)
    own = classifier.state_dict()
    cast = {name: value.to(own[name].dtype) if name in own else value for name, value in state.items()}
    classifier.load_state_dict(cast, assign=True)
    return classifier


def with_weights(card: ModelCard, weights: str | Path) -> Classifier:
    """A classifier from its card, with weights as :func:`make_classifier` takes them."""
    is_file = str(weights).endswith(".safetensors")
    state = load_tensors(Path(weights)) if is_file else _torchvision_state(card.architecture, str(weights))
    classifier = build(card)
    try:
        classifier.backbone.load_state_dict(state)
        return classifier
    except RuntimeError as error:
        problem = error
    if card.architecture in models.list_models(module=models):
        try:
            return build(card, imagenet_state=state)
        except RuntimeError:  # no ImageNet state of this CNN either
            pass
    raise ValueError(f"{weights} does not fit {card.architecture}: {str(problem)[:500]}")


def _torchvision_state(name: str, weights: str) -> dict[str, Tensor]:
    try:
        entry = models.get_model_weights(name)[weights]
    except KeyError:
        known = ", ".join(["DEFAULT", *models.get_model_weights(name).__members__])
        raise KeyError(f"{name} has no weights {weights!r}; there are {known}") from None
    try:
        state = entry.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        target = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
        raise FileNotFoundError(
            f"the weights {weights} of {name} could not be downloaded ({error}); put the file at {target}, "
            "or pass weights= a safetensors file"
        ) from error
    auxiliary = ("AuxLogits.", "aux1.", "aux2.")
    return {key: value for key, value in state.items() if not key.startswith(auxiliary)}


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
    return nn.Sequential(OrderedDict(layers))


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


def _own_factory(name: str) -> Callable[[int], nn.Module]:
    module, _, function = name.partition(":")
    try:
        factory: Callable[[int], nn.Module] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise KeyError(f"no CNN factory {name!r}: {error}") from error
    return factory
