"""Runs that are killed at random moments, over all stages, end as one that nobody disturbed."""

from __future__ import annotations

import random
import shutil
import time

import pytest
from drill.stage import Command, killed_until_done, leftovers, project, results

KILLS = 20  # with one worker, and with two
RUN = ("run", "--profile", "p")


@pytest.fixture(scope="module", params=[1, 2])
def undisturbed(request, tmp_path_factory):
    """The number of workers, what a run of so many makes, and how many seconds it takes."""
    root, start = project(tmp_path_factory.mktemp("undisturbed"), request.param), time.monotonic()
    command = Command(root, *RUN)
    assert command.ended() == 0, command.told()
    assert command.left() == []
    assert leftovers(root) == []
    return request.param, results(root), time.monotonic() - start


@pytest.mark.timeout(3600)
def test_kills(tmp_path, undisturbed):
    workers, expected, seconds = undisturbed
    drawn, kills, orphans, number = random.Random(workers), 0, [], 0
    while kills < KILLS:
        number += 1
        root = project(tmp_path / str(number), workers)
        # Short enough that several kills hit every run, long enough that each gets on.
        made, left = killed_until_done(root, drawn, 0.6 * seconds, *RUN)
        kills, orphans = kills + made, orphans + left
        assert results(root) == expected
        assert leftovers(root) == []
        shutil.rmtree(root)
    print(f"{kills} kills in {number} runs of {workers} workers, {len(orphans)} orphans")
    assert orphans == []


TRAIN = """
import sys
from pathlib import Path
import torch
from gan_lib.classifiers import make_classifier
from gan_lib.core.runtime import make_fabric
from gan_lib.data import digits_in_scenes
from gan_lib.gan import conditions, generators, training

torch.set_num_threads(1)
kind, folder = sys.argv[1], Path(sys.argv[2])
folder.mkdir(exist_ok=True)
data = digits_in_scenes(train=48, test=8, size=32)
images = data.train
cnn = make_classifier("slim_vgg", data.class_names, seed=0).requires_grad_(False).eval()
fabric, steps = make_fabric("cpu"), dict(epochs=40, batch_size=8, checkpoint_every=3, warmup_steps=1)
torch.manual_seed(0)
small = dict(width=8, condition_hidden=8, condition_channels=8, sft_hidden=8, stem_stride=8)
critic = generators.ProjectionDiscriminator(10, generators.DiscriminatorSizes(width=4))
if kind == "supervised":
    maker = conditions.ConditionMaker(cnn, (32, 32), 3)
    stored = conditions.compute_conditions(maker, images, folder / "conditions")
    made = generators.make_generator("lsft", conditions=3, **small)
    critic = generators.DISCRIMINATORS["spectral"](generators.DiscriminatorSizes(width=8, stem_stride=8))
    training.train_supervised(made, critic, images, stored, folder, training.TrainingOptions(**steps), fabric)
elif kind == "contrastive":
    maker = conditions.FeatureMaker(cnn, (32, 32), 2)
    made = generators.make_generator("lsft", conditions=len(maker.channels), features=maker.channels, **small)
    training.train_contrastive(made, critic, maker, images, folder, training.ContrastiveOptions(held_out=8, **steps), fabric)
else:
    maker = conditions.EvidenceMaker(cnn, (32, 32), 2)
    channels = conditions.evidence_channels(2)
    made = generators.make_generator("lsft", conditions=len(channels), features=channels, **small)
    options = training.UniversalOptions(held_out=8, max_steps=200, **steps)
    training.train_universal(made, [training.Member(maker, images)], folder, options, fabric)
generators.save_generator(made, folder)
"""


@pytest.mark.parametrize("kind", ["supervised", "contrastive", "universal"])
@pytest.mark.timeout(1800)
def test_kills_in_the_middle_of_training(tmp_path, kind):
    """Killed once checkpoints are there, at random steps; resumed from the last of them."""
    program = ("-c", TRAIN)
    whole = Command(tmp_path, kind, str(tmp_path / "whole"), program=program)
    assert whole.ended() == 0, whole.told()
    drawn, folder, kills = random.Random(5), tmp_path / "killed", 0
    while True:
        command, seen = Command(tmp_path, kind, str(folder), program=program), None
        checkpoint = folder / "checkpoint.safetensors"
        before = checkpoint.stat().st_mtime_ns if checkpoint.is_file() else 0
        while command.process.poll() is None and kills < 4:
            seen = checkpoint.stat().st_mtime_ns if checkpoint.is_file() else 0
            if seen > before:  # at least one more
                time.sleep(drawn.uniform(0, 1.0))
                command.kill()
                kills += 1
                break
            time.sleep(0.01)
        else:
            assert command.ended() == 0, command.told()
            break
    assert kills == 4
    for name in ("generator.safetensors", "log.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert leftovers(tmp_path) == []
