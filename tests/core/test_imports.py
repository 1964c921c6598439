"""The collector rests while packages are imported, and is afterwards as it was."""

from __future__ import annotations

import gc
import weakref

import pytest

from gan_lib.core.imports import quick_imports


class Node:
    pass


@pytest.fixture(autouse=True)
def as_before():
    was_at_work = gc.isenabled()
    yield
    gc.unfreeze()
    (gc.enable if was_at_work else gc.disable)()


def test_it_rests_within_the_block_alone():
    gc.enable()
    with quick_imports():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), quick_imports():
        raise ImportError
    assert gc.isenabled()


def test_blocks_within_blocks():
    gc.enable()
    with quick_imports():
        with quick_imports():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_who_has_stopped_it_finds_it_stopped():
    gc.disable()
    with quick_imports():
        pass
    assert not gc.isenabled()


def test_garbage_from_before_and_from_within_is_found_later():
    gc.enable()
    nodes = [Node(), Node()]
    seen = [weakref.ref(own) for own in nodes]
    for own in nodes:
        own.itself = own
    with quick_imports():
        nodes.append(Node())
        nodes[2].itself = nodes[2]
        seen.append(weakref.ref(nodes[2]))
        del own, nodes
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert [own() for own in seen] == [None] * 3


def test_what_somebody_has_put_aside_stays_there():
    gc.enable()
    gc.freeze()
    aside = gc.get_freeze_count()
    assert aside > 0
    with quick_imports():
        pass
    assert gc.get_freeze_count() > 0.9 * aside
