"""Which code gives the same results as other code did: results are found where they were put.

The address of an artifact holds a hash of the code that made it
(:func:`gan_lib.core.artifacts.code_version`). Where code was changed in what decides no result (what happens
to damaged files, where a file is locked, how much memory a huge picture takes), its new hash is noted here
with the one under which its results were put. A line goes when the code decides something else.
"""

from __future__ import annotations

# They move bytes: no number depends on them, so that their code is in no address.
PLUMBING = (
    "gan_lib.core.artifacts",
    "gan_lib.core.checksums",
    "gan_lib.core.leftovers",
    "gan_lib.core.same_results",
    "gan_lib.core.storage",
)

# By the code's own hash, the one in the address of its results.
SAME_RESULTS: dict[str, str] = {
    "790d9e173116e5fd": "145c7f15da9357d9",  # gan_lib.classifiers
    "b74c1fc7c37cfc32": "68a2af2e7397ebc2",  # gan_lib.data.folders
    "dc104e5e4613251e": "978fc7ae516e6aa1",  # gan_lib.data.layouts
    "555a25bc1b9827f6": "5a4fcab72cf692bf",  # gan_lib.data.registry
    "5b4c80195637e04c": "4f4d29ccfc5f431d",  # gan_lib.data.scenes
    "edf51aaff98f40a5": "bca8194d4ff27870",  # gan_lib.data.torchvision_sets
    "ddcf66d2be227be6": "ad81045144d1eed0",  # gan_lib.gan.conditions
    "e26be8a6a7e0fa22": "c87c0b3333601129",  # gan_lib.gan.training.contrastive
    "6de5c8cc4399d275": "5892af9729c0fb48",  # gan_lib.gan.training.supervised
    "8eb6914b6488c1f9": "82c267799f7977b1",  # gan_lib.gan.training.universal
}
