"""Scores and probabilities of every meaning, by hand; what is guessed and what must be said."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from gan_lib.core.outputs import (
    MEANINGS,
    check_meaning,
    guessed_meaning,
    label_names,
    probabilities,
    scores_of,
    selected,
)

LN3 = 1.0986123  # sigmoid 0.75


class Meaning(nn.Module):
    """Says what its outputs mean."""

    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output


@pytest.mark.parametrize(
    ("meaning", "outputs", "scores", "found"),
    [
        ("logits", [[0.0, LN3]], [[0.0, LN3]], [[0.25, 0.75]]),
        ("probabilities", [[0.25, 0.75]], [[-1.3862944, -0.2876821]], [[0.25, 0.75]]),
        ("multi_label", [[LN3, -LN3, 0.0]], [[LN3, -LN3, 0.0]], [[0.75, 0.25, 0.5]]),
        ("multi_label_probabilities", [[0.75, 0.25, 0.5]], [[LN3, -LN3, 0.0]], [[0.75, 0.25, 0.5]]),
        ("binary", [[LN3], [-LN3]], [[-LN3, LN3], [LN3, -LN3]], [[0.25, 0.75], [0.75, 0.25]]),
        ("binary", [LN3, -LN3], [[-LN3, LN3], [LN3, -LN3]], [[0.25, 0.75], [0.75, 0.25]]),
        ("binary_probability", [[0.75]], [[-LN3, LN3]], [[0.25, 0.75]]),
        ("binary_probability", [0.25], [[LN3, -LN3]], [[0.75, 0.25]]),
        ("regression", [[7.5]], [[-0.5, 0.5]], [[0.25, 0.75]]),  # three quarters of 0..10
        ("regression", [0.0, 5.0, 20.0], [[1, -1], [0, 0], [-3, 3]], [[1, 0], [0.5, 0.5], [0, 1]]),
    ],
)
def test_scores_and_probabilities(meaning, outputs, scores, found):
    span = (0.0, 10.0) if meaning == "regression" else None
    made = scores_of(torch.tensor(outputs), meaning, span)
    torch.testing.assert_close(made, torch.tensor(scores, dtype=torch.float32), rtol=1e-5, atol=1e-5)
    given = probabilities(Meaning(meaning), made)
    torch.testing.assert_close(given, torch.tensor(found, dtype=torch.float32), rtol=1e-5, atol=1e-5)


def test_every_meaning_has_a_case_and_modules_without_one_give_logits():
    cases = test_scores_and_probabilities.pytestmark[0].args[1]
    assert {case[0] for case in cases} == set(MEANINGS)
    assert probabilities(nn.Identity(), torch.tensor([[0.0, LN3]]))[0, 1] == pytest.approx(0.75)


@pytest.mark.parametrize("meaning", ["probabilities", "multi_label_probabilities", "binary_probability"])
def test_probabilities_of_0_and_1_give_finite_scores_and_gradients(meaning):
    outputs = torch.tensor([[0.0], [1.0]] if meaning.startswith("binary") else [[0.0, 1.0], [1.0, 0.0]])
    scores = scores_of(outputs.requires_grad_(), meaning)
    (gradient,) = torch.autograd.grad(scores.sum(), outputs)
    assert scores.isfinite().all()
    assert gradient.isfinite().all()
    expected = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    close = probabilities(Meaning(meaning), scores.detach())
    torch.testing.assert_close(close, expected if meaning.startswith("binary") else expected.flip(1))


@dataclass
class Result:
    logits: Tensor
    hidden: Tensor


Pair = namedtuple("Pair", "scores boxes")
ROW, FLAT, MAPS = torch.zeros(2, 3), torch.ones(2), torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("given", "select", "found"),
    [
        (ROW, None, ROW),
        ((ROW, MAPS), None, ROW),  # the only one with a row per picture
        ((ROW, FLAT), 1, FLAT),
        ([MAPS, ROW], None, ROW),
        ({"a": ROW, "b": FLAT}, "b", FLAT),
        ({"a": FLAT, "logits": ROW}, None, ROW),
        (Result(ROW, FLAT), None, ROW),
        (Result(ROW, FLAT), "hidden", FLAT),
        (Pair(ROW, FLAT), "boxes", FLAT),
    ],
)
def test_one_of_several_outputs(given, select, found):
    assert selected(given, select) is found


@pytest.mark.parametrize(
    ("given", "select", "error", "said"),
    [
        ((ROW, FLAT), None, ValueError, r"Say select=, one of 0 \(2, 3\), 1 \(2,\)"),
        ({"a": ROW, "b": FLAT}, "c", KeyError, "no 'c'; there are 'a'"),
        (ROW, 0, KeyError, "one tensor; leave select out"),
        ((ROW, "text"), 1, ValueError, "is str, not a tensor"),
        ((MAPS, MAPS), None, ValueError, "Say select="),
        ("text", None, ValueError, "not str"),
        (None, None, ValueError, "not NoneType"),
    ],
)
def test_an_output_that_is_not_sure(given, select, error, said):
    with pytest.raises(error, match=said):
        selected(given, select)


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        (torch.tensor([[1.0, -2.0], [0.2, 0.8]]), "logits"),
        (torch.tensor([[0.3, 0.7], [0.2, 0.8]]), "probabilities"),
        (torch.tensor([[-0.3, -1.2], [-2.0, -0.1]]), "logits"),  # also logarithms of probabilities
    ],
)
def test_what_is_guessed(outputs, found):
    assert guessed_meaning(outputs) == found


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (torch.tensor([[0.3], [0.7]]), "binary.*regression"),
        (torch.tensor([0.3, 0.7]), "one output.*binary"),
        (torch.tensor([[0.9, 0.7], [0.2, 0.4]]), "multi_label_probabilities"),
        (torch.zeros(2, 3, 4, 4), r"not \(B, 3, 4, 4\)"),
        (torch.zeros(2, 0), r"not \(B, 0\)"),
    ],
)
def test_what_must_be_said(outputs, said):
    with pytest.raises(ValueError, match=said):
        guessed_meaning(outputs)


@pytest.mark.parametrize(
    ("outputs", "meaning", "said"),
    [
        (torch.tensor([[0.3, 0.7]]), "softmax", "one of .*'logits'"),
        (torch.tensor([[0.3], [0.7]]), "logits", "CNN of 1 output: one of .*binary"),
        (torch.tensor([[0.3, 0.7]]), "binary", "CNN of 2 outputs: one of .*multi_label"),
        (torch.tensor([[0.3, 0.7]]), "regression", "2 outputs"),
        (torch.tensor([[3.0, -2.0]]), "probabilities", "from -2 to 3, not 0..1"),
        (torch.tensor([[0.9, 0.9]]), "probabilities", "sum to 1.8"),
        (torch.tensor([[1.5]]), "binary_probability", "not 0..1"),
        (torch.tensor([[1.5, 0.2]]), "multi_label_probabilities", "not 0..1"),
    ],
)
def test_a_meaning_that_does_not_fit(outputs, meaning, said):
    with pytest.raises(ValueError, match=said):
        check_meaning(outputs, meaning)


@pytest.mark.parametrize(
    ("names", "meaning", "outputs", "found"),
    [
        (None, "logits", 3, ("0", "1", "2")),
        (None, "binary", 1, ("no", "yes")),
        (("cat",), "binary", 1, ("not cat", "cat")),
        (("dog", "cat"), "binary_probability", 1, ("dog", "cat")),
        (None, "regression", 1, ("lower", "higher")),
        (("a", "b"), "multi_label", 2, ("a", "b")),
    ],
)
def test_names(names, meaning, outputs, found):
    assert label_names(names, meaning, outputs) == found


@pytest.mark.parametrize(
    ("names", "meaning", "outputs", "said"),
    [
        (("a", "b", "c"), "logits", 7, "3 class names for 7 logits"),
        (("a", "b", "c"), "binary", 1, "3 class names for 2"),
        (("a", "b", "a"), "logits", 3, "twice: a"),
    ],
)
def test_names_that_do_not_fit(names, meaning, outputs, said):
    with pytest.raises(ValueError, match=said):
        label_names(names, meaning, outputs)
