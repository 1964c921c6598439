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
SAME_RESULTS: dict[str, str] = {}
