"""Turn one seed into independent random streams; a resumed run needs no saved random state."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt64

if TYPE_CHECKING:
    import torch

PURPOSES = ("weights", "order", "augmentation", "dropout", "views")


def check_purposes(purposes: Iterable[str]) -> None:
    """Refuse an empty or unknown list of stream names.

    Raises:
        ValueError: If a name is unknown, or there is none.
    """
    names = tuple(purposes)
    unknown = [name for name in names if name not in PURPOSES]
    if unknown or not names:
        got = ", ".join(map(repr, unknown)) or "nothing"
        raise ValueError(f"expected random streams out of {', '.join(PURPOSES)}; got {got}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Random streams of one run, each derived from (salt, seed, purpose, epoch) alone.

    Args:
        seed: Training seed of the run.
        salt: Text that separates configurations with the same seed. A sweep passes the
            configuration's id.
        vary: Purposes whose streams depend on ``seed``. Others are the same under every seed.

    Raises:
        ValueError: If ``vary`` names an unknown purpose or none.

    Example:
        >>> a, b = Streams(seed=0, vary=("weights",)), Streams(seed=1, vary=("weights",))
        >>> a.integer("order", 3) == b.integer("order", 3)
        True
        >>> a.integer("weights") == b.integer("weights")
        False
    """

    seed: int
    salt: str = ""
    vary: tuple[str, ...] = PURPOSES

    def __post_init__(self) -> None:
        check_purposes(self.vary)

    def integer(self, purpose: str, epoch: int = 0) -> int:
        """The 63-bit seed of one stream; the same on every machine and Python version."""
        check_purposes((purpose,))
        seed = str(self.seed) if purpose in self.vary else "held"
        text = "|".join((self.salt, seed, purpose, str(epoch)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self, purpose: str, epoch: int = 0) -> "torch.Generator":
        """A new CPU generator at the start of the stream of this purpose and epoch."""
        import torch  # noqa: PLC0415 - whoever only names streams does without

        return torch.Generator().manual_seed(self.integer(purpose, epoch))


def raw_bits(count: int, seed: int, *key: int | str) -> UInt64[np.ndarray, " {count}"]:
    """The first 64-bit numbers of the random stream with this seed and key.

    NumPy promises that its raw bits never change; its shuffles and floats may change.

    Args:
        count: Number of values.
        seed: Seed of the stream, 0 or more.
        key: Further numbers or names that separate the streams of one seed.

    Example:
        >>> bool((raw_bits(3, 0, "ties") == raw_bits(5, 0, "ties")[:3]).all())
        True
    """
    words = [
        int.from_bytes(hashlib.sha256(part.encode()).digest()[:4], "big")
        if isinstance(part, str)
        else part
        for part in key
    ]
    stream = np.random.SeedSequence(seed, spawn_key=tuple(words))
    return np.asarray(np.random.PCG64(stream).random_raw(count))
