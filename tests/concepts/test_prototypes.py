"""Prototypes: the crops that are nearest, those that show a concept by themselves, random ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gan_lib.concepts import Places, PooledActivations, prototype_page, published_page
from gan_lib.concepts.prototypes import montage


def test_nearest_crops(net, hidden, split, monkeypatch):
    monkeypatch.setattr("gan_lib.concepts.prototypes.at_once", lambda *_: 7)
    monkeypatch.setattr(PooledActivations, "BLOCK", 11)
    pooled = PooledActivations(hidden, split, 2)
    raw = F.normalize(
        F.avg_pool2d(hidden(split.batch(range(40)).images), 2).flatten(2).mT, dim=2
    )  # (40, 16, 10)
    wanted = torch.rand(3, 10, generator=torch.Generator().manual_seed(0))
    cosines = torch.einsum("npc,vc->vnp", raw, F.normalize(wanted, dim=1))
    found = pooled.nearest(wanted, top=4)
    best, where = cosines.amax(2).topk(4)
    assert torch.allclose(found.similarity, best, atol=2e-3)
    assert (found.image == where).float().mean() > 0.8, "but for half precision"
    assert torch.allclose(cosines[torch.arange(3)[:, None], found.image, found.place], best, atol=2e-3)
    allowed = torch.zeros(3, 40, dtype=torch.bool)
    allowed[0, 5], allowed[1, [7, 9]] = True, True
    few = pooled.nearest(wanted, top=2, allowed=allowed)
    assert few.image[0].tolist() == [5, -1]
    assert set(few.image[1].tolist()) == {7, 9}
    assert few.image[2].tolist() == [-1, -1]
    assert few.similarity[2].isnan().all()
    with pytest.raises(ValueError, match="channels"):
        pooled.nearest(torch.rand(1, 9))
    with pytest.raises(ValueError, match="pool"):
        PooledActivations(hidden, split, 9)
    for wrong in (
        lambda: pooled.nearest(wanted, 0),
        lambda: pooled.best(wanted, 0),
        lambda: pooled.random(2, 0),
    ):
        with pytest.raises(ValueError, match="top must be at least 1"):
            wrong()
    with pytest.raises(ValueError, match="stride"):
        PooledActivations(hidden, split, 2, 0)


def test_random_crops_are_allowed_ones_and_none_where_none_are_left(hidden, split):
    pooled = PooledActivations(hidden, split, 2)
    allowed = torch.zeros(3, 40, dtype=torch.bool)
    allowed[0, :20], allowed[1, [7, 9]] = True, True
    found = pooled.random(3, 4, 5, allowed)
    assert found.image[0].max() < 20
    assert found.image[0].unique().numel() == 4
    assert sorted(found.image[1].tolist()) == [-1, -1, 7, 9]
    assert found.image[2].tolist() == [-1] * 4
    assert torch.equal(found.place < 0, found.image < 0)
    assert pooled.crops(found)[2].max() == 0
    more = pooled.random(1, 50)
    assert sorted(more.image[0].tolist()) == [-1] * 10 + list(range(40))
    drawn = torch.Generator().manual_seed(3)
    chances = torch.rand(2, 40, generator=drawn) < 0.7
    expected = torch.multinomial(chances.float(), 5, generator=torch.Generator().manual_seed(3))
    assert torch.equal(pooled.random(2, 5, 3, chances).image, expected)


@pytest.mark.parametrize(
    ("pool", "stride", "place", "box"),
    [(2, None, 5, (4, 4, 8, 8)), (4, 1, 6, (2, 2, 10, 10)), (3, None, 1, (6, 0, 12, 6))],
)
def test_crops_are_the_cells(hidden, split, pool, stride, place, box):
    pooled = PooledActivations(hidden, split, pool, stride)
    assert pooled.boxes(torch.tensor(place)).tolist() == list(box)
    left, top, right, bottom = box
    found = Places(torch.tensor([[3, -1]]), torch.tensor([[place, 0]]), torch.ones(1, 2))
    crops = pooled.crops(found)
    picture = split.batch([3]).images[0]
    assert torch.allclose(crops[0, 0], picture[:, top:bottom, left:right], atol=1e-5)
    assert crops[0, 1].max() == 0
    masks = torch.zeros(40, 1, 16, 16, dtype=torch.bool)
    masks[3, 0, bottom - 1, left] = True
    assert pooled.contains(found, masks).tolist() == [[True, False]]
    masks[3, 0, bottom - 1, left] = False
    masks[3, 0, bottom, left] = True
    assert pooled.contains(found, masks).tolist() == [[False, False]]


def test_crops_are_looked_at_by_themselves(hidden, split, monkeypatch):
    """The order is that of the cosine of an image that is full of the crop."""
    monkeypatch.setattr("gan_lib.concepts.prototypes.at_once", lambda *_: 4)
    pooled = PooledActivations(hidden, split, 4)
    vectors = torch.rand(2, 10, generator=torch.Generator().manual_seed(0))
    found = pooled.nearest(vectors, 6)
    made = pooled.by_themselves(found, vectors)
    for row in range(2):
        assert set(made.image[row].tolist()) == set(found.image[row].tolist())
        crops = pooled.crops(made[row : row + 1])[0]
        full = crops.repeat(1, 1, 2, 2)  # 2 x 2 copies of 8 x 8
        expected = F.cosine_similarity(hidden(full).mean((2, 3)), vectors[[row]])
        assert torch.allclose(made.similarity[row], expected, atol=1e-4)
        assert (made.similarity[row].diff() <= 0).all()
    assert torch.equal(pooled.best(vectors, 6).image, made.image)
    kept = pooled.by_themselves(found[:, 2:], vectors)
    anew = PooledActivations(hidden, split, 4).by_themselves(found[:, 2:], vectors)
    assert torch.equal(kept.image, anew.image)
    assert torch.allclose(kept.similarity, anew.similarity, atol=1e-5), "crops that were seen before"
    allowed = torch.zeros(2, 40, dtype=torch.bool)
    allowed[:, :2] = True
    few = pooled.best(vectors, 3, allowed)
    assert (few.image[:, 2] == -1).all()
    assert few.similarity[:, :2].isfinite().all()


def test_montage():
    crops = torch.arange(4.0)[None, :, None, None, None].expand(1, 4, 3, 8, 8)
    whole = montage(crops, (16, 16))
    assert whole[0, 0, [0, 0, 15, 15], [0, 15, 0, 15]].tolist() == [0, 1, 2, 3]
    assert montage(crops[:, :3], (6, 6)).shape == (1, 3, 6, 6)
    with pytest.raises(ValueError, match="crops must be at least 1"):
        montage(crops[:, :0], (6, 6))


def test_a_page_shows_cells_crops_and_where_they_are_from(hidden, split):
    pooled = PooledActivations(hidden, split, 4)
    basis = torch.rand(2, 10, generator=torch.Generator().manual_seed(0))
    others = torch.arange(40) >= 30
    page = prototype_page(pooled, basis, others, [f"p{row}" for row in range(40)], "three", 5)
    columns = page["columns"]
    nearest, best = pooled.nearest(basis, 5, others), pooled.best(basis, 5, others)
    forms = ["nearest cell", "best crop", "not three: nearest cell", "not three: best crop", "cut from"]
    assert list(columns) == forms
    assert torch.equal(columns["nearest cell"], pooled.crops(pooled.nearest(basis))[:, 0])
    assert torch.equal(columns["best crop"], pooled.crops(pooled.best(basis, 5))[:, 0])
    assert torch.equal(columns["not three: nearest cell"], pooled.crops(nearest)[:, 0])
    assert torch.equal(columns["not three: best crop"], pooled.crops(best)[:, 0])
    assert torch.equal(columns["cut from"], split.batch(best.image[:, 0]).images)
    assert page["captions"]["cut from"] == [f"p{row}" for row in best.image[:, 0].tolist()]
    assert torch.equal(page["frames"]["cut from"], pooled.boxes(best.place[:, 0]))
    alone = prototype_page(pooled, basis, torch.zeros(40, dtype=torch.bool), ["p"] * 40, "three", 5)
    assert alone["columns"]["cut from"].max() == 0, "all images are predicted as the class"
    assert alone["captions"]["cut from"] == ["none", "none"]


def test_the_published_page_has_a_crop_and_a_whole_image_of_every_group(hidden, split, table):
    pooled = PooledActivations(hidden, split, 2)
    basis = torch.rand(2, hidden.channels, generator=torch.Generator().manual_seed(1))
    predicted = torch.tensor(table["prediction"].to_numpy())
    others = {"others": predicted != int(predicted[0]), "none": torch.zeros(len(split), dtype=torch.bool)}
    titles = [f"image {row}" for row in range(len(split))]
    page = published_page(pooled, basis, others, titles)
    assert list(page["columns"]) == ["prototype", "others", "others: cut from", "none", "none: cut from"]
    found = pooled.nearest(basis, 1, others["others"])
    rows = found.image[:, 0].tolist()
    assert page["captions"]["others: cut from"] == [titles[row] for row in rows]
    assert torch.equal(page["columns"]["others: cut from"], split.batch(rows).images)
    assert torch.equal(page["columns"]["others"], pooled.crops(found)[:, 0])
    assert torch.equal(page["frames"]["others: cut from"], pooled.boxes(found.place[:, 0]))
    assert page["captions"]["none: cut from"] == ["none", "none"]
    assert page["columns"]["none: cut from"].max() == 0
