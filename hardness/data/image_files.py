"""Decode image files, one at a time or on demand in threads, with an optional cache."""

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

# Increased when a change of the code decodes the same files to other pixels.
DECODING_VERSION = 1
# Number of batches that are decoded ahead of the caller.
AHEAD = 2
# Number of images that are written to a cache at a time.
CACHE_BLOCK = 512
_CHANNELS = 3
_MOST_THREADS = 16
# Images per task of a thread; single images would cost more in scheduling.
_PER_TASK = 4
# Raster formats of torchvision's extensions. For some other formats, PIL starts programs.
_FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP")
# Up to twice as many pixels, PIL only prints a warning. We refuse them, so the warning is hidden.
MOST_PIXELS = 89_478_485
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
MOST_BYTES = 1 << 28
# Errors that PIL and its plugins raise on a file that is no image, and NumPy on one that is no
# array. Keep other code out of the ``try`` that catches them: its bugs would be hidden.
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
        name: Name of the image, for error messages.
        data: Bytes of the file; None if a table has no image in this row.
        image_size: Size in pixels: the shorter side is resized to it, and the centre is cropped.
            If left out, the image keeps its size.

    Raises:
        ValueError: If it is no image, not of 8 bits a channel, or has more than ``MOST_PIXELS``.
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
    """A readable image with too many pixels or bits."""


def _refuse_unfit(name: str, image: Image.Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise _UnfitError(f"{name}: expected at most {MOST_PIXELS} pixels; got more")
    # PIL would clip 16-bit intensities to 255 without a warning.
    if image.mode[0] in "IF":
        raise _UnfitError(f"{name}: expected 8 bits a channel; got mode {image.mode}")


def contents(path: Path) -> bytes:
    """Bytes of an image file.

    Raises:
        ValueError: If it is no regular file (a pipe could block forever), or is larger than
            ``MOST_BYTES``.
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
    """Number of CPUs that this process may use, at most 16: with more, the disk is the limit."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on every system
    cpus = len(allowed(0)) if allowed else os.cpu_count() or 1
    return min(_MOST_THREADS, cpus)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageFiles:
    """Square RGB images of one size in files, decoded at each read.

    It is used in place of a tensor of images: it has a shape and a length, and reads rows as uint8.
    The pixels depend neither on the number of threads nor on the cache.

    Args:
        root: Folder that contains the files.
        names: Paths relative to ``root``, as the file system encodes them.
        sizes: Size of each file in bytes.
        ids: Sample ids, for error messages.
        priorities: Random number of each image; `sample` takes the images with the lowest.
        image_size: Height and width: the shorter side is resized to it, and the centre is cropped.
        threads: Number of images that are decoded at the same time.
        cache: File that a `Cache` writes, and from which images are read once it exists; None for
            no cache.
        cached_rows: Row of each image in ``cache``.
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
        """Ascending rows of ``count`` images drawn at random; all rows if there are fewer."""
        chosen = np.argsort(self.priorities, kind="stable")[:count]
        return torch.from_numpy(np.sort(chosen))

    def read(self, rows: _Rows) -> UInt8[Tensor, "rows channels height width"]:
        """The images of these rows."""
        (images,) = self.batches([rows])
        return images

    def batches(
        self, batches: Iterable[Int64[Tensor, " _"]], *, pinned: bool = False
    ) -> Generator[UInt8[Tensor, "_ channels height width"], None, None]:
        """The images of each batch of rows, in order; the next batches are decoded ahead.

        Args:
            batches: Rows of each batch, on the CPU.
            pinned: Whether to use page-locked memory, from which a GPU can copy directly.

        Raises:
            ValueError: If a file holds no image. It names the file, and comes with its batch.
            OSError: If a file cannot be read.
        """
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(self.threads, "decoder"))
            # If the caller stops early, images that are still waiting are not decoded.
            stack.callback(pool.shutdown, wait=False, cancel_futures=True)
            pending: deque[tuple[Tensor, list[Future[None]]]] = deque()
            for rows in batches:
                pending.append(self._start(pool, rows.numpy(), pinned=pinned))
                if len(pending) > AHEAD:
                    yield _finished(*pending.popleft())
            while pending:
                yield _finished(*pending.popleft())

    def digest(self) -> str:
        """SHA-256 of file names, file sizes and decoding settings; pixels are not read."""
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
            # Opened before the threads start: Python 3.11 may fail to parse headers in parallel.
            fill = partial(self._copy, self._cached(self.cache))
        tasks = range(0, len(rows), _PER_TASK)
        return images, [
            pool.submit(fill, places[start : start + _PER_TASK], rows[start : start + _PER_TASK])
            for start in tasks
        ]

    def _decode(self, places: np.ndarray, rows: np.ndarray) -> None:
        for place, row in zip(places, rows, strict=True):
            path = self.root / os.fsdecode(self.names[row])
            name = f"{path} (sample {self.ids[row]})"
            place[:] = decoded(name, contents(path), self.image_size)  # to all channels, if grey

    def _cached(self, path: Path) -> np.ndarray:
        """The array in the cache file; a file that would have to be unpickled is refused."""
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
    """Decoded images as one uint8 array in a ``.npy`` file.

    The file is named after the digest of its images, and gets this name only when it is complete.
    An interrupted write is continued by the next one.

    Args:
        path: Path of the complete file.
        images: Images to write, in this order.
    """

    path: Path
    images: ImageFiles

    @classmethod
    def of(cls, images: ImageFiles, folder: Path) -> "Cache":
        """The cache of these images in a folder; the cache's ``images`` read from it."""
        path = folder / f"{images.digest()[:32]}.npy"
        rows = np.arange(len(images))
        return cls(path=path, images=dataclasses.replace(images, cache=path, cached_rows=rows))

    @property
    def nbytes(self) -> int:
        """Size of the complete file in bytes."""
        return len(self._header()) + math.prod(self.images.shape)

    @property
    def missing_bytes(self) -> int:
        """Number of bytes that are still to be written."""
        if self.path.exists():
            return 0
        unfinished = self._unfinished()
        return self.nbytes - (unfinished.stat().st_size if unfinished.exists() else 0)

    @property
    def free_bytes(self) -> int:
        """Free bytes on the disk of the cache."""
        there = next(p for p in self.path.parents if p.exists())
        return shutil.disk_usage(there).free

    def write(self, progress: Callable[[int], None] | None = None) -> None:
        """Decode and write the missing images; a second writer waits for the first.

        Args:
            progress: Function called after each block with the number of images written so far.

        Raises:
            ValueError: If a file holds no image.
            OSError: If a file cannot be read or written.
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
            # The last block may not have reached the disk.
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
