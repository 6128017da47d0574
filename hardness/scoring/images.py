"""Scores of the images themselves, by metrics that need no training."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from hardness.data.image_files import ImageFiles
from hardness.data.source import Samples
from hardness.metrics.registry import METRICS, Metric
from hardness.signals.neighbors import NEIGHBORS, pixel_distances

# Number of images on disk that are read together, and how many of these one thread scores.
_IMAGES, _A_TASK = 512, 32


def score_images(
    keys: Iterable[str], samples: Samples, device: torch.device | str | None = None
) -> dict[str, Float64[np.ndarray, " samples"]]:
    """Raw scores of the images themselves.

    Images in memory are scored all at once. Images on disk are scored block by block in several
    threads, so a metric must score each image on its own. Metrics that read the distances between
    images are the exception: for them all images are loaded into memory.

    Args:
        keys: Metrics of scope ``pixels``.
        samples: Samples whose images are scored.
        device: Device that computes distances; if left out, the GPU if there is one.

    Raises:
        ValueError: If a file is not an image.
        OSError: If a file cannot be read.
    """
    metrics = [METRICS[key] for key in keys]
    apart = [m for m in metrics if "pixel_distances" in m.signals]
    alone = [m for m in metrics if m not in apart]
    images = samples.images
    found: dict[str, np.ndarray] = {}
    if apart:
        whole = images if isinstance(images, Tensor) else images.read(torch.arange(len(images)))
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        distances = pixel_distances(whole.to(device), NEIGHBORS).numpy()
        inputs = {"images": _channels_last(whole), "pixel_distances": distances}
        found |= {m.key: m.score(inputs) for m in apart}
    if isinstance(images, ImageFiles):
        found |= _of_files(alone, images)
    else:
        found |= {m.key: m.score({"images": _channels_last(images)}) for m in alone}
    return found


def _of_files(
    metrics: Iterable[Metric], images: ImageFiles
) -> dict[str, Float64[np.ndarray, " images"]]:
    scores: dict[str, list[np.ndarray]] = {m.key: [] for m in metrics}

    def score(part: Tensor) -> dict[str, np.ndarray]:
        return {key: METRICS[key].score({"images": _channels_last(part)}) for key in scores}

    with ThreadPoolExecutor(images.threads) as pool:
        for block in images.batches(torch.arange(len(images)).split(_IMAGES)) if scores else ():
            for part in pool.map(score, block.split(_A_TASK)):
                for key, values in part.items():
                    scores[key].append(values)
    return {key: np.concatenate(values) for key, values in scores.items()}


def _channels_last(
    images: UInt8[Tensor, "images channels height width"],
) -> UInt8[np.ndarray, "images height width channels"]:
    return images.permute(0, 2, 3, 1).numpy()
