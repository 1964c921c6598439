"""Pictures whose waves are as strong as those of images, and whose phases are sought."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from gan_lib.concepts import FeatureVisualisation, drawing
from gan_lib.concepts.drawing import Spectrum, concept_score, draw
from gan_lib.data import ImageSplit

SIDE = 16
BYTE = 0.5 / 255 + 1e-6  # images are kept as bytes
LOW, HIGH = (-math.log((1 - drawing.MARGIN) / drawing.MARGIN) * sign for sign in (1, -1))


def _image(odds):
    """Images (B, 3, H, W) in [0, 1] with these log-odds."""
    return (odds.sigmoid() - drawing.MARGIN) / (1 - 2 * drawing.MARGIN)


def _wave(strength, cycles=3):
    """A grey image (1, 3, H, W) with one wave along its rows, about log-odds of 0.2; its edges are equal."""
    along = torch.cos(2 * math.pi * cycles * (torch.arange(SIDE) + 0.5) / SIDE)
    return _image((0.2 + strength * along).expand(1, 3, SIDE, SIDE))


def _periodic(count=6):
    """Images whose opposite edges are equal: slow waves, mirrored, in colours of their own."""
    drawn = torch.Generator().manual_seed(1)
    waves = torch.zeros(count, 3, SIDE, SIDE // 2 + 1, dtype=torch.complex64)
    waves[:, :, :3, 1:3] = 0.7 * torch.randn(count, 3, 3, 2, dtype=torch.complex64, generator=drawn)
    odds = torch.fft.irfft2(waves, norm="ortho")
    return _image(((odds + odds.flip(-1) + odds.flip(-2) + odds.flip(-1, -2)) / 2).clamp(LOW, HIGH))


@pytest.fixture
def plain(monkeypatch):
    """The crop is the picture, and nothing is added to it."""
    monkeypatch.setattr(drawing, "SIDES", (1.0, 1.0))
    monkeypatch.setattr(drawing, "NOISE", 0.0)


def test_a_strength_is_the_root_of_the_mean_square():
    """Waves of strength 0.5 and 1.5: the root of (0.25 + 2.25) / 2, at the phase that is asked for."""
    spectrum = Spectrum.of(torch.cat([_wave(0.5), _wave(1.5)]))
    assert spectrum.size == (SIDE, SIDE)
    assert spectrum.magnitude.shape == (3, SIDE, SIDE // 2 + 1)
    assert spectrum.mean.tolist() == pytest.approx(3 * [0.2], abs=0.01)
    phases = torch.zeros(1, 3, SIDE, SIDE // 2 + 1)
    strongest = spectrum.magnitude.flatten(1).amax(1)
    assert (spectrum.magnitude[:, 0, 3] / strongest)[strongest.argmax()] == 1
    for shift in (0.0, math.pi / 2):
        # Of three independent colours one is grey; its sign is that of an eigenvector.
        made = spectrum.picture(phases + shift)
        along = torch.cos(2 * math.pi * 3 * torch.arange(SIDE) / SIDE + shift)
        same, turned = (_image((0.2 + sign * 1.25**0.5 * along).expand_as(made)) for sign in (1, -1))
        assert min(float((made - same).abs().max()), float((made - turned).abs().max())) < 0.01


def test_an_image_has_its_own_phases():
    """Of one image alone the strengths are its own: with its own phases it comes back."""
    image = _periodic(1)
    spectrum = Spectrum.of(image)
    waves = drawing._waves(image, spectrum.colours, spectrum.mean)
    assert torch.allclose(spectrum.picture(waves.angle()), image, atol=0.01)


def test_colours_are_those_of_the_images():
    """Whatever the phases are, colours vary together as in the images."""
    images = _periodic(60) * torch.tensor([1.0, 0.5, 0.2])[:, None, None]
    spectrum = Spectrum.of(images)
    drawn = torch.Generator().manual_seed(0)
    made = spectrum.picture(6.3 * torch.rand(60, *spectrum.magnitude.shape, generator=drawn))
    of = [torch.cov(drawing._log_odds(own).permute(1, 0, 2, 3).flatten(1)) for own in (images, made)]
    assert (of[0] - of[1]).abs().max() < 0.15 * of[0].abs().max()
    assert torch.allclose(made.mean((0, 2, 3)), images.mean((0, 2, 3)), atol=0.05)


def test_a_step_between_opposite_edges_is_no_wave():
    """A ramp of 15 steps falls by 15 from its end to its beginning, where the one after it would be due: of
    16 parts of its waves one is left. What has equal edges stays as it is."""
    ramp = _image(torch.linspace(-1, 1, SIDE).expand(1, 3, SIDE, SIDE))
    eye, zero = torch.eye(3), torch.zeros(3)
    for image in (ramp, ramp.mT):
        waves = drawing._waves(image, eye, zero)
        plain = torch.fft.rfft2(drawing._log_odds(image), norm="ortho")
        assert plain.abs().max() > 5
        assert torch.allclose(waves, plain / SIDE, atol=1e-5)
    for image in (_wave(1.0), _periodic()):
        plain = torch.fft.rfft2(drawing._log_odds(image), norm="ortho")
        assert torch.allclose(drawing._waves(image, eye, zero), plain, atol=1e-5)


def test_images_without_a_wave_are_refused():
    with pytest.raises(ValueError, match="one colour throughout"):
        Spectrum.of(torch.full((2, 3, 8, 8), 0.5))
    with pytest.raises(ValueError, match="at least 1"):
        Spectrum.of(torch.zeros(0, 3, 8, 8))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Spectrum.of(torch.full((2, 3, 8, 8), 1.5))


def test_a_step_by_hand(plain):
    """NAdam's first step goes up the gradient of the score, as far for every phase that has one."""
    spectrum, weights = Spectrum.of(_periodic()), torch.randn(3, SIDE, SIDE)

    def score(pictures, which):
        return (pictures * weights).sum((1, 2, 3))

    begun = draw(score, 1, spectrum, steps=0, crops=1)
    drawn = torch.Generator().manual_seed(0)
    phases = (2 * math.pi * torch.rand(1, *spectrum.magnitude.shape, generator=drawn)).requires_grad_()
    picture = spectrum.picture(phases)
    assert torch.equal(picture.detach(), begun.pictures)
    (gradient,) = torch.autograd.grad(score(picture, None).sum(), phases)
    beta, decay = 0.9, 0.96 ** (0.004 * torch.arange(1, 3))
    now, after = beta * (1 - 0.5 * decay)  # of the momentum, at steps 1 and 2
    far = (1 - now) / (1 - now) + after * (1 - beta) / (1 - now * after)
    signs = gradient.sign() * (gradient.abs() > 1e-5)
    expected = spectrum.picture(phases.detach() + drawing.LEARNING_RATE * float(far) * signs)
    made = draw(score, 1, spectrum, steps=1, crops=1)
    assert torch.allclose(made.pictures, expected, atol=2e-3)
    assert score(made.pictures, None) > score(begun.pictures, None) + 1
    inside = (picture > 0) & (picture < 1)  # the score's gradient at a pixel is its weight
    asked = weights.abs().sum(0)[None, None]
    high = asked.flatten().quantile(0.99)
    assert inside.all()
    assert torch.allclose(made.asked, (asked / high).clamp(max=1), atol=1e-4)


def test_crops_lie_at_the_same_places_of_every_picture(monkeypatch):
    """Half of the side, at a place that a ramp tells: what is enlarged twofold rises half as fast."""
    monkeypatch.setattr(drawing, "SIDES", (0.5, 0.5))
    monkeypatch.setattr(drawing, "NOISE", 0.0)
    down, right = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    ramp = torch.stack([down, right, torch.zeros(SIDE, SIDE)]).float() / SIDE
    made = drawing._crops(torch.stack([ramp, ramp, 1 - ramp]), 4, torch.Generator().manual_seed(0))
    first, second, third = made.unflatten(0, (3, 4))
    assert torch.equal(first, second)
    assert torch.allclose(first, 1 - third, atol=1e-5)
    rise = first[:, 0, 8, :].diff(dim=-1), first[:, 0, :, 8].diff(dim=-1)
    assert torch.allclose(rise[0], torch.zeros(4, SIDE - 1), atol=1e-5)
    assert torch.allclose(rise[1][:, 2:-2], torch.full((4, SIDE - 5), 0.5 / SIDE), atol=1e-5)
    assert first[:, :2].amin() >= 0
    assert first[:, :2].amax() <= (SIDE - 1) / SIDE + 1e-6
    assert first[:, 0, 0, 0].unique().numel() == 4  # and each crop at a place of its own


def test_noise_is_added_to_crops(monkeypatch):
    monkeypatch.setattr(drawing, "NOISE", 0.1)
    made = drawing._crops(torch.full((2, 3, 32, 32), 0.5), 3, torch.Generator().manual_seed(0))
    noise = (made - 0.5).unflatten(0, (2, 3))
    assert torch.equal(noise[0], noise[1])
    assert float(noise[0].std()) == pytest.approx(0.1, rel=0.03)
    assert not torch.equal(noise[0, 0], noise[0, 1])


def test_a_concepts_score_by_hand():
    """Typical activations (1, 1); the mean over two places is (4, 5), so it moves by (3, 4)."""
    activations = torch.tensor([[[[3.0, 5.0]], [[5.0, 5.0]]]]).expand(3, 2, 1, 2)
    vectors = torch.tensor([[0.0, 1.0], [0.6, 0.8], [-0.8, 0.6]])
    scores = concept_score(activations, vectors, torch.ones(2))
    assert scores.tolist() == pytest.approx([4 * 0.8**2, 5.0, 0.0], abs=1e-6)
    against = concept_score(activations[:1], -vectors[:1], torch.ones(2))
    assert against.tolist() == pytest.approx([-4 * drawing.LEAST_COSINE**2])  # still grows towards the vector


def test_concepts_and_classes_are_drawn(net, hidden, split):
    """The layer and the logits rise; the CNN stays as it is."""
    weights = [weight.clone() for weight in net.state_dict().values()]
    vectors = F.normalize(torch.eye(10)[:3] + 0.1, dim=1)
    begun, made = (FeatureVisualisation(hidden, split, steps, crops=2) for steps in (0, 40))
    assert torch.allclose(begun.typical, hidden(split.batch(range(40)).images).mean((0, 2, 3)), atol=1e-5)

    def worth(pictures):
        return concept_score(hidden(pictures), vectors, begun.typical)

    pictures, asked = made.concepts(vectors)
    assert (worth(pictures) > worth(begun.concepts(vectors).pictures)).all()
    assert pictures.shape == (3, 3, 16, 16)
    assert asked.shape == (3, 1, 16, 16)
    assert 0 <= pictures.min() <= pictures.max() <= 1
    assert 0 <= asked.min() <= asked.max() == 1
    for classes in ([3, 1], [2]):
        seen = torch.tensor(classes)[:, None]
        rise = net(made.classes(classes).pictures) - net(begun.classes(classes).pictures)
        assert (rise.gather(1, seen) > 0).all()
    assert all(torch.equal(a, b) for a, b in zip(weights, net.state_dict().values(), strict=True))
    assert all(own.grad is None and not own.requires_grad for own in net.parameters())


def test_a_picture_is_the_same_drawn_alone(hidden, split, monkeypatch):
    """In any batch, at any place of it, from the same seed."""
    vectors = F.normalize(torch.rand(5, 10, generator=torch.Generator().manual_seed(0)), dim=1)
    drawer = FeatureVisualisation(hidden, split, steps=5, crops=2)
    together = drawer.concepts(vectors)
    monkeypatch.setattr(drawing, "at_once", lambda *_: 4)  # two pictures of two crops
    few = drawer.concepts(vectors)
    alone = drawer.concepts(vectors[3:4])
    assert torch.allclose(together.pictures, few.pictures, atol=1e-4)
    assert torch.allclose(together.pictures[3:4], alone.pictures, atol=1e-4)
    other = FeatureVisualisation(hidden, split, steps=5, crops=2, seed=1).concepts(vectors[3:4])
    assert (alone.pictures - other.pictures).abs().mean() > 0.05


def test_what_cannot_be_drawn_is_refused(hidden, split):
    with pytest.raises(ValueError, match=r"takes images of \(16, 16\), these are \(8, 8\)"):
        FeatureVisualisation(hidden, torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match="at least 1"):
        FeatureVisualisation(hidden, torch.zeros(0, 3, 16, 16))
    with pytest.raises(ValueError, match="crops must be at least 1"):
        FeatureVisualisation(hidden, split, crops=0)
    with pytest.raises(ValueError, match="steps must be at least 0"):
        FeatureVisualisation(hidden, split, steps=-1)
    drawer = FeatureVisualisation(hidden, split, steps=1)
    with pytest.raises(ValueError, match=r"vectors must be \(V, 10\)"):
        drawer.concepts(torch.rand(2, 9))
    with pytest.raises(ValueError, match="vectors must be at least 1"):
        drawer.concepts(torch.rand(0, 10))
    for classes in ([4], [-1], []):
        with pytest.raises(ValueError, match="class"):
            drawer.classes(classes)


def test_grey_images_are_drawn_grey(hidden):
    grey = ImageSplit.of(torch.rand(8, 1, 16, 16).expand(8, 3, 16, 16))
    pictures, _ = FeatureVisualisation(hidden, grey, steps=3).concepts(torch.rand(1, 10))
    assert (pictures.amax(1) - pictures.amin(1)).max() < 0.05
