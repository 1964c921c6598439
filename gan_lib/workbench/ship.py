"""Explainers that a profile has trained, written where ``gan-lib explain`` looks for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gan_lib.classifiers import Classifier, make_classifier, save_classifier
from gan_lib.classifiers.factories import folder_name
from gan_lib.classifiers.files import WEIGHTS
from gan_lib.core.checksums import CHECKSUMS, write_checksums
from gan_lib.core.storage import write_json
from gan_lib.explainers import GeneratorExplainer, UniversalExplainer
from gan_lib.workbench.bench import Workbench
from gan_lib.workbench.pools import Pool
from gan_lib.workbench.recipes import ProfileError
from gan_lib.workbench.rivals import explainers_of, options_of, trained_on
from gan_lib.workbench.subject import Subject
from gan_lib.workbench.sweeps import Sweep

BRING = "none"  # weights that are neither shipped nor torchvision's: a user has a file of them


def ship(subject: Subject, weights: str | None = None) -> tuple[Path, list[str]]:
    """Write a subject's CNN and its kept explainers, those of the first seed, to ``data/pretrained``.

    Args:
        subject: CNN, data and recipe.
        weights: name of torchvision's weights, for an ImageNet CNN that a user downloads instead of getting
            it from here; its classes get torchvision's names. ``none``: a user brings a file of them.

    Returns:
        The CNN's folder, and the names of the explainers.

    Raises:
        FileNotFoundError: the profile has trained none.
    """
    own = {}
    for method in subject.recipe.judge.trained:
        if found := subject.kept_by_profile(method):
            own[method.replace("_", "-")] = found[min(found)]
    if not own:
        raise FileNotFoundError("the profile has trained no explainers: run 02 and 03 first")
    home = _write_cnn(subject, weights)
    for method, explainer in own.items():
        explainer.save(home / method, subject.about())
    return home, list(own)


def _write_cnn(subject: Subject, weights: str | None) -> Path:
    """Write a subject's CNN; returns its folder."""
    cnn, home = subject.cnn.cpu(), subject.places.data / "pretrained" / folder_name(subject.architecture)
    card, named = replace(cnn.card, image_size=subject.image_size), weights not in (None, BRING)
    if named:
        card = replace(card, class_names=make_classifier(card.architecture).class_names)
    save_classifier(Classifier(cnn.backbone, card), home)
    (home / "weights.json").unlink(missing_ok=True)
    if weights is not None:
        (home / WEIGHTS).unlink()
    if named:
        write_json(home / "weights.json", weights)
    (home / CHECKSUMS).unlink()
    write_checksums(home, [own.name for own in home.iterdir() if own.is_file()])
    return home


def ship_swept(sweep: Sweep, bench: Workbench, weights: str | None = None) -> tuple[Path, list[str]]:
    """Write the explainers of a sweep to ``data/pretrained``, those of its first seed; they are trained where
    the store does not have them.

    Of the runner ``universal``: one of each variant, trained on all CNNs of the pool. Of ``rivals``: the
    CNN's contrastive ones with the CNN, as :func:`ship` writes it.

    Returns:
        The folder, and the names of the explainers.

    Raises:
        ProfileError: a sweep of another runner, or ``weights`` for what fits any CNN.
    """
    if sweep.runner == "rivals":
        return _ship_contrastive(sweep, bench, weights)
    if sweep.runner != "universal":
        raise ProfileError(f"sweep {sweep.name!r}: runner {sweep.runner} trains nothing that is shipped")
    if weights is not None:
        raise ProfileError(f"sweep {sweep.name!r}: its explainers are of no CNN, whose weights were named")
    return ship_universal(sweep, bench)


def _ship_contrastive(sweep: Sweep, bench: Workbench, weights: str | None) -> tuple[Path, list[str]]:
    asked, subject = options_of(sweep, bench.recipe), bench.subject()
    trained, seed = trained_on(sweep, asked, subject, bench), (sweep.seeds or bench.recipe.seeds)[0]
    made = {
        (f"contrastive_{variant}", seed): own
        for (variant, _), own in trained.contrastive(seeds=[seed]).items()
    }
    home = _write_cnn(subject, weights)
    for (method, _), own in explainers_of(subject, made, []).items():
        assert isinstance(own, GeneratorExplainer)
        own.to("cpu").save(home / method.replace("_", "-"), trained.about())
    return home, [method.replace("_", "-") for method, _ in made]


def ship_universal(sweep: Sweep, bench: Workbench) -> tuple[Path, list[str]]:
    """Train generators on all CNNs of a sweep's pool, and write them to ``data/pretrained/universal``.

    Returns:
        The folder, and the names of the explainers: one of each variant, of the first seed.

    Raises:
        ProfileError: a sweep of no pool.
    """
    pool = Pool.of(sweep, bench)
    variants, seed, home = pool.asked.shipped, pool.seeds[0], bench.places.data / "pretrained" / "universal"
    made = pool.trained([pool.job(variant, pool.subjects, seed) for variant in variants])
    first, names = pool.subjects[0], []
    about = {"recipe": bench.recipe.flat(), "pool": pool.report.to_dict("records")}
    for variant, own in zip(variants, made, strict=True):
        layers = bench.recipe.evidence.layers
        explainer = UniversalExplainer(first.cnn, first.image_size, own.generator, layers)
        names.append(f"universal-{variant}")
        explainer.save(home / pool.asked.kept_as / names[-1], about)
    return home / pool.asked.kept_as, names
