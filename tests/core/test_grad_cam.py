from __future__ import annotations

import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn
from torchvision.models import resnet18

from gan_lib.classifiers import make_classifier
from gan_lib.core.capture import layers_in_order, spread
from gan_lib.core.grad_cam import grad_cam
from gan_lib.core.maps import min_max, upsample

TINY_LAYERS = ["features.0", "features.2", "features.5"]  # of the fixture tiny_net


def captum_maps(model, images, layers, target):
    modules = dict(model.named_modules())
    return {
        layer: LayerGradCam(model, modules[layer]).attribute(images, target=target, relu_attributions=True)
        for layer in layers
    }


def assert_equals_captum(model, images, layers):
    cams = grad_cam(model, images, layers)
    expected = captum_maps(model, images, layers, cams.target)
    for layer in layers:
        assert cams.raw[layer].shape == expected[layer].shape
        difference = (cams.raw[layer] - expected[layer]).abs().max().item()
        assert difference <= 1e-6, f"{layer}: {difference}"
    assert any(raw.any() for raw in cams.raw.values())


def test_equals_captum_on_resnet18_with_in_place_relus():
    torch.manual_seed(0)
    model = resnet18().eval()
    images = torch.rand(2, 3, 96, 96)
    convolutions = spread(layers_in_order(model, images), 8)
    # Outputs of batch norm are what the in-place ReLUs overwrite.
    overwritten = [f"layer{stage}.{block}.bn1" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert_equals_captum(model, images, convolutions)
    assert_equals_captum(model, images, overwritten)


@pytest.mark.parametrize("name", ["slim_vgg", "slim_resnet", "slim_mobilenet"])
def test_equals_captum_on_slim_cnns(name):
    model = make_classifier(name, ["a", "b", "c"], seed=2).eval()
    images = torch.rand(2, 3, 64, 64)
    assert_equals_captum(model, images, spread(layers_in_order(model, images), 8))


def test_equals_captum_where_a_convolution_is_overwritten(tiny_net, images):
    assert_equals_captum(tiny_net, images, TINY_LAYERS)


def test_equals_captum_at_the_input_of_in_place_relus(tiny_net, images):
    layers = ["features.1@input", "features.2@input", "features.6@input"]
    cams = grad_cam(tiny_net, images, layers, 2)
    for layer in layers:
        module = tiny_net.get_submodule(layer.removesuffix("@input"))
        expected = LayerGradCam(tiny_net, module).attribute(
            images, target=2, relu_attributions=True, attribute_to_layer_input=True
        )
        assert torch.allclose(cams.raw[layer], expected, atol=1e-6)


def test_works_frozen_in_no_grad_in_train_mode_and_leaves_no_trace(tiny_net, images):
    expected = grad_cam(tiny_net, images, TINY_LAYERS)
    tiny_net.train().requires_grad_(False)
    with torch.no_grad():
        cams = grad_cam(tiny_net, images, TINY_LAYERS)
    for layer in TINY_LAYERS:
        assert torch.equal(cams.raw[layer], expected.raw[layer])
    assert tiny_net.training
    assert tiny_net.features[3].training
    assert all(parameter.grad is None for parameter in tiny_net.parameters())
    assert not images.requires_grad
    assert not any(module._forward_hooks for module in tiny_net.modules())
    tiny_net.requires_grad_(True)
    grad_cam(tiny_net, images, TINY_LAYERS)
    assert all(parameter.grad is None for parameter in tiny_net.parameters())


def test_batches_do_not_mix(tiny_net, images):
    together = grad_cam(tiny_net, images, TINY_LAYERS).raw["features.5"]
    alone = torch.cat([grad_cam(tiny_net, image[None], TINY_LAYERS).raw["features.5"] for image in images])
    assert torch.allclose(together, alone, atol=1e-7)


def test_targets(tiny_net, images):
    predicted = tiny_net(images).argmax(1)
    assert torch.equal(grad_cam(tiny_net, images, TINY_LAYERS).target, predicted)
    assert grad_cam(tiny_net, images, TINY_LAYERS, 2).target.tolist() == [2, 2, 2]
    assert grad_cam(tiny_net, images, TINY_LAYERS, torch.tensor([0, 1, 3])).target.tolist() == [0, 1, 3]
    with pytest.raises(ValueError, match="3 images"):
        grad_cam(tiny_net, images, TINY_LAYERS, [0, 1])
    with pytest.raises(IndexError, match="target 4"):
        grad_cam(tiny_net, images, TINY_LAYERS, 4)
    with pytest.raises(TypeError, match="float"):
        grad_cam(tiny_net, images, TINY_LAYERS, 0.5)


def test_clear_errors(tiny_net, images):
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inference_mode"):
        grad_cam(tiny_net, images, TINY_LAYERS)
    with pytest.raises(ValueError, match="at least one layer"):
        grad_cam(tiny_net, images, [])
    with pytest.raises(ValueError, match=r"\(B, C, H, W\)"):
        grad_cam(tiny_net, images, ["head"])

    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.aside, self.net = nn.Conv2d(3, 2, 1), tiny_net

        def forward(self, x):
            self.aside(x)
            return self.net(x)

    with pytest.raises(ValueError, match="do not depend"):
        grad_cam(Aside(), images, ["aside"])


def test_bfloat16_input(tiny_net, images):
    cams = grad_cam(tiny_net.bfloat16(), images.bfloat16(), TINY_LAYERS)
    assert all(raw.dtype == torch.float32 and raw.isfinite().all() for raw in cams.raw.values())


def test_min_max_keeps_zero_maps_zero():
    maps = torch.stack([torch.zeros(4, 4), torch.full((4, 4), 3.0), torch.arange(16.0).view(4, 4)])[:, None]
    scaled = min_max(maps)
    assert not scaled[:2].any()
    assert scaled[2].min() == 0
    assert scaled[2].max() == 1
    assert upsample(maps, (8, 6)).shape == (3, 1, 8, 6)
    assert min_max(torch.tensor([[-1.0, 3.0], [0.0, 1.0]])).flatten().tolist() == [0.0, 1.0, 0.25, 0.5]


def test_maps_are_at_image_size_in_unit_range(tiny_net, images):
    maps = grad_cam(tiny_net, images, TINY_LAYERS).maps((16, 16))
    assert maps.shape == (3, 3, 16, 16)
    assert maps.min() >= 0
    assert maps.max() <= 1


def test_dog_and_cat_are_told_apart(test_data):
    """Class-specific on a real photograph and pretrained weights: the two maps lie on different animals."""
    from gan_lib.data.folders import read_image

    cnn = make_classifier("mobilenet_v2", weights=test_data / "weights/mobilenet_v2_imagenet.safetensors")
    image = read_image(test_data / "test-images/cat_dog.png", (224, 224))[None].float() / 255
    dog, cat = cnn.class_names.index("boxer"), cnn.class_names.index("tiger cat")
    layer = layers_in_order(cnn, image)[-1]
    cams = grad_cam(cnn, image.repeat(2, 1, 1, 1), [layer], [dog, cat])
    dog_map, cat_map = cams.maps((224, 224))[:, 0]
    rows = torch.arange(224.0)[:, None]
    # In this picture the dog's head is above the cat.
    assert (dog_map * rows).sum() / dog_map.sum() < (cat_map * rows).sum() / cat_map.sum()
