"""The same images through other libraries: how far results differ, what they cost. Writes ``figures/beside.csv``.

    python tests/benchmarks/beside.py [ROUNDS]

Times are ratios of runs that follow each other, ours over theirs, with quartiles over the rounds; memory is
how far a process that does nothing else grows, each in a process of its own.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from captum.attr import IntegratedGradients, LayerGradCam, Saliency
from pytorch_grad_cam import GradCAM as TheirGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from quantus import PointingGame, RelevanceMassAccuracy
from sklearn.decomposition import NMF
from torch import Tensor, nn
from torchcam.methods import GradCAM as TorchCamGradCAM
from torchcam.methods import GradCAMpp, LayerCAM
from torchcam.metrics import DeletionInsertionMetric
from torchvision.models import resnet18

import gan_lib
from gan_lib.classifiers import load_classifier
from gan_lib.concepts import nmf
from gan_lib.core.capture import layers_in_order, spread
from gan_lib.core.grad_cam import grad_cam
from gan_lib.core.maps import min_max
from gan_lib.data import digits_in_scenes
from gan_lib.metrics import Probe, area_under, mass_inside, perturbation_curves, pointing_game

ROOT = Path(__file__).parent.parent.parent
Run = Callable[[], Tensor]
PACKAGES = {
    "Captum": "captum",
    "pytorch-grad-cam": "grad-cam",
    "torch-cam": "torchcam",
    "Quantus": "quantus",
    "scikit-learn": "scikit-learn",
}


@dataclass
class Task:
    """What is computed, by ``gan_lib`` and by others; the results are compared as they are."""

    name: str
    ours: Run
    theirs: dict[str, Run]
    truth: Run | None = None  # where there is one, differences are from it


# -- tasks ------------------------------------------------------------------------------------------------


def cams(model: nn.Module, images: Tensor, target: Tensor, layers: list[str]) -> dict[str, Run]:
    """Grad-CAM of layers, (B, layers) maps at their own size, scaled to [0, 1] and flattened, by library."""
    modules = [model.get_submodule(layer) for layer in layers]
    asked = [ClassifierOutputTarget(int(label)) for label in target]

    def flat(maps: list[Tensor]) -> Tensor:
        return torch.cat([min_max(own.detach()).flatten(1) for own in maps], 1)

    def ours() -> Tensor:
        return flat(list(grad_cam(model, images, layers, target).raw.values()))

    def captum() -> Tensor:
        made = [LayerGradCam(model, own) for own in modules]
        return flat([own.attribute(images, target=target, relu_attributions=True)[:, 0] for own in made])

    def torch_cam() -> Tensor:
        with TorchCamGradCAM(model, layers) as cam:
            return flat(cam(target.tolist(), model(images), normalized=False))

    def pytorch_grad_cam() -> Tensor:
        made = []
        for own in modules:
            with TheirGradCAM(model=model, target_layers=[own]) as cam:
                shapes: list[torch.Size] = []
                handle = own.register_forward_hook(lambda *given, kept=shapes: kept.append(given[2].shape))
                cam.get_target_width_height = lambda _, kept=shapes: tuple(kept[-1][:1:-1])
                made.append(torch.from_numpy(cam(input_tensor=images, targets=asked)))
                handle.remove()
        return flat(made)

    return {"gan_lib": ours, "Captum": captum, "pytorch-grad-cam": pytorch_grad_cam, "torch-cam": torch_cam}


def cam_tasks(images: Tensor) -> list[Task]:
    torch.manual_seed(0)
    model, plain = resnet18().eval(), resnet18().eval()
    plain.load_state_dict(model.state_dict())
    for module in plain.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    target, tasks = model(images).argmax(1), []
    every = spread(layers_in_order(model, images[:1]), 8)
    for name, layers, is_hit in (
        ("Grad-CAM, last block", ["layer4"], False),
        ("Grad-CAM, 8 convolutions", every, False),
        ("Grad-CAM, a layer before an in-place ReLU", ["layer1.0.bn1"], True),
    ):
        runs = cams(model, images, target, layers)
        truth = cams(plain, images, target, layers)["gan_lib"] if is_hit else None
        tasks.append(Task(name, runs.pop("gan_lib"), runs, truth))
    for name, own, theirs in (
        ("Grad-CAM++, last block", gan_lib.GradCAMPlusPlus, GradCAMpp),
        ("LayerCAM, last block", gan_lib.LayerCAM, LayerCAM),
    ):

        def other(theirs: type = theirs) -> Tensor:
            with theirs(model, "layer4") as cam:
                return min_max(cam(target.tolist(), model(images), normalized=False)[0].detach()).flatten(1)

        def ours(own: type = own) -> Tensor:
            return min_max(own(model, "layer4").combined(images, "layer4", target)[:, 0].detach()).flatten(1)

        tasks.append(Task(name, ours, {"torch-cam": other}))
    return tasks


def gradient_tasks(images: Tensor) -> list[Task]:
    torch.manual_seed(0)
    model = resnet18().eval()
    target = model(images).argmax(1)
    ways, saliency = gan_lib.IntegratedGradients(model, steps=8), gan_lib.Saliency(model)
    return [
        Task(
            "saliency",
            lambda: saliency.attributions(images, target),
            {"Captum": lambda: Saliency(model).attribute(images, target=target, abs=False)},
        ),
        Task(
            "integrated gradients, 8 steps",
            lambda: ways.attributions(images, target),
            {"Captum": lambda: IntegratedGradients(model).attribute(images, target=target, n_steps=8)},
        ),
    ]


class GivenMaps:
    """What torch-cam's metric asks of an extractor: the model, and maps that are there already."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.given = model, maps[:, 0]

    def __call__(self, *_: object, **__: object) -> list[Tensor]:
        return [self.given]

    def fuse_cams(self, given: list[Tensor]) -> Tensor:
        return given[0]

    def _hooks_off(self) -> object:
        return warnings.catch_warnings()


def measure_tasks() -> list[Task]:
    """Scores of 16 images of the embedded data set, whose evidence is known."""
    cnn = load_classifier(ROOT / "data/pretrained/slim_vgg").eval().requires_grad_(False)
    batch = digits_in_scenes(train=10, test=16).test.batch(range(16))
    images, evidence = batch.images, batch.masks
    target = cnn(images).argmax(1)
    maps = gan_lib.GradCAM(cnn).attribute(images, target)
    probe = Probe(cnn)

    def curves() -> Tensor:
        made = perturbation_curves(probe, images, maps, target, steps=20)
        return torch.stack([area_under(own, made.shares).mean() for own in (made.insertion, made.deletion)])

    def theirs() -> Tensor:
        metric = DeletionInsertionMetric(GivenMaps(cnn, maps), lambda logits: logits.softmax(-1), steps=20)
        metric.update(images, target.tolist())
        return torch.tensor([metric.summary()[name] for name in ("insertion_auc", "deletion_auc")])

    given = {"x_batch": images.numpy(), "y_batch": target.numpy(), "a_batch": maps.numpy()}

    def quantus(metric: type) -> Tensor:
        made = metric(normalise=False, disable_warnings=True)
        return torch.tensor(np.array(made(cnn, **given, s_batch=evidence.numpy()), dtype=np.float64))

    return [
        Task("insertion and deletion, 20 steps", curves, {"torch-cam": theirs}),
        Task(
            "mass inside the evidence",
            lambda: mass_inside(maps, evidence).double(),
            {"Quantus": lambda: quantus(RelevanceMassAccuracy)},
        ),
        Task(
            "pointing game",
            lambda: pointing_game(maps, evidence).double(),
            {"Quantus": lambda: quantus(PointingGame)},
        ),
    ]


def concept_tasks() -> list[Task]:
    """Six concepts of one class; what is compared is the error that is left, as a share of the data."""
    drawn = torch.Generator().manual_seed(0)
    weights = torch.rand(1960, 12, generator=drawn) * (torch.rand(1960, 12, generator=drawn) < 0.3)
    basis = torch.rand(12, 512, generator=drawn) * (torch.rand(12, 512, generator=drawn) < 0.2)
    data = weights @ basis + 0.1 * torch.rand(1960, 512, generator=drawn)
    model, array = NMF(6, init="nndsvda", random_state=0), data.numpy()

    def theirs() -> Tensor:
        model.fit(array)
        return torch.tensor([model.reconstruction_err_ / float(data.norm())])

    name = "6 concepts of 1960 x 512 activations (error left)"
    return [Task(name, lambda: nmf(data[None], 6).error.reshape(1), {"scikit-learn": theirs})]


# -- measuring --------------------------------------------------------------------------------------------


def peak(run: Run) -> float:
    """How many MiB a process of its own grows while it runs; NaN where the system does not tell."""
    if not Path("/proc/self/clear_refs").exists():
        return float("nan")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts again from here
        before = resident("VmRSS")
        run()
        os.write(writing, str(resident("VmHWM") - before).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as told:
        return float(told.read() or "nan") / 1024


def resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def ratios(ours: Run, theirs: Run, rounds: int) -> list[float]:
    """Seconds of ours over theirs, round by round, in turn, so that both meet the same noise."""
    made = []
    for number in range(rounds + 1):
        seconds = []
        for run in (ours, theirs) if number % 2 else (theirs, ours):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        made.append(seconds[0] / seconds[1] if number % 2 else seconds[1] / seconds[0])
    return made[1:]  # the first warms up


def measured(task: Task, rounds: int) -> list[dict[str, object]]:
    memory = {name: peak(run) for name, run in {"gan_lib": task.ours, **task.theirs}.items()}
    expected = (task.truth or task.ours)()
    rows = []
    if task.truth is not None:
        own = float((task.ours() - expected).abs().max())
        rows.append({"task": task.name, "library": "gan_lib", "difference": own})
    for library, run in task.theirs.items():
        values = ratios(task.ours, run, rounds)
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        row = {"task": task.name, "library": library, "version": version(PACKAGES[library])}
        row |= {
            "difference": float((run() - expected).abs().max()),
            "ratio": middle,
            "low": low,
            "high": high,
        }
        rows.append({**row, "MiB": memory["gan_lib"], "their MiB": memory[library], "rounds": rounds})
    return rows


def main(rounds: int = 7) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    images = torch.rand(4, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    tasks = [*cam_tasks(images), *gradient_tasks(images), *measure_tasks(), *concept_tasks()]
    for run in (tasks[0].ours, *tasks[0].theirs.values()):
        run()  # what a first call loads is nobody's memory
    rows = []
    for task in tasks:
        rows += measured(task, rounds)
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows).assign(torch=torch.__version__)
    table.to_csv(ROOT / "figures/beside.csv", index=False, float_format="%.3g")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
