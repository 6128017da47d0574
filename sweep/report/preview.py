"""What `sweep run --dry-run` prints, and the lines about adaptive seeds."""

from datetime import timedelta
from typing import Any

import click

from sweep.errors import NoSuchSweep


def print_dry_run(spec: Any, dataset: Any, uri: str, *, retry_failed: bool) -> None:
    """Print what a sweep would train, and estimate how long that takes."""
    from hardness.planting.plant import described  # noqa: PLC0415
    from sweep.execution import driver, status  # noqa: PLC0415
    from sweep.experiment.runs import shown_values  # noqa: PLC0415
    from sweep.planning import due_cells, statements  # noqa: PLC0415
    from sweep.store import mlflow_store  # noqa: PLC0415

    try:
        store = mlflow_store.Store.find(uri, spec.name)
    except NoSuchSweep:
        store = None
    sweep = status.look(spec, store)
    todo = due_cells.to_train(sweep.cells, retry_failed=retry_failed)
    packs = due_cells.packs(
        todo,
        spec.resources.seeds_per_pack,
        {c.run.configuration.configuration_id: "" for c in todo},
    )
    n, shape = len(dataset.train.labels), "x".join(map(str, dataset.train.images.shape[1:]))
    click.echo(
        f"{spec.name}: {dataset.name}, {n} samples of {shape}, {len(dataset.classes)} classes, "
        f"{len(dataset.validation.labels)} for validation"
    )
    for line in [*_places_of_images(dataset), *described(dataset)]:
        click.echo(f"  {line}")
    for line in statements.statements(spec, sweep.proposals):
        click.echo(f"  {line}")
    for proposal in sweep.proposals:
        shown = shown_values(proposal.parameters)
        configuration = proposal.configuration
        mine = [c for c in sweep.cells if c.run.configuration == configuration]
        seeds = " ".join(f"{c.run.seed}:{c.state}" for c in mine)
        click.echo(f"  {configuration.configuration_id} {configuration.regimen} {shown}  {seeds}")
    if spec.method == "bayes":
        click.echo("  the Bayesian search proposes further configurations as results come in")
    if store:
        print_adaptive_seeds(sweep)
    counted = f"{len(sweep.cells)} cells, {len(todo)} to train, in {len(packs)} packs"
    if spec.adaptive:
        most = sum(len(spec.most_seeds(p.configuration.regimen)) for p in sweep.proposals)
        counted += f"; at most {most} cells, if no look is the last one earlier"
    click.echo(counted)
    if todo:
        left = timedelta(seconds=round(driver.estimate(spec, dataset, todo)))
        click.echo(f"about {left} of training on one core of this machine, measured on one epoch")


def _places_of_images(dataset: Any) -> list[str]:
    """Lines about images that are read from disk, and about the size of their cache."""
    lines = []
    parts = [p.images for p in (dataset.train, dataset.validation) if hasattr(p.images, "sizes")]
    if parts:
        gib = sum(int(images.sizes.sum()) for images in parts) / 2**30
        lines.append(
            f"on disk: {sum(map(len, parts)):,} files, {gib:.2f} GiB, decoded "
            f"{parts[0].threads} at a time whenever they are read"
        )
    if dataset.caches:
        first, total = dataset.caches[0], sum(c.nbytes for c in dataset.caches) / 2**30
        missing = sum(c.missing_bytes for c in dataset.caches) / 2**30
        lines.append(
            f"cache: {total:.2f} GiB in {first.path.parent}, {missing:.2f} GiB to be written; "
            f"{first.free_bytes / 2**30:.1f} GiB free"
        )
    return lines


def print_adaptive_seeds(sweep: Any) -> bool:
    """Print a line per configuration about its adaptive seeds; returns whether there are looks."""
    from sweep.execution import adaptive_seeds  # noqa: PLC0415

    for line in adaptive_seeds.lines(sweep.spec, sweep.proposals, sweep.due):
        click.echo(f"seeds     {line}")
    return any(due.looks for due in sweep.due.values())
