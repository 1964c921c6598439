from __future__ import annotations

import pytest
import torch
from conftest import TINY_LAYERS

from gan_lib.classifiers import make_classifier
from gan_lib.core.grad_cam import grad_cam
from gan_lib.gan.conditions import (
    ConditionMaker,
    StoredConditions,
    compute_conditions,
    cumulative_average,
    linear_readout,
)


def test_cumulative_average_is_the_mean_of_the_first_maps():
    maps = torch.rand(2, 5, 4, 4)
    averages = cumulative_average(maps)
    for k in range(5):
        assert torch.allclose(averages[:, k], maps[:, : k + 1].mean(1), atol=1e-6)


def test_published_conditions_contain_the_target_and_leak_free_ones_do_not(tiny_net, images):
    published = ConditionMaker(tiny_net, (16, 16), 3, leak_free=False, layers=TINY_LAYERS)
    made = published(images)
    assert published.positions == [1, 2, 3]
    assert published.condition_layers == TINY_LAYERS
    assert torch.allclose(linear_readout(made.cgma, published.positions), made.target, atol=1e-6)

    leak_free = ConditionMaker(tiny_net, (16, 16), 2, layers=TINY_LAYERS)
    assert leak_free.averaged == TINY_LAYERS[:2]
    free = leak_free(images)
    assert torch.equal(free.target, made.target)
    maps = grad_cam(tiny_net, images, TINY_LAYERS).maps((16, 16))
    assert torch.allclose(linear_readout(free.cgma, leak_free.positions), maps[:, 1:2], atol=1e-6)


def test_readout_over_a_gap_is_the_mean_of_the_maps_in_it():
    maps = torch.rand(2, 9, 4, 4)
    averages = cumulative_average(maps)[:, [2, 5, 8]]
    assert torch.allclose(linear_readout(averages, [3, 6, 9])[:, 0], maps[:, 6:].mean(1), atol=1e-5)


def test_default_layers_explain_the_prediction(images):
    cnn = make_classifier("slim_resnet", ["a", "b", "c"]).eval()
    pictures = torch.rand(2, 3, 32, 32)
    maker = ConditionMaker(cnn, (32, 32))
    made = maker(pictures)
    assert made.cgma.shape == made.grad_cams.shape == (2, 8, 32, 32)
    assert maker.layers[-1] == "backbone.layer3.1.conv2"
    assert maker.layers[-1] not in maker.averaged
    probabilities = cnn(pictures).softmax(1)
    assert torch.equal(made.explained, probabilities.argmax(1))
    assert torch.allclose(made.probability, probabilities.max(1).values)
    assert maker(pictures, 1).explained.tolist() == [1, 1]
    with pytest.raises(ValueError, match="before the target's layer"):
        ConditionMaker(cnn, (32, 32), 40)


@pytest.mark.parametrize(("encoding", "tolerance"), [("fp16", 2**-12), ("uint8", 1 / 509)])
def test_stored_conditions_are_the_computed_ones(tmp_path, scenes, encoding, tolerance):
    cnn = make_classifier("slim_vgg", scenes.class_names)
    maker = ConditionMaker(cnn, scenes.test.image_size)
    stored = compute_conditions(maker, scenes.test, tmp_path, batch_size=7, encoding=encoding)
    assert len(stored) == 20
    assert stored.count == 8
    rows = torch.tensor([19, 2, 7])
    read, made = StoredConditions(tmp_path)[rows], maker(scenes.test.batch(rows).images)
    for name in ("cgma", "grad_cams", "target"):
        assert (getattr(read, name) - getattr(made, name)).abs().max() <= tolerance + 1e-5, name
    assert torch.equal(read.explained, made.explained)
    with pytest.raises(ValueError, match="encoding"):
        compute_conditions(maker, scenes.test, tmp_path, encoding="float8")
