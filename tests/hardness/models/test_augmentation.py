"""Augmentation: known by hand, and the same for a sample in whatever batch."""

import pytest
import torch

from hardness.models.augmentation import augment, draw
from hardness.models.options import Augmentation

EVERYTHING = Augmentation(
    pad=2,
    crop_scale=(0.2, 1.0),
    flip=0.5,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    grayscale=0.2,
)
MOVES = Augmentation(pad=2, flip=0.5)
SHAPES = [(3, 32, 32), (1, 8, 8), (3, 5, 7)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(n, shape, *, dtype=torch.uint8):
    images = torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator(9))
    return images if dtype == torch.uint8 else images.to(dtype) / 255


def parameters(augmentation, **values):
    """One row: the given numbers, 0.5 elsewhere."""
    return torch.tensor([[values.get(c, 0.5) for c in augmentation.columns]])


class TestIdentity:
    def test_off_returns_the_images_themselves(self):
        images = random_images(2, (3, 4, 4), dtype=torch.float32)
        off = Augmentation()
        assert augment(off, images, draw(off, 2, generator())) is images

    def test_off_draws_nothing(self):
        used = generator()
        assert draw(Augmentation(), 5, used).shape == (5, 0)
        assert used.get_state().equal(generator().get_state())

    def test_uint8_is_scaled_to_0_to_1(self):
        images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3)
        off = Augmentation()
        result = augment(off, images, draw(off, 1, generator()))
        assert result.flatten().tolist() == pytest.approx([0, 0.2, 1])

    @pytest.mark.parametrize("shape", SHAPES)
    def test_a_full_crop_changes_nothing_but_rounding(self, shape):
        images = random_images(16, shape, dtype=torch.float32)
        full = Augmentation(crop_scale=(1.0, 1.0))
        result = augment(full, images, draw(full, 16, generator()))
        torch.testing.assert_close(result, images, atol=1e-5, rtol=0)

    @pytest.mark.parametrize(
        "colour",
        [Augmentation(brightness=0.4), Augmentation(contrast=0.4), Augmentation(saturation=0.4)],
    )
    def test_a_factor_of_one_changes_nothing(self, colour):
        images = random_images(1, (3, 4, 4), dtype=torch.float32)
        torch.testing.assert_close(augment(colour, images, parameters(colour)), images)

    def test_the_input_is_never_written_to(self):
        images = random_images(8, (3, 8, 8), dtype=torch.float32)
        before = images.clone()
        for augmentation in (EVERYTHING, Augmentation(contrast=0.5), Augmentation(grayscale=1.0)):
            augment(augmentation, images, draw(augmentation, 8, generator()))
            assert images.equal(before)


class TestByHand:
    def test_flip_mirrors_columns(self):
        images = torch.arange(6, dtype=torch.float32).view(1, 1, 2, 3) / 5
        flip = Augmentation(flip=0.5)
        assert augment(flip, images, parameters(flip, flip=0.49)).equal(images.flip(-1))
        assert augment(flip, images, parameters(flip, flip=0.5)).equal(images)

    def test_flip_folded_into_a_full_crop_mirrors_columns(self):
        images = random_images(1, (3, 6, 8), dtype=torch.float32)
        both = Augmentation(flip=1.0, crop_scale=(1.0, 1.0))
        result = augment(both, images, parameters(both))
        torch.testing.assert_close(result, images.flip(-1), atol=1e-5, rtol=0)

    @pytest.mark.parametrize(
        ("y", "x", "expected"),
        [
            (0.5, 0.5, [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
            (0.0, 0.5, [[3, 4, 5], [0, 1, 2], [3, 4, 5]]),  # up by one, row 1 reflected
            (0.5, 0.99, [[1, 2, 1], [4, 5, 4], [7, 8, 7]]),
        ],
    )
    def test_shift_reflects_at_the_edge(self, y, x, expected):
        images = torch.arange(9, dtype=torch.float32).view(1, 1, 3, 3) / 8
        shift = Augmentation(pad=1)
        result = augment(shift, images, parameters(shift, shift_y=y, shift_x=x)) * 8
        assert result[0, 0].round().int().tolist() == expected

    def test_shift_is_padding_by_reflection_and_cropping(self):
        images = random_images(50, (3, 8, 6), dtype=torch.float32)
        shift = Augmentation(pad=3)
        u = draw(shift, 50, generator())
        padded = torch.nn.functional.pad(images, (3, 3, 3, 3), mode="reflect")
        top, left = (u * 7).long().unbind(1)
        result = augment(shift, images, u)
        for i in range(50):
            assert result[i].equal(padded[i, :, top[i] : top[i] + 8, left[i] : left[i] + 6])

    def test_every_offset_is_equally_likely(self):
        row = torch.arange(5, dtype=torch.float32).view(1, 1, 1, 5).expand(6000, 1, 5, 5) / 4
        shift = Augmentation(pad=2)
        centre = augment(shift, row, draw(shift, 6000, generator()))[:, 0, 2, 2] * 4
        counts = centre.round().long().bincount()
        assert len(counts) == 5
        assert (abs(counts - 1200) < 150).all()

    def test_a_quarter_crop_enlarges_one_corner(self):
        # Each quadrant is constant, so the inside of a quadrant's crop is, too.
        images = torch.tensor([[0.1, 0.2], [0.3, 0.4]]).repeat_interleave(4, 0)
        images = images.repeat_interleave(4, 1)[None, None]
        crop = Augmentation(crop_scale=(0.25, 0.25))
        result = augment(crop, images, parameters(crop, top=1.0, left=0.0))
        torch.testing.assert_close(result[0, 0, 1:, :-1], torch.full((7, 7), 0.3))

    @pytest.mark.parametrize(("aspect", "expected"), [(0.0, 3 / 4), (0.5, 1.0), (1.0, 4 / 3)])
    def test_aspect_runs_from_three_quarters_to_four_thirds(self, aspect, expected):
        # On two ramps the result's slope is the crop's width or height.
        ramp = (torch.arange(64, dtype=torch.float32) + 0.5) / 64
        images = torch.stack((ramp.expand(64, 64), ramp[:, None].expand(64, 64)))[None]
        crop = Augmentation(crop_scale=(0.3, 0.3))
        x, y = augment(crop, images, parameters(crop, aspect=aspect))[0]
        width, height = (x[0, 40] - x[0, 20]) * 3.2, (y[40, 0] - y[20, 0]) * 3.2
        assert float(width / height) == pytest.approx(expected, rel=1e-4)
        assert float(width * height) == pytest.approx(0.3, rel=1e-4)

    def test_colour_factors(self):
        rgb = (0.2, 0.4, 0.6)
        images = torch.tensor(rgb).view(1, 3, 1, 1).expand(1, 3, 2, 2)
        grey = 0.2989 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6
        for colour, u, expected in (
            (Augmentation(brightness=0.5), 1.0, [1.5 * v for v in rgb]),
            (Augmentation(brightness=0.5), 0.0, [0.5 * v for v in rgb]),
            (Augmentation(contrast=0.5), 1.0, [grey + 1.5 * (v - grey) for v in rgb]),
            (Augmentation(saturation=0.5), 1.0, [grey + 1.5 * (v - grey) for v in rgb]),
            (Augmentation(grayscale=0.5), 0.49, [grey] * 3),
            (Augmentation(grayscale=0.5), 0.5, rgb),
        ):
            result = augment(colour, images, torch.tensor([[u]]))
            assert result[0, :, 1, 1].tolist() == pytest.approx(expected, abs=2e-5)

    def test_contrast_pulls_towards_the_mean_over_pixels(self):
        images = torch.tensor([0.0, 0.2, 0.4, 1.0]).view(1, 1, 2, 2)
        grey = Augmentation(contrast=1.0)
        result = augment(grey, images, parameters(grey, contrast=0.0))
        assert result.flatten().tolist() == pytest.approx([0.4] * 4, abs=1e-5)

    def test_one_channel_skips_what_needs_colours(self):
        images = random_images(4, (1, 4, 4), dtype=torch.float32)
        colour = Augmentation(saturation=1.0, grayscale=1.0)
        assert augment(colour, images, draw(colour, 4, generator())).equal(images)


class TestSameForASample:
    @pytest.mark.parametrize("augmentation", [EVERYTHING, MOVES], ids=["everything", "moves"])
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_whatever_the_batch(self, shape, dtype, augmentation):
        images = random_images(67, shape, dtype=dtype)
        drawn = draw(augmentation, 67, generator())
        together = augment(augmentation, images, drawn)
        for rows in (*torch.arange(67).split(1), torch.randperm(67, generator=generator())[:13]):
            assert augment(augmentation, images[rows], drawn[rows]).equal(together[rows])

    def test_whatever_the_number_of_threads(self):
        images, drawn = random_images(3, (3, 224, 224)), draw(EVERYTHING, 3, generator())
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            alone = augment(EVERYTHING, images, drawn)
            torch.set_num_threads(2)
            assert augment(EVERYTHING, images, drawn).equal(alone)
            assert augment(EVERYTHING, images[1:2], drawn[1:2]).equal(alone[1:2])
        finally:
            torch.set_num_threads(threads)

    def test_the_seed_decides(self):
        images = random_images(8, (3, 8, 8))
        a, again, other = (
            augment(EVERYTHING, images, draw(EVERYTHING, 8, generator(s))) for s in (1, 1, 2)
        )
        assert a.equal(again)
        assert not a.equal(other)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
    def test_whatever_the_batch_on_a_gpu(self):
        images, drawn = random_images(67, (3, 32, 32)).cuda(), draw(EVERYTHING, 67, generator())
        together = augment(EVERYTHING, images, drawn)
        for i in range(67):
            assert augment(EVERYTHING, images[i : i + 1], drawn[i : i + 1])[0].equal(together[i])


class TestBounds:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_results_stay_within_0_and_1(self, shape):
        strong = Augmentation(
            pad=4,
            crop_scale=(0.01, 1.0),
            flip=1.0,
            brightness=3.0,
            contrast=3.0,
            saturation=3.0,
            grayscale=0.5,
        )
        result = augment(strong, random_images(200, shape), draw(strong, 200, generator()))
        assert result.shape == (200, *shape)
        assert result.isfinite().all()
        assert result.min() >= 0
        assert result.max() <= 1

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_floats_become_float32(self, dtype):
        images = random_images(2, (3, 8, 8), dtype=torch.float32).to(dtype)
        drawn = draw(EVERYTHING, 2, generator())
        assert augment(EVERYTHING, images, drawn).equal(augment(EVERYTHING, images.float(), drawn))

    def test_no_samples_give_none(self):
        drawn = draw(EVERYTHING, 0, generator())
        assert augment(EVERYTHING, random_images(0, (3, 8, 8)), drawn).shape == (0, 3, 8, 8)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"pad": -1}, "pad: expected at least 0; got -1"),
            ({"flip": 1.5}, "flip: expected 0 to 1; got 1.5"),
            ({"grayscale": -0.5}, "grayscale: expected 0 to 1; got -0.5"),
            ({"brightness": -0.1}, "brightness: expected at least 0; got -0.1"),
            ({"contrast": float("nan")}, "contrast: expected at least 0; got nan"),
            ({"saturation": float("inf")}, "saturation: expected at least 0; got inf"),
            ({"crop_scale": (0.0, 1.0)}, r"crop_scale: .*; got \(0.0, 1.0\)"),
            ({"crop_scale": (0.9, 0.5)}, r"crop_scale: .*; got \(0.9, 0.5\)"),
            ({"crop_scale": (0.5, 1.5)}, r"crop_scale: .*; got \(0.5, 1.5\)"),
        ],
    )
    def test_refuses_numbers_out_of_range(self, options, message):
        with pytest.raises(ValueError, match=message):
            Augmentation(**options)

    def test_refuses_another_augmentations_parameters(self):
        with pytest.raises(ValueError, match="parameters: expected 11 columns; got 3"):
            augment(EVERYTHING, random_images(2, (3, 8, 8)), draw(MOVES, 2, generator()))

    def test_refuses_a_shift_beyond_the_image(self):
        shift = Augmentation(pad=8)
        with pytest.raises(ValueError, match="expected less than the image's 8 pixels; got 8"):
            augment(shift, random_images(2, (3, 8, 9)), draw(shift, 2, generator()))
