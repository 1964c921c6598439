"""Eight Grad-CAMs of ResNet18 at 224 px, batch 8: one pass against torch-cam, and Captum in a loop."""

from __future__ import annotations

import torch
from captum.attr import LayerGradCam
from conftest import median_seconds
from torchcam.methods import GradCAM
from torchvision.models import resnet18

from gan_lib.core.capture import layers_in_order, spread
from gan_lib.core.grad_cam import grad_cam

ROUNDS = 9


def test_eight_maps(record, benchmark):
    torch.manual_seed(0)
    model = resnet18().eval()
    images = torch.rand(8, 3, 224, 224)
    layers = spread(layers_in_order(model, images[:1]), 8)
    modules = dict(model.named_modules())
    target = model(images).argmax(1)

    def ours():
        return grad_cam(model, images, layers, target)

    def torch_cam():
        with GradCAM(model, layers) as cam:
            return cam(target.tolist(), model(images), normalized=False)

    def captum_loop():
        return [
            LayerGradCam(model, modules[layer]).attribute(images, target=target, relu_attributions=True)
            for layer in layers
        ]

    def forward_backward():
        inputs = images.clone().requires_grad_()
        score = model(inputs).gather(1, target[:, None]).sum()
        return torch.autograd.grad(score, [inputs, *model.parameters()])

    contestants = {
        "ours": ours,
        "torch-cam": torch_cam,
        "Captum, a layer at a time": captum_loop,
        "one forward and backward pass": forward_backward,
    }
    seconds = median_seconds(contestants, ROUNDS)
    for other in list(contestants)[1:]:
        record(
            "8 Grad-CAMs, ResNet18, 224 px, batch 8", "ours", other, seconds["ours"] / seconds[other], ROUNDS
        )
    benchmark.pedantic(ours, rounds=3)
    assert seconds["ours"] <= seconds["torch-cam"]
    assert 5 * seconds["ours"] <= seconds["Captum, a layer at a time"]
