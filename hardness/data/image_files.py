"""Pixels out of image files: decoded one by one, or whenever they are asked for, in threads."""

import contextlib
import dataclasses
import fcntl
import hashlib
import io
import json
import math
import os
import shutil
import stat
import struct
import tokenize
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, Shaped, UInt8, UInt64
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from hardness.files import one_line

# Raised when the same files come to give other pixels.
DECODING_VERSION = 1
# Batches that are decoded while the caller works on another.
AHEAD = 2
# Images that are written to a cache at a time.
CACHE_BLOCK = 512
_CHANNELS = 3
_MOST_THREADS = 16
# Images that a thread decodes in a row: one at a time would cost more in handing out.
_A_TASK = 4
# The raster formats behind torchvision's extensions: others that PIL reads start programs.
_FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP")
# PIL only warns up to twice as many, and prints it beside our own line.
MOST_PIXELS = 89_478_485
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
MOST_BYTES = 1 << 28
# What PIL and its plugins raise at anything else than an image, and NumPy at anything else than
# an array; our own work stands outside of what catches it.
_NOT_AN_IMAGE = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError,
    EOFError, MemoryError, AssertionError, RuntimeError, struct.error,
    zlib.error,
)  # fmt: skip
Picture = UInt8[np.ndarray, "channels height width"]
_Rows = Int64[Tensor, " rows"]


def decoded(name: str, data: bytes | None, image_size: int | None = None) -> Picture:
    """Pixels of one encoded image: one channel if stored as 8-bit grey, else three.

    Args:
        name: Of the image, for errors.
        data: The file's bytes; None where there are none.
        image_size: Resize the shorter side to so many pixels and crop the centre.

    Raises:
        ValueError: If that is not an image, not one of 8 bits a channel, or one of more pixels
            than a small file should unfold to.
    """
    if data is None:
        raise ValueError(f"{name}: expected an image; got null")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _refuse_unfit(name, image)
            image.load()
            whole = image if image.mode in ("L", "RGB") else image.convert("RGB")
    except _UnfitError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{name}: expected at most {MOST_PIXELS} pixels; got more") from error
    except UnidentifiedImageError as error:
        formats = ", ".join(_FORMATS)
        raise ValueError(f"{name}: expected an image, one of {formats}; got none") from error
    except _NOT_AN_IMAGE as error:
        raise ValueError(
            f"{name}: expected an image; got a damaged one: {one_line(error)}"
        ) from error
    ready = _resized(whole, image_size)
    pixels = np.frombuffer(ready.tobytes(), np.uint8)
    return pixels.reshape(ready.height, ready.width, -1).transpose(2, 0, 1)


class _UnfitError(ValueError):
    """An image, but not one for us."""


def _refuse_unfit(name: str, image: Image.Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise _UnfitError(f"{name}: expected at most {MOST_PIXELS} pixels; got more")
    # PIL would clip 16-bit intensities to 255 without a word.
    if image.mode[0] in "IF":
        raise _UnfitError(f"{name}: expected 8 bits a channel; got mode {image.mode}")


def contents(path: Path) -> bytes:
    """The bytes of an image's file.

    Raises:
        ValueError: If it is no ordinary file, of which some would be waited for without end, or a
            larger one than any image.
        OSError: If it cannot be read.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
        there = os.fstat(file.fileno())
        if not stat.S_ISREG(there.st_mode):
            raise ValueError(f"{path}: expected an image; got no ordinary file")
        if there.st_size > MOST_BYTES:
            raise ValueError(
                f"{path}: expected an image of at most {MOST_BYTES >> 20} MiB; got "
                f"{there.st_size >> 20} MiB"
            )
        return file.read()


def _resized(image: Image.Image, size: int | None) -> Image.Image:
    if size is None:
        return image
    from torchvision.transforms import functional  # noqa: PLC0415 - longer than torch itself

    return functional.center_crop(functional.resize(image, [size]), [size, size])


def decoding_threads() -> int:
    """The CPUs that this process may use, 16 at most: beyond them a disk is the narrow place."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on every system
    cpus = len(allowed(0)) if allowed else os.cpu_count() or 1
    return min(_MOST_THREADS, cpus)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageFiles:
    """Square RGB images of one size in files, decoded whenever they are read.

    Stands where a tensor of images would: it has a shape and a length, and gives its rows as
    uint8. The same rows are the same bits, whatever the number of threads, with a cache or without.

    Args:
        root: Folder below which the files lie.
        names: Paths relative to it, as the file system encodes them.
        sizes: Bytes of each file.
        ids: Sample ids, for errors.
        priorities: A random number for each image; the lowest make the subset of `sample`.
        image_size: Height and width: the shorter side is resized and the centre cropped.
        threads: So many images are decoded at a time.
        cache: File that a `Cache` writes; images are read from it as soon as it is there.
        cached_rows: Row of each image in that file.
    """

    root: Path
    names: Shaped[np.ndarray, " images"]
    sizes: Int64[np.ndarray, " images"]
    ids: Int64[np.ndarray, " images"]
    priorities: UInt64[np.ndarray, " images"]
    image_size: int
    threads: int
    cache: Path | None = None
    cached_rows: Int64[np.ndarray, " images"] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> torch.Size:
        """Images, channels, height, width."""
        return torch.Size((len(self), _CHANNELS, self.image_size, self.image_size))

    def take(self, rows: _Rows) -> "ImageFiles":
        """The images of these rows, still unread."""
        at = rows.numpy()
        return dataclasses.replace(
            self,
            names=self.names[at],
            sizes=self.sizes[at],
            ids=self.ids[at],
            priorities=self.priorities[at],
            cached_rows=None if self.cached_rows is None else self.cached_rows[at],
        )

    def sample(self, count: int) -> _Rows:
        """Rows of so many images drawn at random, ascending; of all if there are no more."""
        chosen = np.argsort(self.priorities, kind="stable")[:count]
        return torch.from_numpy(np.sort(chosen))

    def read(self, rows: _Rows) -> UInt8[Tensor, "rows channels height width"]:
        """The images of these rows."""
        (images,) = self.batches([rows])
        return images

    def batches(
        self, batches: Iterable[Int64[Tensor, " _"]], *, pinned: bool = False
    ) -> Generator[UInt8[Tensor, "_ channels height width"], None, None]:
        """The images of each batch of rows, in order; the next batches are decoded meanwhile.

        Args:
            batches: Rows, on the CPU.
            pinned: In memory that a GPU can copy from by itself.

        Raises:
            ValueError: If a file holds no image, naming it, when its batch is due.
            OSError: If a file cannot be read.
        """
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(self.threads, "decoder"))
            # What nobody waits for any more is not decoded either.
            stack.callback(pool.shutdown, wait=False, cancel_futures=True)
            pending: deque[tuple[Tensor, list[Future[None]]]] = deque()
            for rows in batches:
                pending.append(self._start(pool, rows.numpy(), pinned=pinned))
                if len(pending) > AHEAD:
                    yield _finished(*pending.popleft())
            while pending:
                yield _finished(*pending.popleft())

    def digest(self) -> str:
        """SHA-256 over names, file sizes and what decoding depends on; pixels are not read."""
        content = [DECODING_VERSION, self.image_size, len(self)]
        sha256 = hashlib.sha256(json.dumps(content).encode())
        sha256.update(b"\0".join(self.names.tolist()))
        sha256.update(self.sizes.astype("<i8").data)
        return sha256.hexdigest()

    def _start(
        self, pool: ThreadPoolExecutor, rows: np.ndarray, *, pinned: bool
    ) -> tuple[Tensor, list[Future[None]]]:
        images = torch.empty((len(rows), *self.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
        places = images.numpy()
        fill = self._decode
        if self.cache is not None and self.cache.exists():
            # Here, since Python 3.11 may fail to parse the header in several threads at once.
            fill = partial(self._copy, self._cached(self.cache))
        tasks = range(0, len(rows), _A_TASK)
        return images, [
            pool.submit(fill, places[start : start + _A_TASK], rows[start : start + _A_TASK])
            for start in tasks
        ]

    def _decode(self, places: np.ndarray, rows: np.ndarray) -> None:
        for place, row in zip(places, rows, strict=True):
            path = self.root / os.fsdecode(self.names[row])
            name = f"{path} (sample {self.ids[row]})"
            place[:] = decoded(name, contents(path), self.image_size)  # grey: all channels

    def _cached(self, path: Path) -> np.ndarray:
        """The cache's array; never anything that would have to be unpickled."""
        assert self.cached_rows is not None
        try:
            array = np.lib.format.open_memmap(path, mode="r")
        except (*_NOT_AN_IMAGE, tokenize.TokenError) as error:
            raise ValueError(
                f"{path}: expected a cache of images; got another file, to be removed: "
                f"{one_line(error)}"
            ) from error
        fits = array.dtype == np.uint8 and array.ndim and array.shape[1:] == self.shape[1:]
        if not fits or (len(self) and len(array) <= self.cached_rows.max()):
            raise ValueError(
                f"{path}: expected a cache of {self.image_size}x{self.image_size} pixels; got "
                f"{array.dtype} of shape {array.shape}: remove the file, and it is written anew"
            )
        return array

    def _copy(self, array: np.ndarray, places: np.ndarray, rows: np.ndarray) -> None:
        assert self.cached_rows is not None
        for place, row in zip(places, self.cached_rows[rows], strict=True):
            place[:] = array[row]


def _finished(images: Tensor, tasks: Iterable[Future[None]]) -> Tensor:
    for task in tasks:
        task.result()
    return images


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cache:
    """Decoded images as one uint8 array in a file, which NumPy reads as well.

    The file is named after the digest of what it holds, and bears that name only once it is whole.
    What a writer that was cut off left behind is gone on with.

    Args:
        path: Where it is to be.
        images: What it is to hold, in this order.
    """

    path: Path
    images: ImageFiles

    @classmethod
    def of(cls, images: ImageFiles, folder: Path) -> "Cache":
        """The cache of these images in a folder, and in it the images that read from it."""
        path = folder / f"{images.digest()[:32]}.npy"
        rows = np.arange(len(images))
        return cls(path=path, images=dataclasses.replace(images, cache=path, cached_rows=rows))

    @property
    def nbytes(self) -> int:
        """Size of the whole file."""
        return len(self._header()) + math.prod(self.images.shape)

    @property
    def missing_bytes(self) -> int:
        """What is still to be written."""
        if self.path.exists():
            return 0
        unfinished = self._unfinished()
        return self.nbytes - (unfinished.stat().st_size if unfinished.exists() else 0)

    @property
    def free_bytes(self) -> int:
        """What is free where it is to be."""
        there = next(p for p in self.path.parents if p.exists())
        return shutil.disk_usage(there).free

    def write(self, progress: Callable[[int], None] | None = None) -> None:
        """Decode what is missing; a second writer waits for the first.

        Args:
            progress: Told, after each block, how many images are written.

        Raises:
            ValueError: If a file holds no image.
            OSError: If something cannot be read or written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished, header = self._unfinished(), self._header()
        image = math.prod(self.images.shape[1:])
        with unfinished.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if self.path.exists():
                unfinished.unlink(missing_ok=True)
                return
            whole = (os.fstat(file.fileno()).st_size - len(header)) // image
            # Of the last block it is not known whether it reached the disk.
            done = max(0, whole - CACHE_BLOCK)
            file.truncate(len(header) + done * image if done else 0)
            if not done:
                file.write(header)
            blocks = torch.arange(done, len(self.images)).split(CACHE_BLOCK)
            for rows, block in zip(blocks, self.images.batches(blocks), strict=True):
                file.write(block.numpy().data)
                file.flush()
                os.fsync(file.fileno())
                if progress is not None:
                    progress(int(rows[-1]) + 1)
            unfinished.replace(self.path)

    def _unfinished(self) -> Path:
        return self.path.with_suffix(".partial")

    def _header(self) -> bytes:
        header = io.BytesIO()
        shape = tuple(self.images.shape)
        content = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, content)
        return header.getvalue()
