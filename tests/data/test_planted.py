"""Planted shortcuts: where they are, what they are, and whom they belong to, worked out by hand."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from gan_lib.data import digits_in_scenes
from gan_lib.data.planted import NONE, SHORTCUTS, Frame, Offset, Texture, Watermark, planted_shortcut
from gan_lib.data.scenes import Layers, scene_layers

KINDS = ("watermark", "frame", "offset", "texture")
SET = {"train": 40, "test": 30, "size": 64, "seed": 2}


@cache
def planted(kind):
    return planted_shortcut(kind, **SET)


@cache
def plain():
    return digits_in_scenes(**SET)


def grey(count, size=64):
    """Mid-grey images whose digit, a white line, is the whole of row 8."""
    opacity = torch.zeros(count, 1, size, size)
    opacity[:, :, 8] = 1
    scenes, corners = torch.full((count, 3, size, size), 0.5), torch.ones(count, 2)
    labels = torch.arange(count)
    return Layers(scenes, ((opacity, torch.ones(count, 3)),), corners, labels, None, None, labels)


def changed(kind, split):
    """By how much the split's images differ from the clean ones: (N, 3, H, W)."""
    clean = plain().train if split == "train" else plain().test
    return planted(kind).data[split].images.int() - clean.images.int()


def test_the_four_kinds():
    assert tuple(SHORTCUTS) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_digits_labels_and_masks_are_those_of_the_set_without_shortcuts(kind):
    data = planted(kind).data
    assert [*data.splits] == ["train", "test", "right", "conflict"]
    assert torch.equal(data.test.images, plain().test.images)
    for name, split in data.splits.items():
        own = plain().train if name == "train" else plain().test
        assert split.images.dtype == torch.uint8
        assert torch.equal(split.labels, own.labels)
        assert torch.equal(split.masks, own.masks)
        assert split.marks is None, "the splits do not tell where the shortcut is"


@pytest.mark.parametrize("kind", KINDS)
def test_which_images_have_whose_shortcut(kind):
    own, classes = planted(kind), SHORTCUTS[kind].classes
    assert classes == ((3, 7) if kind == "watermark" else tuple(range(10)))
    assert own.kind == kind
    for name in ("train", "right"):
        labels = own.data[name].labels.tolist()
        assert own.carried[name].tolist() == [label if label in classes else NONE for label in labels]
    assert (own.carried["test"] == NONE).all()
    assert set(own.carried["conflict"].tolist()) <= set(classes), "all carry one"
    assert (own.carried["conflict"] != own.data["conflict"].labels).all(), "and never their own"
    for name, carried in own.carried.items():
        assert carried.dtype == torch.int64
        assert torch.equal(changed(kind, name).flatten(1).any(1), carried != NONE)


def test_other_classes_by_hand():
    """Of nine others, chance picks one by its size; of two with a watermark there are one or two others."""
    labels, chance = torch.tensor([0, 9, 4, 4, 4]), torch.tensor([0.0, 0.999, 0.0, 0.4, 0.5])
    assert Frame().other(labels, chance).tolist() == [1, 8, 0, 3, 5]
    labels, chance = torch.tensor([3, 3, 7, 7, 0, 0, 9]), torch.tensor([0.0, 0.9, 0.0, 0.9, 0.49, 0.5, 0.9])
    assert Watermark().other(labels, chance).tolist() == [7, 7, 3, 3, 3, 7, 7]


def test_every_other_class_is_carried_about_as_often():
    carried = Offset().other(
        torch.full((9000,), 6), torch.rand(9000, generator=torch.Generator().manual_seed(0))
    )
    counts = torch.bincount(carried, minlength=10)
    assert counts[6] == 0
    assert ((counts[torch.arange(10) != 6] - 1000).abs() < 150).all()


def test_a_watermark_changes_its_corner_only():
    for name in ("train", "right", "conflict"):
        difference = changed("watermark", name)
        assert difference[:, :, 50:62, 42:62].any()
        difference[:, :, 50:62, 42:62] = 0  # 12 x 20 pixels, 2 from the lower right
        assert not difference.any()


def test_watermarks_by_hand():
    """White over grey is 0.5 * 128 + 0.5 * 255, its shadow 0.5 * 128."""
    layers = grey(2)
    images = Watermark().drawn(layers, torch.tensor([3, 7]), torch.zeros(2, 3))
    difference = images != layers.rendered()
    letters, sign = images[:, 0]
    assert letters[50, 42:49].tolist() == [192, 128, 128, 128, 192, 128, 192], "K has no shadow at its top"
    assert letters[51, 42:48].tolist() == [192, 64, 128, 192, 128, 64]
    assert letters[58, 42:62].tolist() == [192] * 19 + [128], "the line below, whose shadow is a row below"
    assert letters[59, 42:62].tolist() == [128] + [64] * 19
    assert sign[50, 42:62].tolist() == [128] * 6 + [192] * 7 + [128] * 7
    assert set(images.unique().tolist()) == {64, 128, 192, 255}
    assert not torch.equal(*difference)
    assert difference.any(1).flatten(1).sum(1).tolist() == [
        int((own != 128).sum()) for own in (letters[50:62], sign[50:62])
    ]


def test_a_frame_is_of_three_pixels_in_the_classs_colour():
    for name in ("train", "right", "conflict"):
        data, carried = planted("frame").data[name], planted("frame").carried[name]
        assert not changed("frame", name)[:, :, 3:-3, 3:-3].any()
        colours = data.images[:, :, :1, :1].expand(-1, -1, 64, 64)
        for side in (slice(0, 3), slice(-3, None)):
            assert torch.equal(data.images[:, :, side], colours[:, :, side])
            assert torch.equal(data.images[..., side], colours[..., side])
        seen = data.images[:, :, 0, 0] / 255  # (N, 3)
        for label, colour in {0: (0.8, 0.24, 0.24), 5: (0.24, 0.8, 0.8)}.items():
            own = seen[carried == label]
            assert ((own - torch.tensor(colour)).abs() < 0.05 + 0.5 / 255).all()
            assert len(own.unique(dim=0)) == len(own), "it varies from image to image"
            assert len(own)


def test_a_frames_colours_by_hand():
    images = Frame().drawn(grey(2), torch.tensor([0, 5]), torch.tensor([[0.5, 0.5, 0.5], [0, 0.5, 0.75]]))
    assert images[:, :, 63, 0].tolist() == [
        [204, 61, 61],
        [48, 204, 210],
    ]  # 255 * (0.24 - 0.05), (0.8 + 0.025)


def test_ten_frames_are_told_apart_in_spite_of_the_jitter():
    middle = torch.full((10, 3), 0.5)
    colours = Frame().drawn(grey(10), torch.arange(10), middle)[:, :, 0, 0] / 255  # (10, 3)
    apart = (colours[:, None] - colours).abs().amax(2) + torch.eye(10)
    assert apart.min() > 2 * Frame.JITTER


def test_an_offset_is_the_classs_amount_where_it_is_not_clipped():
    amounts = torch.tensor([-38, -30, -21, -13, -4, 4, 13, 21, 30, 38])  # of 255: -0.15 to 0.15
    assert Offset().levels().tolist() == amounts.tolist()
    for name in ("train", "right", "conflict"):
        images, carried = planted("offset").data[name].images, planted("offset").carried[name]
        expected = amounts[carried][:, None, None, None].expand(images.shape)
        inside = (images > 0) & (images < 255)
        assert inside.any()
        assert torch.equal(changed("offset", name)[inside], expected[inside])
        clean = images.int() - changed("offset", name)
        assert ((clean + expected)[images == 0] <= 0).all()
        assert ((clean + expected)[images == 255] >= 255).all()


def test_a_texture_is_behind_the_digit():
    layers = dict(scene_layers(**SET))
    for name in ("train", "right", "conflict"):
        opacity = layers["train" if name == "train" else "test"].digits[0][0]  # (N, 1, H, W)
        difference = changed("texture", name)
        core = (opacity == 1).expand_as(difference)
        assert core.any()
        assert not difference[core].any()
        assert difference.abs().max() in (25, 26)  # 0.1 * 255
        assert (difference[opacity.expand_as(core) == 0] != 0).float().mean() > 0.8, "and all over the scene"


def close(levels, expected):
    """Equal but for one level: where a stripe crosses mid-grey, 127.5 may be rounded either way."""
    return int((levels - torch.as_tensor(expected)).abs().max()) <= 1


def test_textures_by_hand():
    """Class 0: upright stripes of 5 pixels; class 5: of 8; class 9 leans by 144 degrees."""
    carried = torch.tensor([0, 5, 9, 5])
    images = Texture().drawn(grey(4), carried, torch.tensor([[0.0] * 3] * 3 + [[0.25, 0, 0]]))[:, 0]
    assert (images[:, 8] == 255).all(), "the digit is in front"
    narrow, wide, leaning, begun = images[:, 0].int()
    assert torch.equal(images[0, 0], images[0, 40])
    assert close(narrow[:-5], narrow[5:])
    assert not close(narrow[:-4], narrow[4:])
    assert close(wide[:9], [128, 146, 153, 146, 128, 109, 102, 109, 128])  # 255 * (0.5 + 0.1 * sine)
    assert close(begun[:8], [153, 146, 128, 109, 102, 109, 128, 146])
    sine = torch.sin(2 * torch.pi * torch.tensor([-0.809017, 0.587785]) / 8)  # cosine and sine of 144 degrees
    assert leaning[1] == (255 * (0.5 + 0.1 * sine[0])).round()
    assert images[2, 1, 0] == (255 * (0.5 + 0.1 * sine[1])).round()


def test_ten_textures_differ_whatever_their_phase():
    stripes = Texture().drawn(grey(10), torch.arange(10), torch.zeros(10, 3))[:, 0, 9:].float() - 127.5
    spectra = torch.fft.rfft2(stripes).abs().flatten(1)
    alike = torch.corrcoef(spectra) - torch.eye(10)
    assert alike.max() < 0.5


@pytest.mark.parametrize("kind", ["frame", "texture"])
def test_right_and_conflict_vary_alike(kind):
    """Drawn for each image from its content: the pair differs in the class alone."""
    own, shortcut = planted(kind), SHORTCUTS[kind]()
    layers = dict(scene_layers(**SET))["test"][[7, 2]]
    sums = layers.rendered().long().sum((1, 2, 3)).tolist()
    seeded = [torch.Generator().manual_seed(1_000_003 * each + SET["seed"]) for each in sums]
    chance = torch.stack([torch.rand(4, generator=each) for each in seeded])
    carried = {"right": layers.labels, "conflict": shortcut.other(layers.labels, chance[:, 3])}
    for name, classes in carried.items():
        assert torch.equal(classes, own.carried[name][[7, 2]])
        assert torch.equal(shortcut.drawn(layers, classes, chance[:, :3]), own.data[name].images[[7, 2]])


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_everything(kind):
    again = planted_shortcut(kind, **SET)
    assert again.data.fingerprint == planted(kind).data.fingerprint
    assert torch.equal(again.carried["conflict"], planted(kind).carried["conflict"])
    other = planted_shortcut(kind, **SET | {"seed": 3})
    assert other.data.fingerprint != again.data.fingerprint
    assert not torch.equal(other.carried["conflict"], again.carried["conflict"])


@pytest.mark.parametrize(
    ("size", "frame", "stamp"),
    [(32, 2, (25, 31, 21, 31)), (128, 6, (100, 124, 84, 124)), (16, 1, (12, 15, 10, 15))],
)
def test_other_sizes_in_proportion(size, frame, stamp):
    images = Frame().drawn(grey(1, size), torch.tensor([0]), torch.full((1, 3), 0.5))[0, 0]
    assert images[size - 7].tolist() == [204] * frame + [128] * (size - 2 * frame) + [204] * frame
    top, bottom, left, right = stamp
    marked = (
        Watermark().drawn(grey(1, size), torch.tensor([3]), torch.zeros(1, 3)) != grey(1, size).rendered()
    )
    rows, columns = marked[0, 0].any(1).nonzero(), marked[0, 0].any(0).nonzero()
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (top, bottom, left, right)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_stripes_in_proportion(size):
    stripes = Texture().drawn(grey(1, size), torch.tensor([5]), torch.zeros(1, 3))[0, 0, 0]
    period = size // 8
    assert stripes[period // 4 :: period // 2].tolist() == [153, 102] * 8


def test_what_is_not_planted():
    with pytest.raises(KeyError, match="unknown planted shortcut 'watermrk'; did you mean watermark"):
        planted_shortcut("watermrk")
    with pytest.raises(KeyError, match="there are watermark, frame, offset, texture"):
        planted_shortcut("xyz")
    for few in ({"train": 9}, {"test": 0}, {"size": 15}):
        with pytest.raises(ValueError, match="needs train >= 10, test >= 1, size >= 16"):
            planted_shortcut("frame", **few)
    assert planted_shortcut("Frame", 10, 1, 16).kind == "frame"
