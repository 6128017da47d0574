"""Datasets of image files, one folder for each class."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from hardness.data.image_files import ImageFiles, Picture, contents, decoded, decoding_threads
from hardness.data.options import DatasetOptions
from hardness.data.source import MOMENTS, Ids, Images, Part, Source, stack
from hardness.seeding import raw_bits

IMAGENET_SIZE = 224


def imagefolder(options: DatasetOptions) -> Source:
    """Images in ``<class>/``, or in ``train/<class>/`` with a test set in ``val`` or ``test``."""
    place = options.place
    train = place / "train" if (place / "train").is_dir() else place
    classes, index = _classes(train, f"{place}: expected images in train/<class>/ or <class>/")
    tests = [place / name for name in ("val", "test")] if train != place else []
    test = next((path for path in tests if _class_folders(path)), None)
    _check_cache_folder(options, train)
    return Source(
        classes=tuple(classes),
        train=_folder_part(train, index, options),
        test=(lambda: _folder_test(test, index, options)) if test else None,
    )


def imagenet(options: DatasetOptions) -> Source:
    """ImageNet in the folders of PyTorch's examples; all images stay on disk."""
    options = dataclasses.replace(options, image_size=options.image_size or IMAGENET_SIZE)
    train, val = options.place / "train", options.place / "val"
    classes, index = _classes(train, f"{options.place}: expected images in train/<wnid>/")
    _check_cache_folder(options, train)

    def test() -> Part:
        if not _class_folders(val):
            raise ValueError(
                f"{val}: expected its images sorted into val/<wnid>/, as train is; got them all "
                "in one folder. Sort them by the development kit's ground truth, or set "
                "validation: {split: 0.05}"
            )
        return dataclasses.replace(_folder_test(val, index, options), on_disk=True)

    has_val = val.is_dir() and any(val.iterdir())
    return Source(
        classes=tuple(classes),
        train=dataclasses.replace(_folder_part(train, index, options), on_disk=True),
        test=test if has_val else None,
    )


def _classes(folder: Path, expected: str) -> tuple[list[str], dict[str, int]]:
    from torchvision.datasets.folder import find_classes  # noqa: PLC0415 - slow

    try:
        return find_classes(folder)
    except OSError as error:
        # torchvision's message if the folder is empty, the system's if the folder is missing.
        got = f"{error.strerror}: {error.filename}" if error.strerror else str(error)
        raise ValueError(f"{expected}; got: {got}") from error


def _class_folders(folder: Path) -> bool:
    return any(path.is_dir() for path in folder.glob("*"))


def _check_cache_folder(options: DatasetOptions, train: Path) -> None:
    folder = options.cache_place
    if folder is not None and folder.is_relative_to(train):
        raise ValueError(
            f"cache: expected a folder outside {train}, where each folder is a class; got {folder}"
        )


def _folder_test(folder: Path, index: dict[str, int], options: DatasetOptions) -> Part:
    from torchvision.datasets.folder import find_classes  # noqa: PLC0415 - slow

    unknown = sorted(set(find_classes(folder)[0]) - set(index))
    if unknown:
        raise ValueError(f"{folder}: expected the classes of train; got also {unknown[0]!r}")
    part = _folder_part(folder, index, options, allow_empty=True)
    if not len(part.labels):
        raise ValueError(f"{folder}: expected images in <class>/; got none")
    return part


def _folder_part(
    folder: Path, index: dict[str, int], options: DatasetOptions, *, allow_empty: bool = False
) -> Part:
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset  # noqa: PLC0415 - slow

    try:
        found = make_dataset(folder, index, extensions=IMG_EXTENSIONS, allow_empty=allow_empty)
    except FileNotFoundError as error:
        raise ValueError(f"{folder}: expected images in every <class>/; got: {error}") from error
    place, size = options.place, options.image_size
    threads = options.decode_threads or decoding_threads()

    def pixels(ids: Ids) -> Images:
        names = [found[i][0] for i in ids]
        pictures = _read_in_threads(names, size, threads)
        advice = "; set image_size, to read them from disk" if size is None else ""
        return stack(pictures, len(ids), str(place), sizes="; set image_size", memory=advice)

    def files(ids: Ids) -> ImageFiles:
        assert size is not None
        names = [found[i][0] for i in ids]
        with ThreadPoolExecutor(threads) as pool:  # each size may take a network round trip
            sizes = np.fromiter(pool.map(os.path.getsize, names, chunksize=256), np.int64)
        return ImageFiles(
            root=place,
            names=np.array([os.fsencode(os.path.relpath(name, place)) for name in names]),
            sizes=sizes,
            ids=ids,
            priorities=raw_bits(len(found), options.data_seed, MOMENTS)[ids],
            image_size=size,
            threads=threads,
        )

    return Part(
        labels=np.array([label for _, label in found], dtype=np.int64),
        pixels=pixels,
        files=None if size is None else files,
    )


def _read_in_threads(
    names: Sequence[str], image_size: int | None, threads: int, block: int = 256
) -> Iterator[tuple[str, Picture]]:
    """Name and pixels of each file; the threads decode at most one block ahead."""

    def picture(name: str) -> tuple[str, Picture]:
        return name, decoded(name, contents(Path(name)), image_size)

    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(names), block):
            yield from pool.map(picture, names[first : first + block])
