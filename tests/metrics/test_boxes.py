"""Boxes: largest region, bounding box, intersection over union, scores over thresholds."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torchvision

from gan_lib.metrics import best_alphas, box_scores, evidence_boxes, map_boxes
from gan_lib.metrics.boxes import box_iou


def blob(rows, columns, value=1.0, size=(12, 16)):
    made = torch.zeros(1, 1, *size)
    made[..., slice(*rows), slice(*columns)] = value
    return made


def test_the_largest_region_is_taken():
    maps = blob((1, 4), (2, 6)) + blob((6, 11), (8, 15), 0.8)
    assert map_boxes(maps, 1.0).tolist() == [[8.0, 6.0, 15.0, 11.0]]
    assert map_boxes(maps, 4.0).tolist() == [[2.0, 1.0, 6.0, 4.0]]  # only the smaller is above
    assert map_boxes(torch.zeros(1, 1, 8, 8)).isnan().all()
    assert map_boxes(torch.ones(1, 1, 8, 8), 0.0).tolist() == [[0.0, 0.0, 8.0, 8.0]]
    corner = torch.eye(5)[None, None].contiguous()
    assert map_boxes(corner).tolist() == [[0.0, 0.0, 5.0, 5.0]]  # corners touch


def test_as_opencv_has_it():
    generator = torch.Generator().manual_seed(0)
    maps = torch.nn.functional.interpolate(torch.rand(20, 1, 6, 6, generator=generator), size=(24, 30))
    boxes = map_boxes(maps, 1.2)
    for own, box in zip(maps, boxes, strict=True):
        above = (own[0] > 1.2 * own.mean()).numpy().astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
        left, top, width, height, area = stats[1:][stats[1:, 4].argmax()]
        assert box.tolist() == [left, top, left + width, top + height]
        assert area == stats[1:, 4].max()


def test_iou_is_torchvisions():
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(2, 30, 4, generator=generator).mul(20).round()
    boxes, others = torch.cat([corners[..., :2], corners[..., :2] + 1 + corners[..., 2:]], -1)
    assert torch.allclose(box_iou(boxes, others), torchvision.ops.box_iou(boxes, others).diagonal())


def test_missing_boxes():
    some, none = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.full((1, 4), torch.nan)
    assert box_iou(none, some).tolist() == [0.0]
    assert box_iou(some, none).isnan().all()
    assert evidence_boxes(torch.zeros(1, 1, 4, 4, dtype=torch.bool)).isnan().all()
    assert map_boxes(torch.zeros(0, 1, 4, 4)).shape == (0, 4)


def test_maps_and_evidence_must_belong_together():
    evidence = blob((1, 4), (2, 6)).bool()
    for wrong in (torch.rand(1, 1, 8, 8), torch.rand(2, 1, 12, 16)):
        with pytest.raises(ValueError, match="belong together"):
            box_scores({("a", 0): wrong}, evidence)
    broken = evidence.float()
    broken[0, 0, 0, 0] = torch.nan
    assert box_scores({("a", 0): broken}, evidence)["iou"].isna().all()
    assert best_alphas(box_scores({("a", 0): broken}, evidence)).empty


def test_nothing_to_score():
    evidence = blob((1, 4), (2, 6)).bool()
    with pytest.raises(ValueError, match="maps must be at least 1"):
        box_scores({}, evidence)
    with pytest.raises(ValueError, match="alphas must be at least 1"):
        box_scores({("a", 0): evidence.float()}, evidence, alphas=())


def test_scores_over_thresholds():
    evidence = torch.cat([blob((1, 4), (2, 6)), blob((6, 11), (8, 15))]).bool()
    exact, blank = evidence.float(), torch.zeros(2, 1, 12, 16)
    scores = box_scores({("exact", 0): exact, ("blank", 0): blank}, evidence, alphas=(0.0, 1.0, 99.0))
    means = scores.groupby(["method", "alpha"])[["iou", "error"]].mean()
    assert means.loc[("exact", 1.0)].tolist() == [1.0, 0.0]
    assert means.loc[("exact", 99.0)].tolist() == [0.0, 100.0]
    assert means.loc[("blank", 1.0)].tolist() == [0.0, 100.0]
    assert best_alphas(scores)["exact"] == 0.0  # the first of equals


def test_half_is_localised():
    half = {("a", 0): blob((0, 4), (0, 8))}
    curves = box_scores(half, blob((0, 4), (0, 4)).bool(), alphas=[1.0])
    assert curves[["iou", "error"]].iloc[0].tolist() == [0.5, 0.0]
