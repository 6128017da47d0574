"""Pixel baselines against sums over every pixel."""

import inspect
import io
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.stats import entropy

from hardness.metrics import pixels as module
from hardness.metrics.pixels import (
    image_compressed_size,
    image_entropy,
    image_l2_norm,
    total_variation,
)
from hardness.metrics.registry import METRICS

pictures = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3])),
    elements=st.sampled_from([0, 1, 7, 128, 255]),
)


def picture(*rows):
    return np.array(rows, dtype=np.uint8)[None, :, :, None]


def test_worked_by_hand():
    image = picture([0, 3], [4, 0])
    assert image_entropy(image).tolist() == [1.5]
    assert total_variation(image).tolist() == [3 + 4 + 4 + 3]
    assert image_l2_norm(image).tolist() == [5.0]
    assert image_compressed_size(image).tolist() == [len(zlib.compress(bytes([0, 3, 4, 0]), 9))]


def test_channels_are_pooled_or_averaged():
    image = np.array([[[[0, 9, 1], [0, 9, 2]]]], dtype=np.uint8)
    assert image_entropy(image).tolist() == pytest.approx([np.log2(3) * 2 / 3 + np.log2(6) / 3])
    assert image_entropy(image, channel_mean=True).tolist() == pytest.approx([1 / 3])


def test_differences_of_bytes_do_not_wrap_around():
    assert total_variation(picture([0, 255], [255, 0])).tolist() == [4 * 255]


@given(images=pictures)
def test_equals_the_definition(images):
    wide = images.astype(np.float64)
    for i, image in enumerate(images):
        counts = np.bincount(image.ravel(), minlength=256)
        np.testing.assert_allclose(image_entropy(images)[i], entropy(counts, base=2), atol=1e-12)
        per_channel = [
            entropy(np.bincount(image[..., c].ravel(), minlength=256), base=2)
            for c in range(image.shape[2])
        ]
        np.testing.assert_allclose(
            image_entropy(images, channel_mean=True)[i], np.mean(per_channel), atol=1e-12
        )
        height, width = image.shape[:2]
        variation = sum(
            np.abs(wide[i, y, x] - wide[i, v, u]).sum()
            for y in range(height)
            for x in range(width)
            for v, u in ((y + 1, x), (y, x + 1))
            if v < height and u < width
        )
        assert total_variation(images)[i] == variation
        np.testing.assert_allclose(image_l2_norm(images)[i], np.sqrt((wide[i] ** 2).sum()))
        assert image_compressed_size(images)[i] == len(zlib.compress(image.tobytes(), 9))


def test_the_buffer_is_read_by_rows_whatever_its_memory_order():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    stored_otherwise = np.asfortranarray(images)
    np.testing.assert_array_equal(
        image_compressed_size(images), image_compressed_size(stored_otherwise)
    )


@pytest.mark.parametrize("function", [image_entropy, total_variation, image_l2_norm])
def test_blocks_do_not_show(monkeypatch, function):
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), dtype=np.uint8)
    whole = function(images)
    monkeypatch.setattr(module, "_BLOCK", 3)
    np.testing.assert_array_equal(function(images), whole)


OF_IMAGES = [image_entropy, image_compressed_size, total_variation, image_l2_norm]


@pytest.mark.parametrize("function", OF_IMAGES)
def test_pixels_that_are_no_bytes_are_refused(function):
    """In 0 to 1 their differences, for one, would all be cut off to 0."""
    images = np.random.default_rng(0).random((5, 4, 4, 3))
    with pytest.raises(ValueError, match="images as uint8, 0 to 255; got float64"):
        inspect.unwrap(function)(images)


@given(images=pictures)
def test_a_png_of_that_size_holds_the_image(images):
    """The bytes counted are those of a file from which the image can be read back."""
    sizes = image_compressed_size(images, codec="png")
    for image, size in zip(images, sizes, strict=True):
        picture = Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)
        file = io.BytesIO()
        picture.save(file, format="png", compress_level=9)
        assert len(file.getvalue()) == size
        np.testing.assert_array_equal(np.asarray(Image.open(file)).reshape(image.shape), image)


def test_a_png_sees_that_neighboring_pixels_are_alike():
    """A slope that no byte repeats: nothing for zlib, one number for a filter."""
    slope = np.add.outer(3 * np.arange(32), 5 * np.arange(32)).astype(np.uint8)[None, :, :, None]
    noise = np.random.default_rng(0).permuted(slope.ravel()).reshape(slope.shape)
    png = METRICS["image_compressed_size.png"].function
    assert png(slope)[0] < image_compressed_size(noise)[0] / 4
    assert png(noise)[0] > 4 * png(slope)[0]


def test_a_png_of_two_channels_is_refused():
    with pytest.raises(ValueError, match="1, 3 or 4 channels for a PNG; got 2"):
        image_compressed_size(np.zeros((1, 2, 2, 2), np.uint8), codec="png")


def test_noise_has_more_of_everything_than_a_flat_image():
    flat = np.full((1, 16, 16, 3), 128, dtype=np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, flat.shape, dtype=np.uint8)
    for function in (image_entropy, image_compressed_size, total_variation):
        assert function(noise)[0] > function(flat)[0]
    assert image_entropy(flat).tolist() == [0.0]
    assert total_variation(flat).tolist() == [0.0]
