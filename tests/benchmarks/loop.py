"""What the regimen's loop costs over a minimal one, written by hand, that computes the same."""

import torch
from torch.nn.functional import cross_entropy

from hardness.models.networks import build
from tests.benchmarks import setting
from tests.benchmarks.figures import Figure, ratio
from tests.benchmarks.recording import train


def measure(pairs: int) -> list[Figure]:
    """The regimen's loop, recording nothing, over the one below."""
    dataset = setting.images()

    def ours(pair):
        train(dataset, setting.streams(pair))

    def by_hand(pair):
        minimal(dataset, pair)

    what = f"loop against a hand-written one: {setting.SIZE}, {setting.EPOCHS} epochs"
    return [ratio(what, "<= 1.05", ours, by_hand, pairs)]


def minimal(dataset, seed):
    """Train, and evaluate both parts before training and after each epoch, as the regimen does."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    options = setting.supervised().train
    images, labels = dataset.train.images, dataset.train.labels
    network = build(
        setting.MODEL,
        image_shape=tuple(images.shape[1:]),
        n_classes=len(dataset.classes),
        streams=setting.streams(seed),
    )
    mean, std = moments(images)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=options.lr,
        momentum=options.momentum,
        nesterov=True,
        weight_decay=options.weight_decay,
    )
    steps = options.max_epochs * -(-len(labels) // options.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    evaluate(network, images, labels, mean, std)
    for _ in range(options.max_epochs):
        network.train()
        total = 0.0
        for batch in torch.randperm(len(labels)).split(options.batch_size):
            logits = network((images[batch].float() / 255 - mean) / std)
            loss = cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        evaluate(network, images, labels, mean, std)
        evaluate(network, dataset.validation.images, dataset.validation.labels, mean, std)
    return total / len(labels)


def moments(images):
    """Mean and standard deviation of each channel."""
    unit = images.float() / 255
    return unit.mean((0, 2, 3)).view(1, -1, 1, 1), unit.std((0, 2, 3)).view(1, -1, 1, 1)


@torch.inference_mode()
def evaluate(network, images, labels, mean, std):
    """Loss and accuracy of clean images."""
    network.eval()
    logits = torch.cat([network((part.float() / 255 - mean) / std) for part in images.split(512)])
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return cross_entropy(logits, labels).item(), accuracy
