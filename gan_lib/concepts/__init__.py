"""Concepts of a CNN's classes: what they are, where they are, and whether the CNN knows them.

concepts = Concepts(cnn, layer).fit(images)
"""

from gan_lib.concepts.bank import (
    ConceptBank,
    concept_maps,
    first_there,
    how_many,
    importance,
    importance_table,
    learn_concepts,
    matched_similarity,
    predicted_images,
    weighted_activations,
)
from gan_lib.concepts.concepts import Concepts
from gan_lib.concepts.drawing import Drawn, FeatureVisualisation, concept_score
from gan_lib.concepts.layers import METHODS, HiddenLayer, LayerRelevance, probabilities
from gan_lib.concepts.nmf import nmf
from gan_lib.concepts.prediction_test import FORMS, prediction_scores, prediction_summary, prediction_test
from gan_lib.concepts.prototypes import (
    Places,
    PooledActivations,
    pooled_vectors,
    prototype_page,
    published_page,
)
from gan_lib.concepts.recognition import recognition_test

__all__ = [
    "FORMS",
    "METHODS",
    "ConceptBank",
    "Concepts",
    "Drawn",
    "FeatureVisualisation",
    "HiddenLayer",
    "LayerRelevance",
    "Places",
    "PooledActivations",
    "concept_maps",
    "concept_score",
    "first_there",
    "how_many",
    "importance",
    "importance_table",
    "learn_concepts",
    "matched_similarity",
    "nmf",
    "pooled_vectors",
    "predicted_images",
    "prediction_scores",
    "prediction_summary",
    "prediction_test",
    "probabilities",
    "prototype_page",
    "recognition_test",
    "published_page",
    "weighted_activations",
]
