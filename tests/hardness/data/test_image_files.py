"""Images on disk: the same bits however they are read, and what happens when one cannot be."""

import dataclasses
import multiprocessing
import pickle
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hardness.data import image_files
from hardness.data.datasets import load
from hardness.data.image_files import AHEAD, Cache, ImageFiles
from hardness.data.options import DatasetOptions
from hardness.metrics.registry import METRICS
from hardness.models.options import Augmentation, ModelOptions
from hardness.scoring.images import score_images
from hardness.seeding import Streams
from hardness.training.contrastive import contrastive
from hardness.training.options import Contrastive, Supervised, TrainOptions
from hardness.training.pixels import Pixels
from hardness.training.supervised import supervised
from tests.photographs import wnid, write_imagenet

SIZE = 24
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_imagenet(tmp_path_factory.mktemp("imagenet"))


def options(root, name="imagenet", **changes):
    return DatasetOptions(name=name, root=str(root), image_size=SIZE, **changes)


@pytest.fixture(scope="module")
def on_disk(root):
    return load(options(root, decode_threads=2))


@pytest.fixture(scope="module")
def in_memory(root):
    return load(options(root, name="imagefolder"))


def everything(samples):
    return samples.read(torch.arange(len(samples)))


class TestReading:
    def test_equals_memory_bit_for_bit(self, on_disk, in_memory):
        assert isinstance(on_disk.train.images, ImageFiles)
        assert isinstance(in_memory.train.images, torch.Tensor)
        assert on_disk.classes == in_memory.classes == tuple(map(wnid, range(12)))
        for part in ("train", "validation"):
            files, tensors = getattr(on_disk, part), getattr(in_memory, part)
            assert files.images.shape == tensors.images.shape
            assert files.labels.equal(tensors.labels)
            assert files.sample_ids.equal(tensors.sample_ids)
            assert everything(files).equal(tensors.images)

    def test_grey_has_three_equal_channels_and_cmyk_is_rgb(self, on_disk, root):
        def image(label, i):
            name = f"train/{wnid(label)}/{wnid(label)}_{i}.JPEG".encode()
            (row,) = np.flatnonzero(on_disk.train.images.names == name)
            return on_disk.train.read(torch.tensor([row]))[0]

        grey = image(0, 3)
        assert grey[0].equal(grey[1])
        assert grey[0].equal(grey[2])
        with Image.open(root / "train" / wnid(1) / f"{wnid(1)}_2.JPEG") as stored:
            assert stored.mode == "CMYK"
            short = min(stored.size)
            scaled = [round(side * SIZE / short) for side in stored.size]
        assert min(scaled) == SIZE
        assert not image(1, 2)[0].equal(image(1, 2)[1])

    @pytest.mark.parametrize("threads", [1, 4])
    def test_does_not_depend_on_the_number_of_threads(self, on_disk, threads):
        files = dataclasses.replace(on_disk.train.images, threads=threads)
        order = torch.randperm(len(files), generator=torch.manual_seed(3))
        found = torch.cat([*files.batches(order.split(50))])
        assert found.equal(everything(on_disk.train)[order])

    def test_survives_a_pickle(self, on_disk):
        files = pickle.loads(pickle.dumps(on_disk.train.images))
        assert files.read(torch.arange(5)).equal(on_disk.train.read(torch.arange(5)))
        assert len(pickle.dumps(files)) < 200 * len(files)

    def test_gives_rows_in_the_order_asked_for_and_takes_subsets(self, on_disk):
        files, rows = on_disk.train.images, torch.tensor([70, 3, 3, 300])
        whole = everything(on_disk.train)
        assert files.read(rows).equal(whole[rows])
        assert files.take(rows).read(torch.tensor([3, 0])).equal(whole[[300, 70]])
        assert files.take(rows).ids.tolist() == on_disk.train.sample_ids[rows].tolist()
        assert files.read(rows[:0]).shape == (0, 3, SIZE, SIZE)


class TestScoring:
    def test_metrics_of_the_images_equal_those_in_memory(self, on_disk, in_memory, monkeypatch):
        keys = [key for key, metric in METRICS.items() if metric.scope == "pixels"]
        assert {"image_entropy", "image_compressed_size.png", "lid_mle_pixels"} <= {*keys}
        expected = score_images(keys, in_memory.train)
        # Blocks that do not divide the number of samples.
        monkeypatch.setattr("hardness.scoring.images._IMAGES", 50)
        monkeypatch.setattr("hardness.scoring.images._A_TASK", 16)
        found = score_images(keys, on_disk.train)
        assert {*found} == {*expected} == {*keys}
        for key in keys:
            np.testing.assert_array_equal(found[key], expected[key])


class TestReadingAhead:
    @pytest.fixture
    def decoded_names(self, monkeypatch):
        """Names in the order in which their decoding ends."""
        names, decode = [], image_files.decoded

        def listening(name, *rest):
            found = decode(name, *rest)
            names.append(name)
            return found

        monkeypatch.setattr(image_files, "decoded", listening)
        return names

    def test_the_next_batches_are_decoded_while_the_caller_works(self, on_disk, decoded_names):
        batches = on_disk.train.images.batches(torch.arange(100).split(10))
        next(batches)
        wait_until(lambda: len(decoded_names) == 10 * (1 + AHEAD))
        time.sleep(0.05)
        # And no further: memory is bounded.
        assert len(decoded_names) == 10 * (1 + AHEAD)
        next(batches)
        wait_until(lambda: len(decoded_names) == 10 * (2 + AHEAD))
        batches.close()
        assert not decoders()

    def test_nothing_goes_on_after_the_caller_has_left(self, on_disk, monkeypatch):
        decode, started = image_files.decoded, []

        def slow(*arguments):
            started.append(arguments[0])
            time.sleep(0.01)
            return decode(*arguments)

        monkeypatch.setattr(image_files, "decoded", slow)
        batches = on_disk.train.images.batches(torch.arange(300).split(100))
        next(batches)
        batches.close()
        assert not decoders()
        assert len(started) < 150


def decoders():
    return [t for t in threading.enumerate() if t.name.startswith("decoder")]


def wait_until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


class TestUnfitFiles:
    @pytest.fixture
    def broken(self, tmp_path):
        write_imagenet(tmp_path, classes=3, train=6, val=2)
        path = tmp_path / "train" / wnid(1) / f"{wnid(1)}_4.JPEG"
        path.write_bytes(path.read_bytes()[:300])
        return tmp_path, path

    def test_a_broken_file_is_one_error_that_names_it(self, broken):
        root, path = broken
        train = load(options(root)).train
        batches = train.images.batches(torch.arange(18).split(4))
        assert len(next(batches)) == 4
        assert len(next(batches)) == 4
        with pytest.raises(ValueError, match=r": expected an image; ") as caught:
            list(batches)
        assert str(caught.value).startswith(f"{path} (sample 10): expected an image; ")
        assert not decoders()

    def test_training_ends_with_that_error(self, broken):
        root, path = broken
        records = supervised(load(options(root)), ModelOptions(name="mlp", width=4), Supervised(),
                             Streams(seed=0))  # fmt: skip
        with pytest.raises(ValueError, match=f"{path.name} .sample 10.: expected an image"):
            next(records)

    def test_a_file_that_is_gone_is_an_error_of_the_disk(self, broken):
        root, path = broken
        train = load(options(root)).train
        path.unlink()
        with pytest.raises(FileNotFoundError, match=path.name):
            everything(train)


class TestDigest:
    def test_follows_names_sizes_labels_and_decoding_not_the_place(self, tmp_path, on_disk):
        moved = tmp_path / "moved"
        write_imagenet(moved)
        digest = load(options(moved)).digest
        assert digest == on_disk.digest
        assert (
            digest != load(DatasetOptions(name="imagenet", root=str(moved), image_size=23)).digest
        )
        path = moved / "val" / wnid(0) / f"{wnid(0)}_0.JPEG"
        path.write_bytes(path.read_bytes() + b"\0")
        longer = load(options(moved)).digest
        assert longer != digest
        path.rename(path.with_name("another.JPEG"))
        assert load(options(moved)).digest not in (longer, digest)

    def test_a_class_of_another_name_is_another_dataset(self, tmp_path, on_disk):
        write_imagenet(tmp_path)
        for part in ("train", "val"):
            (tmp_path / part / wnid(3)).rename(tmp_path / part / "n10000022")
        found = load(options(tmp_path))
        assert found.train.labels.equal(on_disk.train.labels)
        assert found.digest != on_disk.digest

    def test_reads_no_pixel(self, root, monkeypatch):
        monkeypatch.setattr(image_files, "decoded", None)
        assert len(load(options(root)).digest) == 64

    def test_threads_and_cache_are_no_part_of_it(self, root, tmp_path, on_disk):
        assert load(options(root, decode_threads=7)).digest == on_disk.digest
        assert load(options(root, cache=str(tmp_path))).digest == on_disk.digest

    def test_never_changes_between_versions(self, tmp_path):
        # A change would silently train other runs of the same data.
        for part, name in (("train", "a"), ("train", "b"), ("val", "a")):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / part / name / "0.bmp")
        digest = load(options(tmp_path)).digest
        assert digest[:16] == "907a612251ed7e63"


class TestMoments:
    def test_are_those_of_all_images_where_there_are_few(self, on_disk, in_memory):
        files, tensors = (Pixels(d.train.images, CPU) for d in (on_disk, in_memory))
        assert files.mean.equal(tensors.mean)
        assert files.std.equal(tensors.std)

    def test_are_those_of_a_fixed_subset_where_there_are_many(self, root, monkeypatch):
        monkeypatch.setattr("hardness.training.pixels.MOMENTS_FROM", 100)
        first, again, other = (load(options(root, data_seed=s)).train for s in (0, 0, 1))
        rows = first.images.sample(100)
        assert rows.tolist() == sorted({*rows.tolist()})
        found = Pixels(first.images, CPU)
        assert found.mean.equal(Pixels(first.read(rows), CPU).mean)
        assert found.mean.equal(Pixels(again.images, CPU).mean)
        assert not found.mean.equal(Pixels(other.images, CPU).mean)

    def test_a_sample_is_drawn_or_not_whatever_subset_it_is_in(self, on_disk):
        files = on_disk.train.images
        half = files.take(torch.arange(0, len(files), 2))
        drawn = {*files.ids[files.sample(100)].tolist()}
        assert drawn & {*half.ids.tolist()} <= {*half.ids[half.sample(100)].tolist()}


@pytest.mark.parametrize(("size", "expected"), [(32, 512), (104, 512), (224, 111), (4097, 1)])
def test_of_large_images_fewer_are_evaluated_at_once(on_disk, size, expected):
    files = dataclasses.replace(on_disk.train.images, image_size=size)
    like = Pixels(on_disk.train.images, CPU)
    assert Pixels(files, CPU, like=like).eval_batch == expected


def test_blocks_cover_all_images_in_order(on_disk, monkeypatch):
    monkeypatch.setattr("hardness.training.pixels._EVAL_NUMBERS", 7 * 3 * SIZE * SIZE)
    pixels = Pixels(on_disk.train.images, CPU)
    blocks = [*pixels.blocks()]
    assert {len(block) for block in blocks[:-1]} == {7}
    assert (torch.cat(blocks) * 255).round().to(torch.uint8).equal(everything(on_disk.train))


def trained(dataset, regimen, **more):
    torch.manual_seed(0)
    model = ModelOptions(name="small_cnn", width=4)
    train = TrainOptions(max_epochs=2, batch_size=50, lr=0.05)
    kind = {supervised: Supervised, contrastive: Contrastive}[regimen]
    augmentation = Augmentation(crop_scale=(0.5, 1.0), flip=0.5)
    chosen = kind(train=train, augmentation=augmentation)
    return list(regimen(dataset, model, chosen, Streams(seed=1), **more))


def bits(record):
    arrays = {**record.signals, **record.snapshots}
    numbers = {k: v for k, v in record.summary.items() if not k.endswith("seconds")}
    return {k: np.ascontiguousarray(v).tobytes() for k, v in arrays.items()}, numbers


class TestTraining:
    @pytest.mark.parametrize("regimen", [supervised, contrastive])
    def test_on_disk_cached_and_in_memory_are_the_same_bits(
        self, regimen, on_disk, in_memory, root, tmp_path
    ):
        expected = [bits(record) for record in trained(in_memory, regimen)]
        assert [bits(record) for record in trained(on_disk, regimen)] == expected
        cached = load(options(root, cache=str(tmp_path), decode_threads=4))
        assert [bits(record) for record in trained(cached, regimen)] == expected

    def test_goes_on_after_a_break_to_the_same_bits(self, on_disk):
        records = trained(on_disk, supervised)
        whole = [bits(record) for record in records]
        # Every record's checkpoint is of its own moment, so it is taken while the training runs.
        halted: Any = supervised(
            on_disk,
            ModelOptions(name="small_cnn", width=4),
            Supervised(
                train=TrainOptions(max_epochs=2, batch_size=50, lr=0.05),
                augmentation=Augmentation(crop_scale=(0.5, 1.0), flip=0.5),
            ),
            Streams(seed=1),
        )
        next(halted)
        checkpoint = next(halted).checkpoint()
        halted.close()
        assert not decoders()
        resumed = trained(on_disk, supervised, resume=checkpoint)
        assert [bits(record) for record in resumed] == whole[2:]


class TestCache:
    def files(self, folder):
        return sorted(p.name for p in folder.iterdir())

    def test_holds_the_decoded_images_as_a_numpy_array(self, root, tmp_path, on_disk):
        cached = load(options(root, cache=str(tmp_path)))
        train, val = (c.path for c in cached.caches)
        assert self.files(tmp_path) == sorted([train.name, val.name])
        assert (np.load(train) == everything(on_disk.train).numpy()).all()
        assert sum(c.nbytes for c in cached.caches) == sum(p.stat().st_size for p in (train, val))
        assert [c.missing_bytes for c in cached.caches] == [0, 0]

    def test_is_read_instead_of_the_files(self, tmp_path):
        root = write_imagenet(tmp_path / "data", classes=2, train=5, val=1)
        cached = load(options(root, cache=True))
        expected = everything(cached.train)
        assert cached.caches[0].path.parent == root / "cache"
        for path in (root / "train").glob("*/*"):
            path.write_bytes(b"\0" * path.stat().st_size)
        again = load(options(root, cache=True))
        assert again.digest == cached.digest
        assert everything(again.train).equal(expected)

    def test_serves_subsets_and_splits(self, root, tmp_path, on_disk):
        split = load(options(root, subset=200, cache=str(tmp_path)), 0.25)
        assert len(split.caches) == 1
        assert len(split.caches[0].images) == 200
        whole = everything(on_disk.train)
        for part in (split.train, split.validation):
            assert everything(part).equal(whole[part.sample_ids])

    def test_is_written_once(self, root, tmp_path, monkeypatch):
        load(options(root, cache=str(tmp_path)))
        before = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
        monkeypatch.setattr(image_files, "decoded", None)
        load(options(root, cache=str(tmp_path)))
        assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before

    def test_is_not_written_where_only_asked_about(self, root, tmp_path):
        there = tmp_path / "not" / "yet"
        planned = load(options(root, cache=str(there)), write_cache=False)
        assert not (tmp_path / "not").exists()
        assert all(c.missing_bytes == c.nbytes > 0 for c in planned.caches)
        assert planned.caches[0].free_bytes > 0
        # Until it is there the files are read.
        assert planned.train.read(torch.tensor([0])).shape == (1, 3, SIZE, SIZE)

    def test_is_refused_in_one_line_where_it_does_not_fit(self, root, tmp_path, monkeypatch):
        monkeypatch.setattr(Cache, "free_bytes", property(lambda _cache: 2**20 // 2))
        message = r"cache: expected 0\.0 GiB free at .* for 420 decoded images; got 0\.0 GiB"
        with pytest.raises(ValueError, match=message):
            load(options(root, cache=str(tmp_path)))
        assert self.files(tmp_path) == []

    @pytest.mark.parametrize("kept", [0, 50, 10_000, 200_000])
    def test_goes_on_with_what_a_writer_left(self, root, tmp_path, monkeypatch, on_disk, kept):
        monkeypatch.setattr(image_files, "CACHE_BLOCK", 20)
        cache = load(options(root, cache=str(tmp_path)), write_cache=False).caches[0]
        cache.write()
        whole, partial = cache.path.read_bytes(), cache.path.with_suffix(".partial")
        cache.path.unlink()
        # The tail of what was written is garbage, as after a power cut.
        rows = max(0, (kept - 128) // (3 * SIZE * SIZE))
        trusted = 128 + max(0, rows - 20) * 3 * SIZE * SIZE if rows > 20 else 0
        partial.write_bytes(whole[:trusted] + b"\xff" * (kept - trusted))
        told = []
        cache.write(told.append)
        assert cache.path.read_bytes() == whole
        assert told[-1] == len(on_disk.train)
        assert len(told) == -(-(len(on_disk.train) - max(0, rows - 20)) // 20)
        assert self.files(tmp_path) == [cache.path.name]

    def test_a_broken_file_leaves_no_cache_that_passes_for_whole(self, tmp_path):
        root = write_imagenet(tmp_path / "data", classes=2, train=5, val=1)
        (root / "train" / wnid(1) / f"{wnid(1)}_4.JPEG").write_bytes(b"no image")
        with pytest.raises(ValueError, match=r"sample 9.*expected an image"):
            load(options(root, cache=True))
        assert [p.suffix for p in (root / "cache").iterdir()] == [".partial"]

    def test_two_writers_at_once_leave_one_whole_file(self, root, tmp_path):
        processes = multiprocessing.get_context("spawn")
        writers = [processes.Process(target=write, args=(str(root), str(tmp_path))) for _ in "ab"]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(120)
            assert writer.exitcode == 0
        cached = load(options(root, cache=str(tmp_path)), write_cache=False)
        assert self.files(tmp_path) == sorted(c.path.name for c in cached.caches)
        assert everything(cached.train).equal(everything(load(options(root)).train))

    def test_lies_outside_the_classes(self, tmp_path):
        write_imagenet(tmp_path / "data", classes=2, train=2, val=1)
        classes = tmp_path / "data" / "train"
        message = f"cache: expected a folder outside {classes}, where each folder is a class; got "
        with pytest.raises(ValueError, match=message):
            load(DatasetOptions(name="imagefolder", root=str(classes), cache=True))

    def test_its_options_are_checked(self):
        with pytest.raises(ValueError, match="cache: expected true, or a folder; got ''"):
            DatasetOptions(name="imagenet", root=".", cache="")
        with pytest.raises(ValueError, match="cache: expected only with imagefolder, imagenet"):
            DatasetOptions(name="digits", cache=True)
        with pytest.raises(ValueError, match="decode_threads: expected at least 1; got 0"):
            DatasetOptions(name="imagenet", root=".", decode_threads=0)


def write(root, folder):
    load(DatasetOptions(name="imagenet", root=root, image_size=SIZE, cache=folder))


class TestLayout:
    def test_images_are_of_224_pixels_unless_told(self, root):
        found = load(DatasetOptions(name="imagenet", root=str(root)))
        assert found.train.images.shape == (360, 3, 224, 224)
        assert found.validation.images.shape == (60, 3, 224, 224)

    def test_a_flat_val_folder_is_explained(self, tmp_path):
        write_imagenet(tmp_path, classes=2, train=4, val=1)
        for path in [*(tmp_path / "val").glob("*/*")]:
            path.rename(tmp_path / "val" / path.name)
        for folder in [*(tmp_path / "val").glob("n*[0-9]")]:
            folder.rmdir()
        message = r"val: expected its images sorted into val/<wnid>/, as train is; got them all in"
        with pytest.raises(ValueError, match=message):
            load(options(tmp_path))
        assert len(load(options(tmp_path), 0.25).validation) == 2

    def test_without_val_a_tenth_is_split_off(self, tmp_path):
        write_imagenet(tmp_path, classes=2, train=10, val=0)
        for folder in [*(tmp_path / "val").iterdir(), tmp_path / "val"]:
            folder.rmdir()
        assert len(load(options(tmp_path)).validation) == 2

    def test_says_what_it_looked_for(self, tmp_path):
        with pytest.raises(ValueError, match=r"expected images in train/<wnid>/; .*train"):
            load(options(tmp_path))

    def test_a_large_imagefolder_stays_on_disk(self, root, monkeypatch, in_memory):
        size = in_memory.train.images.numel() / 2**30
        monkeypatch.setattr("hardness.data.source.MEMORY_LIMIT_GIB", size)
        held = load(options(root, name="imagefolder"))
        assert isinstance(held.train.images, torch.Tensor)
        monkeypatch.setattr("hardness.data.source.MEMORY_LIMIT_GIB", size * 0.999)
        found = load(options(root, name="imagefolder"))
        # The smaller test set as well, although it would fit.
        assert isinstance(found.train.images, ImageFiles)
        assert isinstance(found.validation.images, ImageFiles)
        assert everything(found.train).equal(in_memory.train.images)

    def test_only_a_large_test_set_stays_on_disk(self, tmp_path, monkeypatch):
        write_imagenet(tmp_path, classes=2, train=2, val=9)
        limit = 4 * 3 * SIZE * SIZE / 2**30
        monkeypatch.setattr("hardness.data.source.MEMORY_LIMIT_GIB", limit)
        found = load(options(tmp_path, name="imagefolder"))
        assert isinstance(found.train.images, torch.Tensor)
        assert isinstance(found.validation.images, ImageFiles)
        assert found.validation.images.shape[1:] == found.train.images.shape[1:]
