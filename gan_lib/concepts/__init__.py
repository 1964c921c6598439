"""Concepts of a CNN's classes: what they are, where they are, and whether the CNN knows them."""

from gan_lib.concepts.bank import (
    ConceptBank,
    concept_maps,
    how_many,
    importance,
    learn_concepts,
    load_concepts,
    matched_similarity,
    predicted_images,
    weighted_activations,
)
from gan_lib.concepts.layers import METHODS, HiddenLayer, LayerRelevance
from gan_lib.concepts.nmf import Factorisation, encode, nmf
from gan_lib.concepts.prediction_test import SOURCES, prediction_test
from gan_lib.concepts.prototypes import Places, PooledActivations, montage

__all__ = [
    "METHODS",
    "SOURCES",
    "ConceptBank",
    "Factorisation",
    "HiddenLayer",
    "LayerRelevance",
    "Places",
    "PooledActivations",
    "concept_maps",
    "encode",
    "how_many",
    "importance",
    "learn_concepts",
    "load_concepts",
    "matched_similarity",
    "montage",
    "nmf",
    "predicted_images",
    "prediction_test",
    "weighted_activations",
]
