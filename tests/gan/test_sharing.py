"""Training on several processes gives the losses of one, and goes on with another number of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from gan_lib.classifiers import make_classifier
from gan_lib.core.runtime import make_fabric
from gan_lib.data import ImageData
from gan_lib.gan.conditions import (
    ConditionMaker,
    EvidenceMaker,
    FeatureMaker,
    StoredConditions,
    compute_conditions,
)
from gan_lib.gan.generators import (
    Discriminator,
    DiscriminatorSizes,
    ProjectionDiscriminator,
    make_generator,
    save_generator,
)
from gan_lib.gan.sharing import one_writes, share_work, shares, sharing
from gan_lib.gan.training import (
    ContrastiveOptions,
    Member,
    TrainingOptions,
    UniversalOptions,
    train_contrastive,
    train_supervised,
    train_universal,
)

STEPS = 20
SIZES: Any = {"width": 8, "condition_channels": 4, "sft_hidden": 4, "stem_stride": 4}
CRITIC = DiscriminatorSizes(8, 4)
# Batches of 7: the two processes have 4 and 3 rows. Not the hinge: at its beginning the gradient of some biases
# is exactly zero, and Adam makes a step of what the rounding of sums leaves of it.
USUAL: Any = {"batch_size": 7, "max_steps": STEPS, "epochs": 10, "warmup_steps": 2, "ema_decay": 0.8}
USUAL |= {"checkpoint_every": 8, "clip_gradient": 5.0, "seed": 4, "adversarial": "bce"}
OFTEN: Any = {"held_out": 9, "validate_every": 7}


@dataclass(frozen=True)
class Run:
    """One training, as processes can be given it."""

    kind: str
    data: ImageData
    stored: StoredConditions
    steps: int = STEPS

    def __call__(self, fabric, folder: Path) -> None:
        torch.set_num_threads(1)
        with one_writes(fabric, folder) as own:
            torch.manual_seed(1)
            getattr(self, self.kind)(fabric, own)

    def supervised(self, fabric, folder):
        generator, critic = make_generator("lsft", **SIZES, condition_hidden=8), Discriminator(CRITIC)
        with sharing(fabric, [generator, critic]):
            given = (self.data.train, self.stored, folder, TrainingOptions(**USUAL), fabric)
            self.train(train_supervised, generator, critic, *given)

    def contrastive(self, fabric, folder):
        maker = FeatureMaker(cnn_of("slim_vgg", self.data), (32, 32), count=2)
        generator = make_generator("lsft", **SIZES, conditions=3, features=maker.channels, detail=4)
        critic, options = ProjectionDiscriminator(10, CRITIC), ContrastiveOptions(**USUAL, **OFTEN)
        with sharing(fabric, [generator, critic], [maker]):
            self.train(train_contrastive, generator, critic, maker, self.data.train, folder, options, fabric)

    def universal(self, fabric, folder):
        cnns = [cnn_of(name, self.data) for name in ("slim_vgg", "slim_resnet")]
        pool = [Member(EvidenceMaker(own, (32, 32), count=2), self.data.train) for own in cnns]
        sizes = {**SIZES, "stem_stride": 8, "prior": True}
        generator = make_generator("lsft", **sizes, conditions=3, features=pool[0].maker.channels)
        critic, options = ProjectionDiscriminator(1, CRITIC), UniversalOptions(**USUAL, **OFTEN, forgetful=1)
        with sharing(fabric, [generator, critic], [own.maker for own in pool]):
            given: Any = {"discriminator": critic}
            self.train(train_universal, generator, pool, folder, options, fabric, **given)

    def train(self, loop, generator, *given, **named):
        """All steps, or so many: then the loop is interrupted, as by a kill, after its last checkpoint."""
        fabric = next(own for own in given if hasattr(own, "backward"))
        backward, per_step = fabric.backward, 2
        calls = iter(range(per_step * self.steps if self.steps < STEPS else 10**9))

        def counted(*args, **more):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            backward(*args, **more)

        fabric.backward = counted
        try:
            loop(generator, *given, **named)
            (folder,) = (own for own in given if isinstance(own, Path))
            save_generator(generator, folder)
        except KeyboardInterrupt:
            pass
        finally:
            fabric.backward = backward


def cnn_of(name, data):
    return make_classifier(name, data.class_names, seed=7).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def stored(scenes, tmp_path_factory):
    maker = ConditionMaker(cnn_of("slim_vgg", scenes), scenes.train.image_size)
    return compute_conditions(maker, scenes.train, tmp_path_factory.mktemp("conditions"))


def all_of(fabric, runs):
    for own, folder in runs:
        own(fabric, folder)


def logs(folder):
    return pd.read_csv(folder / "log.csv", float_precision="round_trip")


KINDS = ("supervised", "contrastive", "universal")


@pytest.fixture(scope="module")
def trained(scenes, stored, tmp_path_factory):
    """Every kind by one process and by two, which are started once; and two runs that others end."""
    root = tmp_path_factory.mktemp("trained")
    of = {kind: Run(kind, scenes, stored) for kind in KINDS}
    begun = replace(of["supervised"], steps=11)
    for name in ("1", "2", "1 to 2", "2 to 1"):
        for kind in KINDS:
            (root / name / kind).mkdir(parents=True)
    alone = make_fabric("cpu")
    all_of(alone, [(own, root / "1" / kind) for kind, own in of.items()])
    begun(alone, root / "1 to 2/supervised")
    together = [(own, root / "2" / kind) for kind, own in of.items()]
    together += [(begun, root / "2 to 1/supervised"), (of["supervised"], root / "1 to 2/supervised")]
    share_work(2, "cpu", "32-true", all_of, (together,))
    assert len(logs(root / "2 to 1/supervised")) == 11
    assert (root / "2 to 1/supervised/checkpoint.safetensors").is_file(), "of step 8"
    of["supervised"](alone, root / "2 to 1/supervised")
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_one_process(kind, trained):
    alone, together = logs(trained / "1" / kind), logs(trained / "2" / kind)
    assert len(alone) == STEPS
    assert list(alone) == list(together)
    pd.testing.assert_frame_equal(alone, together, rtol=1e-5, atol=1e-5)
    names = sorted(path.name for path in (trained / "2" / kind).iterdir())
    assert names == sorted(path.name for path in (trained / "1" / kind).iterdir()), "and nothing else"


@pytest.mark.parametrize("way", ["1 to 2", "2 to 1"])
def test_a_run_is_resumed_by_another_number_of_processes(way, trained):
    whole, ended = logs(trained / "1/supervised"), logs(trained / way / "supervised")
    pd.testing.assert_frame_equal(whole, ended, rtol=1e-5, atol=1e-5)


def test_shares_by_hand():
    assert shares(7, 3) == [3, 2, 2]
    assert shares(1, 2) == [1, 0]
    assert shares(6, 2) == [3, 3]
