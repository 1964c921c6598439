"""What a CNN relies on beside the object: what returns in the images of a class, and whether it decides."""

from gan_lib.shortcuts.exchange import exchange_test, pasted
from gan_lib.shortcuts.find import Shortcuts, find_shortcuts
from gan_lib.shortcuts.looks import Candidate, candidates

__all__ = ["Candidate", "Shortcuts", "candidates", "exchange_test", "find_shortcuts", "pasted"]
