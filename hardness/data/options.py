"""Options of datasets; nothing here imports torch."""

from dataclasses import dataclass
from pathlib import Path

DATASETS = ("digits", "mnist", "cifar10", "cifar100", "parquet", "imagefolder", "imagenet")
# Datasets that read images from folders.
FOLDERS = ("imagefolder", "imagenet")
# A larger size is probably a typo, and could take all memory: 4,096 x 4,096 pixels are 48 MiB.
_LARGEST_IMAGE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetOptions:
    """What an experiment file says under ``dataset:``.

    Args:
        name: ``digits``, ``mnist``, ``cifar10``, ``cifar100``, ``imagenet``, ``imagefolder`` or
            ``parquet``.
        root: File or folder of the data; ``~`` is allowed. It is not part of a run's identity.
            ``data`` if left out; ``parquet`` and folders of images need one.
        download: Whether to fetch missing ``mnist``, ``cifar10`` or ``cifar100`` into ``root``.
        subset: Number of training samples, stratified by class; all if left out.
        data_seed: Seed of the subset, the split and the batches in which samples are scored.
        label_column: Column of a ``parquet`` source that holds the labels.
        image_size: Size in pixels of images from folders: the shorter side is resized to it, and
            the centre is cropped. Needed where sizes differ and where images are read from disk.
            224 for ``imagenet`` if left out.
        cache: Folder for decoded images, or ``true`` for ``cache`` in ``root``. Images on disk are
            decoded once, then read from the cache. It changes no result.
        decode_threads: Number of images decoded at the same time; if left out, the number of CPUs,
            up to 16. It changes no result.

    Raises:
        ValueError: If the name is unknown, a number is out of range, or an option does not
            belong to that dataset.

    Example:
        >>> DatasetOptions(name="digits", subset=500).data_seed
        0
    """

    name: str
    root: str | None = None
    download: bool = False
    subset: int | None = None
    data_seed: int = 0
    label_column: str = "label"
    image_size: int | None = None
    cache: bool | str = False
    decode_threads: int | None = None

    def __post_init__(self) -> None:
        if self.name not in DATASETS:
            raise ValueError(f"unknown dataset {self.name!r}; known: {', '.join(DATASETS)}")
        for key in ("subset", "image_size", "decode_threads"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"{key}: expected at least 1; got {value}")
        if self.image_size is not None and self.image_size > _LARGEST_IMAGE:
            raise ValueError(
                f"image_size: expected at most {_LARGEST_IMAGE}; got {self.image_size}"
            )
        if self.data_seed < 0:
            raise ValueError(f"data_seed: expected at least 0; got {self.data_seed}")
        if self.cache == "":
            raise ValueError("cache: expected true, or a folder; got ''")
        if self.root is None and self.name in ("parquet", *FOLDERS):
            raise ValueError(f"{self.name}: expected a root, the place of the data; got none")
        self._belongs("download", self.download, "mnist", "cifar10", "cifar100")
        self._belongs("label_column", self.label_column != "label", "parquet")
        self._belongs("image_size", self.image_size is not None, *FOLDERS)
        self._belongs("cache", self.cache is not False, *FOLDERS)
        self._belongs("decode_threads", self.decode_threads is not None, *FOLDERS)

    def _belongs(self, key: str, given: bool, *names: str) -> None:
        if given and self.name not in names:
            raise ValueError(f"{key}: expected only with {', '.join(names)}; got with {self.name}")

    @property
    def place(self) -> Path:
        """``root`` as an absolute path."""
        return Path(self.root or "data").expanduser().absolute()

    @property
    def cache_place(self) -> Path | None:
        """Folder of the cache as an absolute path; None for no cache."""
        if isinstance(self.cache, str):
            return Path(self.cache).expanduser().absolute()
        return self.place / "cache" if self.cache else None
