"""Training on a pool of CNNs: a step by hand, turns, the criterion, and runs that were killed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from gan_lib.classifiers import make_classifier
from gan_lib.core.runtime import make_fabric
from gan_lib.gan.conditions import EvidenceMaker
from gan_lib.gan.generators import (
    DiscriminatorSizes,
    ProjectionDiscriminator,
    load_generator,
    make_generator,
    projections,
    save_generator,
)
from gan_lib.gan.objectives import likeness_loss
from gan_lib.gan.training import Member, UniversalOptions, train_universal, universal
from gan_lib.gan.training.contrastive import CNNTask
from gan_lib.gan.training.loop import GANState

CPU = make_fabric("cpu")
OPTIONS = UniversalOptions(
    max_steps=4, batch_size=8, held_out=8, validate_every=2, checkpoint_every=1, warmup_steps=1, forgetful=1
)
SIZES = {"width": 8, "condition_channels": 4, "sft_hidden": 4, "stem_stride": 8, "prior": True}


@pytest.fixture(scope="module")
def pool(scenes):
    cnns = [
        make_classifier(name, scenes.class_names, seed=7).eval().requires_grad_(False)
        for name in ("slim_vgg", "slim_resnet")
    ]
    return [Member(EvidenceMaker(cnn, (32, 32), count=2), scenes.train) for cnn in cnns]


def generator_of(pool, **changes):
    torch.manual_seed(0)
    channels = pool[0].maker.channels
    return make_generator("lsft", conditions=len(channels), features=channels, **{**SIZES, **changes})


def trained(pool, folder, options=OPTIONS, **named):
    generator = generator_of(pool)
    torch.manual_seed(1)
    critic = ProjectionDiscriminator(1, DiscriminatorSizes(4, 4))
    log = train_universal(generator, pool, folder, options, CPU, discriminator=critic, **named)
    return generator, log


def trainer_of(pool, options=OPTIONS):
    state = GANState(generator_of(pool), ProjectionDiscriminator(1, DiscriminatorSizes(4, 4)), options, CPU)
    tasks = [CNNTask(own.maker, own.images, options, CPU) for own in pool]
    return universal._Trainer(state, tasks, tasks, options)


def test_likeness_by_hand():
    """Correlations of 1, -1 and 0.6 over a margin of 0.1: the mean of 0.9, 0 and 0.5."""
    maps = torch.tensor([[1.0, -1.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.0]])
    others = torch.tensor([[8.0, 2.0, 5.0, 5.0], [-1.0, 1.0, 0.0, 0.0], [0.6, -0.6, 0.8, -0.8]])
    loss = likeness_loss(maps.view(3, 1, 2, 2), others.view(3, 1, 2, 2))
    assert loss.item() == pytest.approx((0.9 + 0 + 0.5) / 3, abs=1e-6)


@pytest.mark.parametrize("step", [0, 1])
def test_a_step_is_the_objective_of_its_cnn_and_the_likeness(pool, step, monkeypatch):
    """Every second step: the correlation of the logits with those that a forgetful copy's conditions give."""
    trainer, seen = trainer_of(pool, replace(OPTIONS, likeness_weight=3.0)), {}
    state = trainer.state
    state.step, rows = step, torch.arange(8)
    member = trainer.member(step)
    cnn = trainer.pool[member]
    with torch.no_grad():
        task = cnn.task(rows, step)
        expected, _ = cnn.objective(state.generator, task, step, "black")
        total = cnn.weighted(expected)
        (copy,) = trainer.forgetful[member]
        logits, others = (
            state.generator.logits(task.pictures, own(task.pictures, task.classes).activations)
            .flatten(1)
            .numpy()
            for own in (cnn.maker, copy)
        )
    alike = [max(0.0, np.corrcoef(one, two)[0, 1] - 0.1) for one, two in zip(logits, others, strict=True)]

    def update(losses, total, real, fake):
        seen.update(losses, total=total, classes=(real[1], fake[1]))
        return {name: own.item() for name, own in losses.items()}

    monkeypatch.setattr(state, "update", update)
    made = trainer.step(rows)
    assert made["member"] == member
    assert all(not own.any() for own in seen["classes"])  # the discriminator knows no classes
    assert ("likeness" in made) == (step == 0)
    if step == 0:
        assert made["likeness"] == pytest.approx(np.mean(alike), abs=1e-5)
        total = total + 3 * np.mean(alike)
    assert seen["total"].item() == pytest.approx(total.item(), rel=1e-5)


def test_every_cnn_has_its_turn(pool):
    trainer = trainer_of(pool)
    turns = [trainer.member(step) for step in range(40)]
    assert all(sorted(turns[i : i + 2]) == [0, 1] for i in range(0, 40, 2))
    assert turns[::2].count(0) not in (0, 20)  # in another order each time


def test_forgetful_copies_have_other_last_layers_and_the_same_first_ones(pool):
    trainer = trainer_of(pool)
    for member, (copy,) in zip(trainer.pool, trainer.forgetful, strict=True):
        own, drawn = member.maker.cnn.state_dict(), copy.cnn.state_dict()
        convolutions = [name for name in own if own[name].ndim == 4]
        assert torch.equal(own[convolutions[0]], drawn[convolutions[0]])
        assert not torch.equal(own[convolutions[-1]], drawn[convolutions[-1]])
        assert copy.layers == member.maker.layers


def test_the_criterion_is_that_of_the_watched_cnns(pool, tmp_path):
    _, log = trained(pool[:1], tmp_path / "watched", watched=pool[1:])
    _, own = trained(pool[:1], tmp_path / "own")
    assert log["criterion"].notna().tolist() == [False, True, False, True]
    assert not np.allclose(log["criterion"].dropna(), own["criterion"].dropna(), rtol=1e-3)
    pd.testing.assert_frame_equal(log.drop(columns="criterion"), own.drop(columns="criterion"))


def test_an_epoch_is_of_the_largest_set_and_smaller_ones_begin_again(pool, tmp_path, monkeypatch):
    """60 and 30 images, 8 held out of each, all others in one step: rows 0..51, of the smaller set modulo 22."""
    small = Member(pool[1].maker, pool[1].images.subset(range(30)))
    seen, one_task = {}, CNNTask.task

    def task(self, rows, step, mosaics=True):
        if mosaics:
            seen[len(self.images)] = sorted(rows.tolist())
        return one_task(self, rows, step, mosaics)

    monkeypatch.setattr(CNNTask, "task", task)
    trained([pool[0], small], tmp_path, replace(OPTIONS, batch_size=64, max_steps=2))
    assert seen == {60: list(range(52)), 30: sorted(row % 22 for row in range(52))}


def test_a_killed_training_goes_on(pool, tmp_path, monkeypatch):
    whole, log = trained(pool, tmp_path / "whole")
    one_step, calls = universal._Trainer.step, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return one_step(*arguments)

    monkeypatch.setattr(universal._Trainer, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(pool, tmp_path / "killed")
    monkeypatch.undo()
    again, resumed = trained(pool, tmp_path / "killed")
    pd.testing.assert_frame_equal(resumed, log)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_pools_that_cannot_be_trained_on(pool, tmp_path):
    generator = generator_of(pool)
    with pytest.raises(ValueError, match="at least one CNN"):
        train_universal(generator, [], tmp_path, OPTIONS, CPU)
    with pytest.raises(ValueError, match="60 images, 59 held out"):
        train_universal(generator, pool, tmp_path, replace(OPTIONS, held_out=59), CPU)
    other = Member(EvidenceMaker(pool[0].maker.cnn, (32, 32), count=3), pool[0].images)
    with pytest.raises(ValueError, match=r"conditions of \(2, 2, 2, 3\) channels"):
        train_universal(generator, [*pool, other], tmp_path, OPTIONS, CPU)


# -- what the generator sees -------------------------------------------------------------------------


def test_projections_by_hand():
    """The mean over two conditions of the first two channels' sum; others do not count."""
    first = torch.tensor([1.0, 2.0, 50.0]).view(1, 3, 1, 1)
    second = torch.tensor([[0.0, 4.0], [8.0, 12.0]]).view(1, 1, 2, 2).expand(1, 2, 2, 2)
    made = projections([first, second], (2, 2))
    assert made.flatten().tolist() == [1.5, 5.5, 9.5, 13.5]


def test_projections_with_weights_by_hand():
    """(2 * 3 + 6 * (0, 8, 16, 24)) / 8."""
    first = torch.tensor([1.0, 2.0, 50.0]).view(1, 3, 1, 1)
    second = torch.tensor([[0.0, 4.0], [8.0, 12.0]]).view(1, 1, 2, 2).expand(1, 2, 2, 2)
    made = projections([first, second], (2, 2), [2.0, 6.0])
    assert made.flatten().tolist() == [0.75, 6.75, 12.75, 18.75]


def test_products_of_projections_by_hand():
    """(0, 4, 8, 12) is (0, 1/3, 2/3, 1) within its image; what is the same everywhere says the least."""
    flat = torch.tensor([1.0, 2.0, 50.0]).view(1, 3, 1, 1)
    graded = torch.tensor([[0.0, 4.0], [8.0, 12.0]]).view(1, 1, 2, 2).expand(1, 2, 2, 2)
    again = torch.tensor([[3.0, 0.0], [0.0, 3.0]]).view(1, 1, 2, 2).expand(1, 2, 2, 2)
    shares, other = [0.0, 1 / 3, 2 / 3, 1.0], [1.0, 0.0, 0.0, 1.0]
    made = projections([flat, graded], (2, 2), joint="product").flatten().tolist()
    assert made == pytest.approx([(math.log(0.05) + math.log(own + 0.05)) / 2 for own in shares])
    made = projections([graded, again], (2, 2), [1.0, 3.0], "product").flatten().tolist()
    expected = [
        (math.log(one + 0.05) + 3 * math.log(two + 0.05)) / 4 for one, two in zip(shares, other, strict=True)
    ]
    assert made == pytest.approx(expected)
    two = torch.cat([graded, 100 * graded + 7])  # each within its own image
    made = projections([two], (2, 2), joint="product")
    torch.testing.assert_close(made[0], made[1])


def test_a_product_is_what_a_silent_generator_draws(pool, scenes, tmp_path):
    generator = generator_of(pool, joint="product").eval()
    torch.nn.init.zeros_(generator.output.weight)
    torch.nn.init.zeros_(generator.output.bias)
    pictures = scenes.train.batch(range(4)).images
    conditions = pool[0].maker(pictures).activations
    prior = projections(conditions, (32, 32), joint="product")
    deviation, mean = torch.std_mean(prior, dim=(1, 2, 3), keepdim=True)
    save_generator(generator, tmp_path)
    for own in (generator, load_generator(tmp_path)):
        with torch.no_grad():
            made = own.logits(pictures, conditions)
        torch.testing.assert_close(made, 3 * (prior - mean) / (deviation + 1e-3) - 3)
    with pytest.raises(ValueError, match="as joint is"):
        generator_of(pool, prior=False, joint="product")
    emphasised = generator_of(pool, joint="product", emphasis=4.0)  # exponents, which are learned
    torch.nn.init.zeros_(emphasised.output.weight)
    torch.nn.init.zeros_(emphasised.output.bias)
    prior = projections(conditions, (32, 32), [1.0, 1.0, 4.0], "product")
    deviation, mean = torch.std_mean(prior, dim=(1, 2, 3), keepdim=True)
    made = emphasised.logits(pictures, conditions)
    torch.testing.assert_close(made, 3 * (prior - mean) / (deviation + 1e-3) - 3)
    (made * torch.arange(32.0)).mean().backward()
    assert emphasised.prior_weights.grad.abs().min() > 0


def test_the_evidence_counts_as_emphasised_and_its_weight_is_learned(pool, scenes):
    generator = generator_of(pool, emphasis=4.0).eval()
    assert generator.prior_weights.tolist() == [1.0, 1.0, 4.0]
    torch.nn.init.zeros_(generator.output.weight)
    torch.nn.init.zeros_(generator.output.bias)
    pictures = scenes.train.batch(range(4)).images
    conditions = pool[0].maker(pictures).activations
    made = generator.logits(pictures, conditions)
    prior = projections(conditions, (32, 32), [1.0, 1.0, 4.0])
    deviation, mean = torch.std_mean(prior, dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(made, 3 * (prior - mean) / (deviation + 1e-3) - 3)
    (made * torch.arange(32.0)).mean().backward()
    assert generator.prior_weights.grad.abs().min() > 0
    assert generator_of(pool).prior_weights is None, "nothing is learned of a prior without emphasis"
    with torch.no_grad():  # what counts for less than nothing counts for next to nothing
        generator.prior_weights.copy_(torch.tensor([1.0, -0.5, -0.5]))
        turned = generator.logits(pictures, conditions)
    first = projections(conditions, (32, 32), [1.0, 1e-3, 1e-3])
    deviation, mean = torch.std_mean(first, dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(turned, 3 * (first - mean) / (deviation + 1e-3) - 3)
    with pytest.raises(ValueError, match="emphasis is of the evidence in the prior"):
        generator_of(pool, prior=False, emphasis=4.0)


@pytest.mark.parametrize(("image", "sees"), [("whole", True), ("fine", True), ("none", False)])
def test_a_generator_without_the_image_does_not_see_it(pool, scenes, image, sees):
    generator = generator_of(pool, image=image, detail=4).eval()
    pictures = scenes.train.batch(range(4)).images
    conditions = pool[0].maker(pictures).activations
    with torch.no_grad():
        same = torch.equal(generator(pictures, conditions), generator(pictures.flip(3), conditions))
    assert same is not sees


def test_the_fine_branch_alone_sees_the_image(pool, scenes):
    generator = generator_of(pool, image="fine", detail=4).eval()
    stems = []
    generator.stem.register_forward_hook(lambda module, given, made: stems.append(given[0]))
    pictures = scenes.train.batch(range(4)).images
    generator(pictures, pool[0].maker(pictures).activations)
    assert (stems[0] == 0.5).all()


def test_a_prior_is_what_a_silent_generator_draws(pool, scenes):
    generator = generator_of(pool).eval()
    torch.nn.init.zeros_(generator.output.weight)
    torch.nn.init.zeros_(generator.output.bias)
    pictures = scenes.train.batch(range(4)).images
    conditions = pool[0].maker(pictures).activations
    with torch.no_grad():
        made = generator.logits(pictures, conditions)
        prior = projections(conditions, (32, 32))
    deviation, mean = torch.std_mean(prior, dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(made, 3 * (prior - mean) / (deviation + 1e-3) - 3)


def test_maps_have_no_prior():
    with pytest.raises(ValueError, match="made of evidence conditions"):
        make_generator("lsft", conditions=3, prior=True)
