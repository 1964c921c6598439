"""Training of a GAN explainer on several processes: each computes networks for its share of every batch.

    share_work(4, "auto", "auto", train, (folder,))    # train(fabric, folder) in each process

    def train(fabric, folder):
        with sharing(fabric, [generator, discriminator], [maker]):
            train_contrastive(generator, discriminator, maker, images, folder, options, fabric)

Every process has the whole batch. A network is run for its rows of it, what it gives is gathered, and losses,
those that compare images with each other as well, are computed of all rows in each process. Gradients of
weights are summed over the processes. So batches, losses, schedules, checkpoints and logs are those of one
process, but for the rounding of sums. A checkpoint of N processes is one for M.

The loops (:mod:`gan_lib.gan.training`) know nothing of this. The operators are those of tensor parallelism
(Shoeybi et al., arXiv 1909.08053, section 3), along the batch.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed, nn

from gan_lib.core.runtime import Precision, make_fabric
from gan_lib.gan.conditions import FeatureMaker, Features
from gan_lib.gan.generators import Generator
from gan_lib.gan.training.loop import GANState

Given = Any  # a tensor (B, ...), or several of them


class SharingFabric(Fabric):
    """A Fabric of several processes that sums gradients, and that no network needs to be set up with."""

    shared: tuple[nn.Module, ...] = ()  # whose gradients are summed

    def backward(self, tensor: Tensor, *args: Any, **named: Any) -> None:
        """As :meth:`Fabric.backward`, of a loss (B,) or its mean; gradients that it begins are then the
        same in all processes."""
        weights = [own for network in self.shared for own in network.parameters() if own.grad is None]
        super().backward(tensor, *args, **named)
        gradients = [own.grad for own in weights if own.grad is not None]
        if gradients:
            flat = torch.cat([own.flatten() for own in gradients])
            distributed.all_reduce(flat)
            for own, part in zip(gradients, flat.split([own.numel() for own in gradients]), strict=True):
                own.copy_(part.view_as(own))


def share_work(
    devices: int,
    device: str,
    precision: Precision,
    function: Callable[..., Any],
    given: Sequence[Any] = (),
) -> Any:
    """Run ``function(fabric, *given)`` in several processes, on a CPU with gloo, on GPUs with NCCL; returns
    what the first of them gives.

    Raises:
        ValueError: a device that is not there.
        ProcessRaisedException: an error in one of them, with its traceback; the others are ended.
    """
    one = make_fabric(device, precision)
    kind: Any = one._precision.precision
    fabric = SharingFabric(accelerator=one.device.type, devices=devices, strategy="ddp_spawn", precision=kind)
    port = os.environ.get("MASTER_PORT")
    try:
        return fabric.launch(_Call(function, given))
    finally:  # or all that is started from here on would meet at the same port
        os.environ.pop("MASTER_PORT", None)
        os.environ.update({} if port is None else {"MASTER_PORT": port})


class _Call:
    """A function of a fabric, whose other arguments are its own: a launcher does not look into them."""

    def __init__(self, function: Callable[..., Any], given: Sequence[Any]) -> None:
        self.function, self.given = function, tuple(given)

    def __call__(self, fabric: Fabric) -> Any:
        return self.function(fabric, *self.given)


@contextmanager
def sharing(
    fabric: Fabric, networks: Sequence[nn.Module], makers: Sequence[FeatureMaker] = ()
) -> Iterator[None]:
    """Within the block the processes of a fabric share the work of networks, and of conditions' makers with
    their CNNs; a fabric of one process leaves all as it is.

    Args:
        fabric: on several processes, a :class:`SharingFabric`.
        networks: a generator and a discriminator, that are trained.
        makers: of the CNNs that are explained.
    """
    if not isinstance(fabric, SharingFabric) or fabric.world_size == 1:
        yield
        return
    fabric.shared, kinds = tuple(networks), [type(own) for own in makers]
    changed: list[tuple[nn.Module, str]] = []
    for network in (*networks, *(own.net for own in makers)):
        method = "logits" if isinstance(network, Generator) else "forward"
        if method not in vars(network):
            setattr(network, method, _Shared(network, method))
            changed.append((network, method))
    for own in makers:
        own.__class__ = _sharing_kind(type(own))
    try:
        yield
    finally:
        for network, method in changed:
            delattr(network, method)
        for own, kind in zip(makers, kinds, strict=True):
            own.__class__ = kind
        fabric.shared = ()


@contextmanager
def one_writes(fabric: Fabric, folder: Path) -> Iterator[Path]:
    """The folder that this process trains in: the first one's is ``folder``; the others begin with what lies
    there, write no checkpoints, and leave nothing."""
    if fabric.is_global_zero:
        yield folder
        return
    save = GANState.save
    with tempfile.TemporaryDirectory() as scratch:
        for path in folder.glob("*"):
            if path.is_file() and not path.name.startswith("."):
                shutil.copy2(path, scratch)
        # In a process of its own: loops' code is part of the address of all that was trained with it.
        GANState.save = lambda *_: None  # type: ignore[method-assign]
        try:
            yield Path(scratch)
        finally:
            GANState.save = save  # type: ignore[method-assign]


class OwnRows(tuple[Tensor, ...]):
    """Conditions of this process's rows alone."""


class _Shared:
    """A network's method that is called with the same batch in all processes. A copy of the network has one
    of its own."""

    def __init__(self, network: nn.Module, method: str) -> None:
        self.network, self.method = network, method

    def __call__(self, *given: Given) -> Tensor:
        own = getattr(type(self.network), self.method)
        if not _is_shared:
            result: Tensor = own(self.network, *given)
            return result
        count = len(given[0])
        return gathered(own(self.network, *(mine(part) for part in given)), count)


_is_shared = True  # in a maker's call rows are this process's already


@contextmanager
def _alone() -> Iterator[None]:
    global _is_shared
    before, _is_shared = _is_shared, False
    try:
        yield
    finally:
        _is_shared = before


def _sharing_kind(kind: type[FeatureMaker]) -> type[FeatureMaker]:
    """A maker's class, whose conditions for given classes are those of this process's rows."""

    class Sharing(kind):  # type: ignore[valid-type, misc]
        def __call__(self, images: Tensor, target: Any = None) -> Features:
            with _alone():
                # Without classes a maker is asked what a CNN makes of its images: all need to know.
                if target is None:
                    return super().__call__(images)
                made = super().__call__(mine(images), mine(target))
                return Features(OwnRows(made.activations), made.logits, made.embedding, made.explained)

        def embedding(self, seen: Tensor, given: Tensor) -> Tensor:
            if not _is_shared:
                return super().embedding(seen, given)
            with _alone():
                own = super().embedding(seen, mine(given))
            return gathered(own, len(given))

    return Sharing


def shares(count: int, processes: int) -> list[int]:
    """How many of so many rows each process has: as many as the others, give or take one."""
    return [count // processes + (place < count % processes) for place in range(processes)]


def mine(given: Given) -> Given:
    """This process's rows of a tensor (B, ...), or of several; one row, for nothing, where it has none."""
    if isinstance(given, OwnRows):
        return given
    if not isinstance(given, Tensor):
        return tuple(mine(own) for own in given)
    return _Scattered.apply(given)


def gathered(own: Tensor, count: int) -> Tensor:
    """All ``count`` rows (N, ...), of which each process has its own (n, ...)."""
    made: Tensor = _Gathered.apply(own, count)
    return made


def _place(count: int) -> tuple[list[int], int, int]:
    """Everybody's shares, where this process's rows begin, and how many they are."""
    rank, every = distributed.get_rank(), shares(count, distributed.get_world_size())
    return every, sum(every[:rank]), every[rank]


def _everybodys(own: Tensor, count: int) -> Tensor:
    """The rows (count, ...) of all processes, of which ``own`` has this one's first."""
    every, _, mine_ = _place(count)
    padded = own.new_zeros(max(every), *own.shape[1:])
    padded[:mine_] = own[:mine_]
    parts = [torch.empty_like(padded) for _ in every]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:some] for part, some in zip(parts, every, strict=True)])


class _Scattered(torch.autograd.Function):
    """Own rows of a batch; gradients of all rows come back to all processes."""

    @staticmethod
    def forward(ctx: Any, batch: Tensor) -> Tensor:
        _, first, count = _place(len(batch))
        ctx.count = len(batch)
        rows = batch[first : first + count] if count else batch[:1]
        return rows.clone(memory_format=torch.preserve_format)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _everybodys(gradients[0].contiguous(), ctx.count)


class _Gathered(torch.autograd.Function):
    """All rows from everybody's own; of their gradients, each takes its own."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, count: int) -> Tensor:
        ctx.count, ctx.there = count, len(own)
        return _everybodys(own.contiguous(), count)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        _, first, count = _place(ctx.count)
        own = gradients[0][first : first + count]
        if count < ctx.there:  # a row for nothing
            own = torch.zeros_like(gradients[0][:1])
        return own.contiguous(), None
