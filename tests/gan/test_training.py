from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from gan_lib.classifiers import FitOptions, fit, make_classifier
from gan_lib.core.runtime import make_fabric
from gan_lib.data import ImageSplit
from gan_lib.gan.conditions import ConditionMaker, FeatureMaker, compute_conditions
from gan_lib.gan.generators import (
    DISCRIMINATORS,
    GENERATORS,
    Discriminator,
    DiscriminatorSizes,
    ProjectionDiscriminator,
    load_generator,
    make_generator,
    save_generator,
)
from gan_lib.gan.objectives import discriminator_accuracy, discriminator_loss, generator_loss
from gan_lib.gan.training import (
    ContrastiveOptions,
    TrainingOptions,
    contrastive,
    stability_table,
    supervised,
    train_contrastive,
    train_supervised,
)
from gan_lib.gan.training.loop import GANState, train_gan

LOG_COLUMNS = ["step", "epoch", "reconstruction", "adversarial", "discriminator", "discriminator_accuracy"]

SIZES = {"width": 8, "condition_hidden": 8, "condition_channels": 4, "sft_hidden": 4, "stem_stride": 4}
CRITIC = DiscriminatorSizes(8, 4)
OPTIONS = TrainingOptions(
    epochs=3, batch_size=16, learning_rate=2e-3, ema_decay=0.8, checkpoint_every=3, seed=4
)


@pytest.fixture(scope="module")
def stored(scenes, tmp_path_factory):
    cnn = make_classifier("slim_vgg", scenes.class_names)
    maker = ConditionMaker(cnn, scenes.train.image_size)
    return compute_conditions(maker, scenes.train, tmp_path_factory.mktemp("conditions"))


class EmptyTargets:
    """Stored conditions with targets of zero."""

    def __init__(self, stored):
        self.stored, self.count, self.fingerprint = stored, stored.count, "empty"

    def __len__(self):
        return len(self.stored)

    def __getitem__(self, rows):
        made = self.stored[rows]
        return replace(made, target=torch.zeros_like(made.target))


def train(scenes, stored, folder, options=OPTIONS, **extra):
    torch.manual_seed(options.seed)
    generator, discriminator = make_generator("lsft", **SIZES), Discriminator(CRITIC)
    log = train_supervised(generator, discriminator, scenes.train, stored, folder, options, **extra)
    return generator, discriminator, log


def test_the_error_falls_and_every_step_is_logged(scenes, stored, tmp_path):
    options = replace(OPTIONS, epochs=8)
    generator, _, log = train(scenes, stored, tmp_path, options)
    assert list(log.columns) == LOG_COLUMNS
    assert log["step"].tolist() == list(range(8 * 4))
    assert log["reconstruction"].tail(4).mean() < log["reconstruction"].head(4).mean()
    assert log["discriminator_accuracy"].between(0, 1).all()
    assert not generator.training
    assert next(generator.parameters()).device.type == "cpu"
    assert all(parameter.requires_grad for parameter in generator.parameters())


@pytest.mark.parametrize("killed_at", [1, 4, 7, 11])
def test_killed_and_resumed_ends_with_the_same_weights(scenes, stored, tmp_path, monkeypatch, killed_at):
    whole, critic, log = train(scenes, stored, tmp_path / "whole")
    one_step, calls = supervised._step, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == killed_at + 1:
            raise KeyboardInterrupt
        return one_step(*arguments)

    monkeypatch.setattr(supervised, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(scenes, stored, tmp_path / "killed")
    monkeypatch.undo()
    resumed, resumed_critic, resumed_log = train(scenes, stored, tmp_path / "killed")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    for name, value in critic.state_dict().items():
        assert torch.equal(resumed_critic.state_dict()[name], value), name
    pd.testing.assert_frame_equal(resumed_log, log)


def same_weights(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("variant", GENERATORS)
@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_every_discriminator_with_every_generator(scenes, stored, tmp_path, monkeypatch, kind, variant):
    """Updated at every fifth step, no average: killed after step 6, it goes on from step 3 to the same bytes."""
    options = replace(OPTIONS, epochs=2, discriminator_every=5, ema_decay=0.0)  # 8 steps
    kept, begun = {}, {}

    def run(folder):
        torch.manual_seed(7)
        networks = make_generator(variant, **SIZES, blocks=2), DISCRIMINATORS[kind](DiscriminatorSizes(4, 4))
        begun[folder] = [own.state_dict() for own in networks]
        begun[folder] = [{name: own.clone() for name, own in state.items()} for state in begun[folder]]
        train_supervised(*networks, scenes.train, stored, tmp_path / folder, options)
        return networks

    one_step = supervised._step

    def watched(state, *arguments):
        before = [own.detach().clone() for own in state.discriminator.parameters()]
        losses = one_step(state, *arguments)
        same = zip(before, state.discriminator.parameters(), strict=True)
        kept[state.step] = all(torch.equal(old, new) for old, new in same)
        if state.step == 6 and "whole" not in begun:
            raise KeyboardInterrupt
        return losses

    monkeypatch.setattr(supervised, "_step", watched)
    with pytest.raises(KeyboardInterrupt):
        run("killed")
    assert kept == {step: step not in (0, 5) for step in range(7)}
    begun["whole"] = []
    kept.clear()
    resumed = run("killed")
    assert kept == {step: step != 5 for step in range(6, 8)}  # after the checkpoint of 6 steps
    whole = run("whole")
    assert all(map(same_weights, whole, resumed))
    logs = [(tmp_path / folder / "log.csv").read_bytes() for folder in ("whole", "killed")]
    assert logs[0] == logs[1]
    for network, state in zip(whole, begun["whole"], strict=True):
        assert any(not torch.equal(own, state[name]) for name, own in network.state_dict().items())


def count_up(folder, killed_at=None):
    """Eleven steps that only count, with rising and falling rates; the rates of every step, and the log."""
    options = replace(OPTIONS, epochs=1, batch_size=1, warmup_steps=4, final_learning_rate=0.1)
    networks = make_generator("lsft", **SIZES), Discriminator(CRITIC)
    state, rates = GANState(*networks, options, make_fabric("cpu")), {}

    def step(rows):
        if state.step == killed_at:
            raise KeyboardInterrupt
        optimizers = state.generator_optimizer, state.discriminator_optimizer
        rates[state.step] = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
        for optimizer in optimizers:
            optimizer.step()
        return {"row": rows.item(), "third": rows.item() / 3}

    try:
        log = train_gan(state, step, 11, folder)
    except KeyboardInterrupt:
        log = None
    return rates, log


@pytest.mark.parametrize("behind", [0, 1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("killed_at", [2, 8, 10])
def test_the_log_continues_at_the_checkpoint(tmp_path, killed_at, behind):
    """Rows behind the checkpoint go, even one that was cut in the middle of its first number."""
    whole, log = count_up(tmp_path / "whole")
    assert log["step"].tolist() == list(range(11))
    killed, none = count_up(tmp_path / "killed", killed_at)
    assert none is None
    path = tmp_path / "killed/log.csv"
    rows = path.read_text().splitlines(keepends=True)
    assert len(rows) == killed_at + 1
    reached = killed_at // 3 * 3  # of the last checkpoint
    path.write_text("".join([*rows[: reached + 1], "10,1,7,2.3333333333333335\n"[:behind]]))
    resumed, again = count_up(tmp_path / "killed")
    pd.testing.assert_frame_equal(again, log)
    assert path.read_bytes() == (tmp_path / "whole/log.csv").read_bytes()
    assert list(resumed) == list(range(reached, 11))
    assert {**killed, **resumed} == whole


def test_rows_before_a_crash_are_kept(scenes, stored, tmp_path, monkeypatch):
    """A loss that is no longer finite: the log shows how it came to that."""
    losses = iter([{"loss": 1.0}, {"loss": 2.0}, {"loss": math.inf}])
    monkeypatch.setattr(supervised, "_step", lambda *_: next(losses))
    with pytest.raises(FloatingPointError, match="step 2"):
        train(scenes, stored, tmp_path)
    assert pd.read_csv(tmp_path / "log.csv")["loss"].tolist() == [1.0, 2.0]


def test_a_checkpoint_of_another_schedule_is_refused(scenes, stored, tmp_path):
    train(scenes, stored, tmp_path)
    with pytest.raises(ValueError, match="other options"):
        train(scenes, stored, tmp_path, replace(OPTIONS, epochs=4))


def test_discriminator_schedule(scenes, stored, tmp_path):
    """Updated at steps 0 and 100 only: with 12 steps, once."""
    options = replace(OPTIONS, discriminator_every=100, checkpoint_every=1000)
    torch.manual_seed(options.seed)
    generator, discriminator = make_generator("lsft", **SIZES), Discriminator(CRITIC)
    updates = []
    original = torch.optim.Adam.step

    def counting(self, *arguments, **keywords):
        updates.append(len(self.param_groups[0]["params"]))
        return original(self, *arguments, **keywords)

    torch.optim.Adam.step = counting
    try:
        train_supervised(generator, discriminator, scenes.train, stored, tmp_path, options)
    finally:
        torch.optim.Adam.step = original
    assert updates.count(len(list(generator.parameters()))) == 12
    assert updates.count(len(list(discriminator.parameters()))) == 1


def test_averaged_weights_are_used(scenes, stored, tmp_path):
    averaged, _, _ = train(scenes, stored, tmp_path / "a")
    last, _, _ = train(scenes, stored, tmp_path / "b", replace(OPTIONS, ema_decay=0.0))
    assert not torch.equal(averaged.output.weight, last.output.weight)


def test_what_does_not_belong_together_is_refused(scenes, stored, tmp_path):
    with pytest.raises(ValueError, match="20 images but 60 conditions"):
        train_supervised(
            make_generator("lsft", **SIZES), Discriminator(CRITIC), scenes.test, stored, tmp_path
        )
    with pytest.raises(ValueError, match="8 conditions for a generator of 3"):
        train_supervised(
            make_generator("lsft", **SIZES, conditions=3),
            Discriminator(CRITIC),
            scenes.train,
            stored,
            tmp_path,
        )


def test_a_loss_that_explodes_stops_the_training(scenes, stored, tmp_path):
    generator = make_generator("lsft", **SIZES)
    torch.nn.init.constant_(generator.stem.weight, math.nan)
    with pytest.raises(FloatingPointError, match="step 0"):
        train_supervised(generator, Discriminator(CRITIC), scenes.train, stored, tmp_path, OPTIONS)


def test_generator_is_saved_without_pickle(tmp_path):
    generator = make_generator("gsft", **SIZES, blocks=2)
    save_generator(generator, tmp_path)
    loaded = load_generator(tmp_path)
    assert all(
        torch.equal(value, loaded.state_dict()[name]) for name, value in generator.state_dict().items()
    )
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
    with pytest.raises(FileNotFoundError, match="no generator"):
        load_generator(tmp_path / "nowhere")


def test_objectives():
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([-2.0, 3.0])
    expected = (
        math.log1p(math.exp(-2))
        + math.log1p(math.exp(1))
        + math.log1p(math.exp(-2))
        + math.log1p(math.exp(3))
    ) / 4
    assert discriminator_loss(real, fake).item() == pytest.approx(expected)
    assert discriminator_loss(real, fake, "hinge").item() == pytest.approx((0 + 2 + 0 + 4) / 4)
    assert generator_loss(fake, "hinge").item() == pytest.approx(-0.5)
    assert generator_loss(fake).item() == pytest.approx(
        (math.log1p(math.exp(2)) + math.log1p(math.exp(-3))) / 2
    )
    assert discriminator_accuracy(real, fake).item() == 0.5


# -- contrastive -------------------------------------------------------------------------------------

CONTRASTIVE = ContrastiveOptions(
    epochs=3,
    batch_size=8,
    learning_rate=2e-3,
    warmup_steps=3,
    ema_decay=0.8,
    held_out=20,
    validate_every=4,
    checkpoint_every=3,
    adversarial_weight=0.1,
    seed=4,
)


@pytest.fixture(scope="module")
def maker(scenes):
    cnn = make_classifier("slim_vgg", scenes.class_names)
    fit(cnn, scenes.train, FitOptions(epochs=25, batch_size=20, learning_rate=0.01))  # knows them by heart
    return FeatureMaker(cnn, scenes.train.image_size, 2)


def train_by_contrast(scenes, maker, folder, options=CONTRASTIVE, variant="lsft"):
    torch.manual_seed(options.seed)
    sizes = {"width": 8, "condition_channels": 4, "sft_hidden": 4, "stem_stride": 8, "detail": 4, "blocks": 2}
    generator = make_generator(variant, conditions=3, features=maker.channels, **sizes)
    discriminator = ProjectionDiscriminator(10, DiscriminatorSizes(4, 4))
    log = train_contrastive(generator, discriminator, maker, scenes.train, folder, options)
    return generator, discriminator, log


@pytest.mark.parametrize("variant", ["lsft", "gsft"])
def test_the_objective_falls_without_labels_or_masks(scenes, maker, tmp_path, variant):
    blind = ImageSplit(scenes.train.images, torch.arange(len(scenes.train)) % 10)
    options = replace(CONTRASTIVE, epochs=6)
    weights = {name: value.clone() for name, value in maker.cnn.state_dict().items()}
    splits = {"train": blind, "test": scenes.test}
    _, _, log = train_by_contrast(replace(scenes, splits=splits), maker, tmp_path, options, variant)
    assert log["step"].tolist() == list(range(6 * 5))
    assert log["fidelity"].tail(6).mean() < log["fidelity"].head(6).mean()
    criterion = log["criterion"].dropna()
    assert criterion.index.tolist() == [3, 7, 11, 15, 19, 23, 27, 29]
    assert criterion.min() < criterion.iloc[0]
    assert log["area"].between(0, 1).all() or log["area"].max() <= 2  # mosaics count per part
    for name, value in maker.cnn.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert all(parameter.requires_grad for parameter in maker.net.parameters())


@pytest.mark.parametrize("killed_at", [2, 4, 9])
def test_killed_contrastive_training_resumes(scenes, maker, tmp_path, monkeypatch, killed_at):
    whole, critic, log = train_by_contrast(scenes, maker, tmp_path / "whole")
    one_step, calls = contrastive._Trainer.step, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == killed_at + 1:
            raise KeyboardInterrupt
        return one_step(*arguments)

    monkeypatch.setattr(contrastive._Trainer, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        train_by_contrast(scenes, maker, tmp_path / "killed")
    monkeypatch.undo()
    resumed, resumed_critic, resumed_log = train_by_contrast(scenes, maker, tmp_path / "killed")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    for name, value in critic.state_dict().items():
        assert torch.equal(resumed_critic.state_dict()[name], value), name
    pd.testing.assert_frame_equal(resumed_log, log)


def test_the_weights_with_the_lowest_criterion_are_kept(scenes, maker, tmp_path, monkeypatch):
    """With a criterion that only the second validation likes, its weights are the result."""
    seen = []

    def criterion(self, rows):
        seen.append({name: value.clone() for name, value in self.state.average.module.state_dict().items()})
        return 0.0 if len(seen) == 2 else 1.0

    monkeypatch.setattr(contrastive._Trainer, "criterion", criterion)
    generator, _, _ = train_by_contrast(scenes, maker, tmp_path)
    assert len(seen) == 4
    for name, value in generator.state_dict().items():
        assert torch.equal(value, seen[1][name]), name


def test_mosaics_ask_for_either_part(scenes, maker, tmp_path):
    trainer = contrastive.CNNTask(maker, scenes.train, CONTRASTIVE, make_fabric("cpu"))
    trainer.classes = torch.arange(60) % 3
    trainer.order = torch.arange(60)
    rows = torch.arange(12)
    plain = trainer.task(rows, step=0)
    assert plain.parts == 1
    assert (plain.other_classes == -1).all()
    task = trainer.task(rows, step=1)
    pictures = scenes.train.batch(rows).images
    assert task.parts == 2
    assert len(task.pictures) == 6
    assert (task.classes != task.other_classes).all()
    for index in range(6):
        # The asked image is on the left in half of the mosaics, on the right in the others.
        left, right = task.pictures[index].split(32, dim=-1)
        asked, other = (right, left) if index % 2 else (left, right)
        assert torch.equal(asked, pictures[index])
        assert int(trainer.classes[index]) == int(task.classes[index])
        partner = next(row for row in range(12) if torch.equal(pictures[row], other))
        assert int(trainer.classes[partner]) == int(task.other_classes[index])
        assert torch.equal(task.originals[index], trainer.embeddings[index])
    trainer.classes = torch.zeros(60, dtype=torch.long)
    assert trainer.task(rows, step=1).parts == 1  # no two classes, no mosaics


def test_a_checkpoint_of_another_cnn_or_of_other_images_is_refused(scenes, maker, tmp_path):
    train_by_contrast(scenes, maker, tmp_path)
    other = FeatureMaker(make_classifier("slim_vgg", scenes.class_names, seed=7), (32, 32), 2)
    with pytest.raises(ValueError, match="another CNN"):
        train_by_contrast(scenes, other, tmp_path)
    turned = ImageSplit(scenes.train.images.flip(-1), scenes.train.labels)
    with pytest.raises(ValueError, match="other images"):
        train_by_contrast(replace(scenes, splits={**scenes.splits, "train": turned}), maker, tmp_path)
    with pytest.raises(ValueError, match="another generator"):
        train_by_contrast(scenes, maker, tmp_path, variant="gsft")


def test_a_batch_of_one_image(scenes, maker, tmp_path):
    """41 images in batches of 8 end with a batch of one, on a step with mosaics as well."""
    options = replace(CONTRASTIVE, held_out=19, epochs=2, mosaic_every=1)
    _, _, log = train_by_contrast(scenes, maker, tmp_path, options)
    assert len(log) == 12


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"area": (0.0, 0.2)}, "area needs"),
        ({"ranked_area": (0.3, 0.1)}, "ranked_area needs"),
        ({"fills": ()}, "at least 1 item"),
        ({"fills": ("pink",)}, "unknown fill"),
        ({"adversarial": "wasserstein"}, "'bce' or 'hinge'"),
        *(
            ({name: 0}, f"{name}\n.*greater than 0")
            for name in (
                *("epochs", "max_steps", "batch_size", "discriminator_every", "checkpoint_every"),
                *("mosaic_every", "held_out", "validate_every"),
            )
        ),
    ],
)
def test_options_without_meaning_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        replace(CONTRASTIVE, **changes)


def test_every_kind_of_mosaic_meets_every_fill():
    """Kind and fill follow from the step: they must not go in step with each other."""
    options = replace(CONTRASTIVE, mosaics=("halves", "pasted"), fills=("black", "blur"))
    met = {(options.mosaic_kind(step), options.fill(step)) for step in range(1, 40, options.mosaic_every)}
    assert len(met) == 4


def test_contrastive_training_refuses_what_does_not_fit(scenes, maker, tmp_path):
    generator = make_generator("lsft", conditions=2, width=8, stem_stride=8)
    with pytest.raises(ValueError, match="channels"):
        train_contrastive(generator, ProjectionDiscriminator(10), maker, scenes.train, tmp_path)
    with pytest.raises(ValueError, match="too few"):
        train_by_contrast(scenes, maker, tmp_path, replace(CONTRASTIVE, held_out=60))


def test_without_a_discriminator(scenes, stored, tmp_path):
    """Nothing is asked of it: it ends as it began, and the error falls all the same."""
    torch.manual_seed(OPTIONS.seed)
    generator, discriminator = make_generator("lsft", **SIZES), Discriminator(CRITIC)
    before = [tensor.clone() for tensor in discriminator.state_dict().values()]
    options = replace(OPTIONS, adversarial_weight=0.0, epochs=8)
    log = train_supervised(generator, discriminator, scenes.train, stored, tmp_path, options)
    assert list(log.columns) == ["step", "epoch", "reconstruction"]
    assert log["reconstruction"].tail(4).mean() < log["reconstruction"].head(4).mean()
    after = discriminator.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_logits_are_kept_from_saturating(scenes, stored, tmp_path):
    """With targets that are zero everywhere, what stops the maps is the penalty alone."""
    batch = stored[torch.arange(len(scenes.train))]
    empty = EmptyTargets(stored)
    reached = {}
    for weight in (0.0, 1000.0):
        torch.manual_seed(0)
        generator = make_generator("lsft", **SIZES)
        options = replace(
            OPTIONS, adversarial_weight=0.0, saturation_weight=weight, epochs=30, learning_rate=1e-2
        )
        train_supervised(
            generator, Discriminator(CRITIC), scenes.train, empty, tmp_path / str(weight), options
        )
        with torch.no_grad():
            logits = generator.logits(scenes.train.batch(range(60)).images, batch.cgma)
        reached[weight] = float(logits.mean())
    assert reached[0.0] < -5 < reached[1000.0] < 0


def test_stability_by_hand():
    log = pd.DataFrame({"criterion": [4.0, 2.0, None, 3.0], "area": [0.9, 0.9, 0.9, 0.2]})
    row = stability_table({("lsft", 1): log}).iloc[0]
    assert row.tolist() == ["lsft", 1, 2.0, 3.0, 1.5, 0.2]
    assert stability_table({("lsft", 1): log[:2]})["area, last quarter"].item() == 0.9
