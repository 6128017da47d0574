"""What recording, the loop and the scoring passes cost on a GPU, and what several runs on it gain.

Needs no Ray and no MLflow: ``python -m tests.benchmarks.gpu [--pairs N]``.
"""

import argparse
import concurrent.futures
import multiprocessing
import shutil
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from hardness.dynamics.folder import write_epoch
from hardness.dynamics.record import Recording
from hardness.models.networks import build
from hardness.models.options import ModelOptions
from hardness.training import REGIMENS
from hardness.training.options import TrainOptions
from tests.benchmarks import setting
from tests.benchmarks.figures import Figure, ratio, show

MODEL = ModelOptions(name="resnet18_cifar")
SAMPLES, EPOCHS, BATCH = 20_000, 3, 256
SIZE = f"resnet18_cifar, {SAMPLES:,} images of 3x32x32, {EPOCHS} epochs, bf16"
LOGITS = Recording(snapshots=("logits",))
NOTHING = Recording(signals=False, snapshots=())
TRAIN = TrainOptions(max_epochs=EPOCHS, batch_size=BATCH, lr=0.05, precision="bf16")


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10, help="of timings a ratio (10)")
    pairs = parser.parse_args().pairs
    for part in (lambda: costs(pairs), several, passes):
        show(part())
    print(torch.cuda.get_device_name(), torch.version.cuda)


def costs(pairs):
    """Recording over not recording, and the loop over a minimal one."""
    dataset = setting.images(SAMPLES)

    def recorded(pair):
        train(dataset, pair, LOGITS)

    def neighbors(pair):
        train(dataset, pair, Recording())

    def unrecorded(pair):
        train(dataset, pair, NOTHING)

    def by_hand(pair):
        minimal(dataset, pair)

    return [
        ratio(
            f"recording all logit signals to disk: {SIZE}", "<= 1.05", recorded, unrecorded, pairs
        ),
        ratio(
            f"the same and neighbors of the last embedding: {SIZE}", "", neighbors, unrecorded, 2
        ),
        ratio(f"loop against a hand-written one: {SIZE}", "<= 1.05", unrecorded, by_hand, pairs),
    ]


def passes():
    """An epoch with one scoring pass over the same epoch without it."""
    dataset = setting.images(5_000)
    figures = []
    for name in ("supervised", "contrastive"):
        regimen = REGIMENS[name]
        options = regimen.options(
            train=TrainOptions(max_epochs=1, batch_size=BATCH, lr=0.01, precision="bf16")
        )

        def epoch(pair, passes, regimen=regimen, options=options):
            recording = Recording(snapshots=(), passes=passes, score_epochs=(-1,))
            streams = setting.streams(pair)
            records = regimen.train(
                dataset, MODEL, options, streams, device="cuda", recording=recording
            )
            for _ in records:
                torch.cuda.synchronize()

        figures += [
            ratio(
                f"an epoch of {name} with the pass {made}: resnet18_cifar, 5,000 images",
                f"{scoring.forwards} forward passes",
                partial(epoch, passes=(made,)),
                partial(epoch, passes=()),
                1,
            )
            for made, scoring in regimen.passes.items()
            if made != "mc_dropout"  # this network has none
        ]
    return figures


def several():
    """Runs that share the GPU against the same runs one after another."""
    figures = []
    for count in (2, 4):
        spawn = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(count, spawn) as pool:
            list(pool.map(started, range(count)))
            one, together = [], []
            for _ in range(2):
                one.append(pool.submit(one_run, 0).result())
                began = time.perf_counter()
                list(pool.map(one_run, range(count)))
                together.append(time.perf_counter() - began)
        gain = count * statistics.median(one) / statistics.median(together)
        figures.append(
            Figure(
                what=f"{count} runs at a time on the GPU against one after another: {SIZE}",
                asked="",
                found=f"{gain:.2f} times as many an hour",
                note=f"one alone {statistics.median(one):.1f} s",
            )
        )
    return figures


def started(_):
    """Bring a process up: imports, CUDA, kernels."""
    one_run(0)
    time.sleep(1)  # so that each process of the pool gets one


def one_run(seed):
    """Seconds of one recorded run."""
    began = time.perf_counter()
    train(setting.images(SAMPLES), seed, LOGITS)
    return time.perf_counter() - began


def train(dataset, seed, recording):
    """A supervised run, its epochs written to a folder."""
    folder = Path(tempfile.mkdtemp())
    regimen = REGIMENS["supervised"]
    records = regimen.train(
        dataset, MODEL, regimen.options(train=TRAIN), setting.streams(seed),
        device="cuda", recording=recording,
    )  # fmt: skip
    for record in records:
        if recording.signals:
            write_epoch(folder, record)
    torch.cuda.synchronize()
    shutil.rmtree(folder)


def minimal(dataset, seed):
    """The same training and evaluation, written by hand, data on the GPU."""
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = True
    images, labels = dataset.train.images.cuda(), dataset.train.labels.cuda()
    network = build(
        MODEL, image_shape=tuple(images.shape[1:]), n_classes=10, streams=setting.streams(seed)
    ).cuda()
    unit = images.float() / 255
    mean, std = (m.view(1, -1, 1, 1) for m in (unit.mean((0, 2, 3)), unit.std((0, 2, 3))))
    optimizer = torch.optim.SGD(
        network.parameters(), TRAIN.lr, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    steps = EPOCHS * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    held = dataset.validation.images.cuda(), dataset.validation.labels.cuda()
    evaluate(network, images, labels, mean, std)
    for _ in range(EPOCHS):
        network.train()
        for batch in torch.randperm(len(labels), device="cuda").split(BATCH):
            with torch.autocast("cuda", dtype=torch.bfloat16):
                logits = network((images[batch].float() / 255 - mean) / std)
            loss = cross_entropy(logits.float(), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        evaluate(network, images, labels, mean, std)
        evaluate(network, *held, mean, std)
    torch.cuda.synchronize()


@torch.inference_mode()
def evaluate(network, images, labels, mean, std):
    """Loss and accuracy of clean images."""
    network.eval()
    logits = torch.cat([network((part.float() / 255 - mean) / std) for part in images.split(512)])
    return cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item()


if __name__ == "__main__":
    main()
