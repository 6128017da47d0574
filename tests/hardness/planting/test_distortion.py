"""Distorted images stay images: whole numbers from 0 to 255 in the same shape."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from hardness.planting import distortion


@st.composite
def pictures(draw, channels=(1, 3)):
    """``[N, C, H, W]`` of uint8, often flat or black and white."""
    n, side = draw(st.integers(1, 4)), draw(st.integers(2, 9))
    shape = n, draw(st.sampled_from(channels)), side, draw(st.just(side) | st.integers(2, 9))
    pixels = st.sampled_from([0, 255]) | st.integers(0, 255)
    return torch.from_numpy(draw(hnp.arrays(np.uint8, shape, elements=pixels)))


def flat(value, side=4):
    return torch.full((1, 1, side, side), value, dtype=torch.uint8)


def random_images(n=3, channels=3, side=8, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (n, channels, side, side), dtype=np.uint8))


@given(pictures(), st.floats(0.1, 5), st.floats(0.01, 0.5))
def test_every_distortion_keeps_shape_and_type_and_does_not_touch_its_input(images, sigma, share):
    before = images.clone()
    normal = np.random.default_rng(0).normal(size=images.shape)
    n = len(images)
    found = [
        distortion.blurred(images, sigma),
        distortion.noisy(images, 100 * sigma, normal),
        distortion.mixed(images, images.flip(0), share),
        distortion.windowed(images, torch.full((n,), sigma), torch.zeros(n, 2)),
        distortion.negative(images),
        distortion.fitted(images, *images.shape[1:]),
    ]
    for one in found:
        assert (one.shape, one.dtype) == (images.shape, torch.uint8)
    assert images.equal(before)


@given(pictures())
def test_what_changes_nothing_gives_the_same_pixels(images):
    n, zeros = len(images), np.zeros(images.shape)
    assert distortion.windowed(images, torch.ones(n), torch.zeros(n, 2)).equal(images)
    assert distortion.noisy(images, 9.0, zeros).equal(images)
    assert distortion.mixed(images, images, 0.3).equal(images)
    assert distortion.negative(distortion.negative(images)).equal(images)
    assert distortion.fitted(images, *images.shape[1:]).equal(images)


@given(st.integers(0, 255), st.floats(0.1, 4))
def test_a_flat_image_stays_flat_under_blur_and_windows(value, size):
    image = flat(value)
    assert distortion.blurred(image, size).equal(image)
    window = torch.tensor([size]), torch.tensor([[0.5, -0.7]])
    assert distortion.windowed(image, *window).equal(image)


def test_blur_is_the_sum_over_a_reflected_normal_kernel():
    """Transcribed: weights exp(-d^2 / 2 sigma^2) out to four sigma, along each axis in turn."""
    images, sigma = random_images(), 0.8
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    padded = np.pad(
        images.numpy().astype(float), ((0, 0), (0, 0), *[(radius, radius)] * 2), "symmetric"
    )
    rows = sum(w * padded[:, :, i : i + 8] for i, w in enumerate(weights))
    both = sum(w * rows[:, :, :, i : i + 8] for i, w in enumerate(weights))
    assert distortion.blurred(images, sigma).tolist() == np.round(both).tolist()


def test_noise_is_cut_off_at_black_and_white():
    """Where H-CAT cuts off at [0, 1] although its inputs begin at -1."""
    normal = np.random.default_rng(0).normal(size=(1, 1, 64, 64))
    dark, bright = flat(0, 64), flat(255, 64)
    low = distortion.noisy(dark, 25.0, normal)
    high = distortion.noisy(bright, 25.0, normal)
    assert (low == 0).float().mean() == pytest.approx(0.5, abs=0.05)
    assert (high == 255).float().mean() == pytest.approx(0.5, abs=0.05)
    grey = distortion.noisy(flat(128, 64), 25.0, normal).double() - 128
    assert grey.mean() == pytest.approx(0, abs=2)
    assert grey.std() == pytest.approx(25, rel=0.05)


def test_a_mix_is_the_mix_of_both_and_no_reinterpreted_bytes():
    """Floats handed over as the bytes of an image show neither: 64 % zeros, r = -0.01."""
    images, others = random_images(seed=0), random_images(seed=1)
    mix = distortion.mixed(images, others, 0.5)
    middle = (images.double() + others.double()) / 2
    assert (mix.double() - middle).abs().max() <= 0.5
    assert np.corrcoef(mix.flatten(), middle.flatten())[0, 1] > 0.999


def test_a_window_twice_as_large_halves_what_it_shows():
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    image[0, 0, 2:6, 2:6] = 255
    small = distortion.windowed(image, torch.tensor([2.0]), torch.zeros(1, 2))
    expected = torch.zeros(8, 8)
    expected[3:5, 3:5] = 255
    assert small[0, 0].tolist() == expected.tolist()


def test_a_window_of_half_the_side_shows_a_quarter_of_the_image():
    image = random_images(1, 1, 4)
    center = torch.tensor([[0.5, -0.5]])
    shown = distortion.windowed(image, torch.tensor([0.5]), center)[0, 0]
    quarter = Image.fromarray(image[0, 0].numpy())
    # Right above: every pixel's square is read bilinearly at a quarter of its side.
    expected = quarter.resize((4, 4), Image.Resampling.BILINEAR, box=(2, 0, 4, 2))
    inner = np.s_[1:3, 1:3]
    assert np.abs(shown.numpy().astype(int) - np.asarray(expected).astype(int))[inner].max() <= 1


def test_turning_needs_a_square():
    images = random_images(2)
    once = distortion.turned(images)
    assert not once.equal(images)
    assert distortion.turned(distortion.turned(distortion.turned(once))).equal(images)
    with pytest.raises(ValueError, match="expected square images to turn; got 8x6"):
        distortion.turned(images[..., :6])


@pytest.mark.parametrize("side", [8, 32])
def test_images_of_another_dataset_are_fitted_as_pillow_fits_them(side):
    images = random_images(2, 3, 28)
    ours = distortion.fitted(images, 3, side, side).permute(0, 2, 3, 1).numpy().astype(int)
    for image, fitted in zip(images, ours, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        theirs = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(theirs - fitted).max() <= 1
        grey = distortion.fitted(image[None], 1, 28, 28)[0, 0].numpy().astype(int)
        assert np.abs(np.asarray(picture.convert("L")).astype(int) - grey).max() <= 1


def test_grey_images_become_three_equal_channels():
    digit = random_images(1, 1)
    colours = distortion.fitted(digit, 3, 8, 8)
    assert all(colours[:, c].equal(digit[:, 0]) for c in range(3))
    with pytest.raises(ValueError, match="expected images of 1 or 3 channels; got 2 for 3"):
        distortion.fitted(torch.zeros(1, 2, 8, 8, dtype=torch.uint8), 3, 8, 8)
