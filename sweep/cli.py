"""The command line: parse, call, print, exit code."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import click

from hardness.files import FULL
from sweep import arenas
from sweep.mistake import Mistake, NoSuchSweep, hidden, refuse_unwritable, unknown_metric

DONE, SOME_FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130

_FORMAT = click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv"]), default="table",
    help="A table for people, or JSON or CSV for programs.",
)  # fmt: skip
_TRACKER = click.option(
    "--tracking-uri", metavar="URI",
    help="Where the sweep is: an MLflow server, sqlite:///FILE, or offline for ./sweeps/offline.db;"
    " by default ./mlflow.db, else offline.",
)  # fmt: skip
_OUTPUT = click.option(
    "--output", type=click.Path(path_type=Path),
    help="Of a PATH: where tables and figures go; beside it, if left out.",
)  # fmt: skip
_SCORES = click.option(
    "--scores", "files", multiple=True, type=click.Path(path_type=Path),
    help="Scores of anyone, csv or parquet: sample_id and one column a score. High is hard, "
    "unless the column bears a metric's name, whose sign it then has.",
)  # fmt: skip
_LOW = click.option(
    "--low-is-hard", multiple=True, metavar="COLUMN", help="A column of --scores where low is hard."
)
_TRUTH = click.option(
    "--truth", "truth_files", multiple=True, type=click.Path(path_type=Path),
    help="What is true of the samples, csv or parquet: sample_id and one column a truth. High is "
    "hard; 0 and 1 alone are judged by AUROC, anything else by rank correlation.",
)  # fmt: skip


_NO_FIGURES = click.option("--no-figures", is_flag=True, help="Tables alone.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Which samples are hard, rare or wrong, and would another seed agree?"""


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[key=value …]")
@click.option("--seeds", help="10, or 0:10; overrides the file.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and start nothing.")
@click.option("--no-aggregate", is_flag=True, help="Train only.")
@_NO_FIGURES
@click.option("--retry-failed", is_flag=True, help="Also start failed cells again.")
def run(
    file: Path,
    overrides: tuple[str, ...],
    *,
    seeds: str | None,
    dry_run: bool,
    no_aggregate: bool,
    no_figures: bool,
    retry_failed: bool,
) -> None:
    """Train what is missing of a sweep, then aggregate.

    Asking again is how to resume, to add seeds, values or metrics, or to repeat: cells that are
    done are never trained twice.
    """
    # Ray, MLflow and torch take seconds that --help does not need.
    from sweep import (  # noqa: PLC0415
        adaptive,
        driver,
        experiment_file,
        fanout,
        ownership,
        standing,
        tracking,
    )

    content = experiment_file.read(file, overrides)
    if seeds is not None:
        content["seeds"] = int(seeds) if seeds.isdecimal() else seeds
    spec = experiment_file.check(content, str(file))
    uri, _ = driver.places(content, spec)
    refuse_unwritable(_folder(spec), f"{file}: storage_path")
    fanout.refuse_too_large(spec.resources)
    spec, dataset = driver.load(spec)
    if dry_run:
        _dry_run(spec, dataset, uri, retry_failed=retry_failed)
        return
    dataset = driver.prepare(spec, dataset, _say)
    store = tracking.Store.create(uri, spec.name, spec.artifacts)
    content = driver.resolved(content, spec)
    with ownership.driving(store, _say) as mine, _interruptible([mine]), fanout.session(_say):
        sweep = driver.train(content, spec, dataset, store, retry_failed=retry_failed)
        if no_aggregate:
            adaptive.write(adaptive.table(*_due(sweep)), _folder(spec))
            _print_seeds(sweep)
        else:
            _aggregate(sweep, store, dataset, intervals=True, figures=not no_figures)
    _exit(standing.look(spec, store), unfinished=True)


@cli.command()
@click.argument("name")
@_TRACKER
@_FORMAT
def status(name: str, tracking_uri: str | None, form: Any) -> None:
    """Cells done, running, failed (with the reason) and missing."""
    from sweep import standing, tables  # noqa: PLC0415

    _, sweep = standing.find(name, tracking_uri)
    if form == "table":
        tables.print_status(sweep)
        _print_seeds(sweep)
    else:
        tables.emit(tables.status(sweep), form)
    _exit(sweep)


@cli.command()
@click.argument("name", metavar="NAME|PATH")
@click.option("--no-intervals", is_flag=True, help="Point estimates of agreement only.")
@_NO_FIGURES
@_SCORES
@_LOW
@_TRUTH
@_OUTPUT
@_TRACKER
def aggregate(
    name: str,
    files: tuple[Path, ...],
    low_is_hard: tuple[str, ...],
    truth_files: tuple[Path, ...],
    output: Path | None,
    tracking_uri: str | None,
    *,
    no_intervals: bool,
    no_figures: bool,
) -> None:
    """Scores, stability, agreement and truth of what is done; tables and figures.

    NAME is a sweep, whose tables are logged to MLflow too. PATH is a folder with the runs of a
    recorder, cartography's dynamics or AUM's files.
    """
    from sweep import fanout, folders, standing, truths  # noqa: PLC0415

    given = folders.given_scores(files, low_is_hard)
    given_truths = truths.given_truths(truth_files)
    store, sweep = _runs(name, output, tracking_uri)
    truths.refuse_others({**given, **given_truths}, store, sweep.cells)
    with fanout.session(_say):
        dataset = None if sweep.recorded else _dataset(sweep.spec)
        result = _aggregate(
            sweep, store, dataset,
            intervals=not no_intervals, figures=not no_figures,
            given=given, given_truths=given_truths,
        )  # fmt: skip
    if sweep.recorded:
        _exit_recorded(sweep, result)
    else:
        _exit(standing.look(sweep.spec, store))


@cli.command()
@click.argument("name", metavar="NAME|PATH")
@click.argument("metrics", nargs=-1, required=True, metavar="METRIC… [TRUTH…]")
@_SCORES
@_LOW
@_TRUTH
@_OUTPUT
@_TRACKER
@_FORMAT
def compare(
    name: str,
    metrics: tuple[str, ...],
    files: tuple[Path, ...],
    low_is_hard: tuple[str, ...],
    truth_files: tuple[Path, ...],
    output: Path | None,
    tracking_uri: str | None,
    form: Any,
) -> None:
    """Agreement of chosen metrics, such as ``aum msd_mean.contrastive``, with intervals.

    A score of --scores or a truth of --truth is called ``column.file``. Truths that are planted
    are called as in the runs' samples, such as ``truth_noise_symmetric``: with one, also how well
    each metric finds it, and the paired differences of the metrics.
    """
    from sweep import aggregate as aggregation  # noqa: PLC0415
    from sweep import fanout, folders, tables, truths  # noqa: PLC0415

    given = folders.given_scores(files, low_is_hard)
    given_truths = truths.given_truths(truth_files)
    store, sweep = _runs(name, output, tracking_uri)
    own = truths.refuse_others({**given, **given_truths}, store, sweep.cells)
    _refuse_unknown(metrics, [*sweep.spec.needs.nameable, *given, *own, *given_truths])
    _refuse_lonely(metrics, sweep.spec.regimens)
    with fanout.session(_say):
        aggregation.quiet()
        scores, notes = aggregation.collect(sweep, store, _folder(sweep.spec))
        joined = aggregation.join(given, scores[0].sample_ids, notes) if scores else {}
        pixels: dict[str, Any] = {}
        if aggregation.needs_images(metrics) and not sweep.recorded:
            dataset = _loaded(sweep.spec)[1]
            pixels = aggregation.pixel_scores(metrics, dataset, _folder(sweep.spec))
        truth = aggregation.truths_of(sweep, store, scores, given_truths, notes).by_name
        _refuse_unknown(metrics, [*aggregation.score_keys(sweep, scores, pixels), *joined, *truth])
        asked = {name: values for name, values in truth.items() if name in metrics}
        table = aggregation.agreement_table(
            sweep, scores, pixels, joined, intervals=True, keys=metrics, truths=asked,
            control=aggregation.cached_control(sweep.spec, _folder(sweep.spec)), pairwise=True,
        )  # fmt: skip
        against = aggregation.against_truths(
            sweep, scores, pixels, joined, asked, intervals=True, keys=metrics
        )
        differences = aggregation.differences_on_truths(
            sweep, scores, pixels, joined, asked, keys=metrics
        )
        table = aggregation.marked(table, sweep.spec.needs.approximated)
    if form == "table":
        # Truths have a table of their own.
        if not table.empty:
            table = table[~(table["left"].isin([*asked]) | table["right"].isin([*asked]))]
        tables.print_agreement(table, f"Agreement in {name}", reference=False)
        tables.print_pairwise(table)
        tables.print_truth(against, every=True)
        tables.print_differences(differences)
    else:
        tables.emit(tables.with_truth(table, against, differences), form)


@cli.command()
@click.argument("name")
@click.argument("further", nargs=-1, metavar="[METRIC…]")
@click.option("--by", "by", multiple=True, required=True, metavar="METRIC…",
              help="Scores to leave samples out by, as for compare.")  # fmt: skip
@click.option("--keep", default="0.9,0.7,0.5", show_default=True, help="Shares of the samples.")
@click.option("--seeds", default="5", show_default=True,
              help="So many, after those of the scores; or which, such as 10:15.")  # fmt: skip
@click.option("--configuration", help="Id, or how it begins; by default the best supervised one.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and start nothing.")
@click.option("--retry-failed", is_flag=True, help="Also start failed cells again.")
@_TRACKER
def prune(
    name: str,
    further: tuple[str, ...],
    by: tuple[str, ...],
    keep: str,
    seeds: str,
    configuration: str | None,
    tracking_uri: str | None,
    *,
    dry_run: bool,
    retry_failed: bool,
) -> None:
    """Train again on the hardest, the easiest and as many random samples.

    Makes the sweep NAME-prune, of ordinary cells: asking again goes on where it stopped. Random
    parts have the class counts of the part that they are compared with, and every arm takes as
    many steps as all samples would.
    """
    from sweep import (  # noqa: PLC0415
        driver,
        experiment_file,
        fanout,
        ownership,
        pruning,
        report,
        standing,
        tables,
        tracking,
    )

    keeps = pruning.shares(keep)
    asked = experiment_file.seeds(int(seeds) if seeds.isdecimal() else seeds, "--seeds")
    store, sweep = standing.find(name, tracking_uri)
    refuse_unwritable(_folder(sweep.spec), "storage_path")
    retrained = pruning.retraining_seeds(len(asked) if seeds.isdecimal() else asked, sweep)
    pruning.refuse(sweep, store, [*by, *further], configuration)
    claims: list[Any] = []
    with contextlib.ExitStack() as until_ray_is_gone, _interruptible(claims), fanout.session(_say):
        plan = pruning.plan(
            sweep, store, [*by, *further], keeps, retrained, _folder(sweep.spec), configuration
        )
        spec = experiment_file.check(plan.content, f"{name}-prune")
        if dry_run:
            _dry_run(spec, plan.dataset, store.uri, retry_failed=retry_failed)
            return
        dataset = driver.prepare(spec, plan.dataset, _say)
        target = tracking.Store.create(store.uri, spec.name, spec.artifacts)
        claims.append(until_ray_is_gone.enter_context(ownership.driving(target, _say)))
        driver.train(plan.content, spec, dataset, target, retry_failed=retry_failed)
    pruned = standing.look(spec, target)
    table, folder = pruning.table(pruned, dataset, plan.truths), _folder(spec)
    pruning.write(table, folder)
    report.draw_pruning(table, folder / "figures")
    aggregate_run = target.aggregate_run()
    target.upload_folder(aggregate_run, folder)
    target.finish(aggregate_run)
    tables.print_pruning(table, name)
    for note in plan.notes:
        click.echo(f"note: {note}")
    click.echo(f"table     {folder}/prune.csv")
    click.echo(f"figure    {folder}/figures/prune.png")
    _exit(pruned, unfinished=True)


@cli.command()
@click.option("--plugin", "plugins", multiple=True, type=click.Path(path_type=Path),
              help="A file of one's own metrics.")  # fmt: skip
@_FORMAT
def metrics(plugins: tuple[Path, ...], form: Any) -> None:
    """Every metric: family, sign and its origin, needs, paper."""
    from sweep import tables  # noqa: PLC0415
    from sweep.plugins import Plugin  # noqa: PLC0415

    for path in plugins:
        Plugin.read(path, "--plugin").load()
    if form == "table":
        tables.print_metrics()
    else:
        tables.emit(tables.metrics(), form)


@cli.command()
@click.argument("name")
@click.option("--port", type=click.IntRange(1, 65_535), default=5000, show_default=True,
              help="On 127.0.0.1.")  # fmt: skip
@_TRACKER
def ui(name: str, port: int, tracking_uri: str | None) -> None:
    """The MLflow UI on the right store, at the right experiment."""
    from sweep import tracking  # noqa: PLC0415

    store = tracking.Store.known_as(tracking_uri, name)
    uri = store.uri
    # Without a workflow the page opens on traces of language models.
    here = f"#/experiments/{store.experiment_id}/runs?workflowType=machine_learning"
    if uri.startswith("http"):
        click.echo(f"{hidden(uri)}/{here}")
        return
    click.echo(f"http://127.0.0.1:{port}/{here}  (Ctrl-C ends it)")
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.execv(  # noqa: S606 - the server takes this process's place, so Ctrl-C reaches it
        sys.executable,
        [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri,
         "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
    )  # fmt: skip


@cli.command()
@click.argument("name")
@click.option("--to", required=True, metavar="URI", help="Where it goes: as --tracking-uri.")
@_TRACKER
def sync(name: str, to: str, tracking_uri: str | None) -> None:
    """Copy a sweep into another tracker, such as what was trained offline.

    Again, it goes on where it was cut off; what is done there already is left alone.
    """
    from sweep import syncing, tracking  # noqa: PLC0415

    source = tracking.Store.known_as(tracking_uri, name)
    target = tracking.Store.create(tracking.located(to), name)
    synced = syncing.sync(source, target, click.echo)
    click.echo(synced.line)
    where = hidden(target.uri)
    click.echo(f"tables    sweep aggregate {name} --tracking-uri {where}")
    if not synced.whole:
        sys.exit(SOME_FAILED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    arenas.share_one()
    for notice in (signal.SIGINT, signal.SIGTERM):
        signal.signal(notice, _interrupted)
    try:
        cli.main(arguments, prog_name="sweep", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(USER_ERROR)
    except click.UsageError as error:
        hint = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        _say(error.format_message().rstrip(".") + hint)
        sys.exit(USER_ERROR)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except Mistake as error:
        _say(str(error))
        sys.exit(USER_ERROR)
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _say(f"{where}{os.strerror(error.errno)}; make room there and run the same command again")
        sys.exit(SOME_FAILED)


@contextlib.contextmanager
def _interruptible(claims: Sequence[Any]) -> Iterator[None]:
    """Leave the runs in order where training is cut off, and say how to go on.

    Args:
        claims: Claims on the sweeps that are driven, as far as they are known by then.
    """
    from sweep import driver  # noqa: PLC0415

    try:
        yield
    except KeyboardInterrupt:
        # Only now that Ray's workers are gone does no run start any more.
        for claim in claims:
            if claim.taken_by:
                _say(f"stopped: {claim.taken_by} has taken the sweep {claim.store.name} over")
                sys.exit(INTERRUPTED)
            driver.interrupt(claim.store, _say)
        _say(f"interrupted; what is done is kept. Go on with: {_again()}")
        sys.exit(INTERRUPTED)


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    """A spot instance's notice is an interrupt like Ctrl-C."""
    # A query that is cut off would log its traceback; the next one opens a connection of its own.
    logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL + 1)
    raise KeyboardInterrupt


def _say(line: str) -> None:
    click.echo(hidden(" ".join(f"sweep: {line}".split())), err=True)


def _again() -> str:
    return " ".join(["sweep", *sys.argv[1:]])


def _folder(spec: Any) -> Path:
    """The sweep's own folder: cached scores, tables, figures."""
    return Path(spec.storage_path) / spec.name


def _runs(name: str, output: Path | None, tracking_uri: str | None) -> tuple[Any, Any]:
    """Where the runs are and the runs: of a folder or file, else of a sweep in the tracker."""
    from sweep import folders, run_folders  # noqa: PLC0415

    path = Path(name).expanduser()
    if not path.exists():
        if os.sep in name:
            raise Mistake(f"{name}: expected a folder of runs; got no such place")
        return _named(name, output, tracking_uri)
    if os.sep not in name:
        # A folder may bear a sweep's name; ./NAME always means the folder.
        with contextlib.suppress(NoSuchSweep):
            return _named(name, output, tracking_uri)
    whole = path.absolute()
    return run_folders.RunFolders(), folders.gather(
        path, output or whole.with_name(f"{whole.stem}-hardness")
    )


def _named(name: str, output: Path | None, tracking_uri: str | None) -> tuple[Any, Any]:
    from sweep import standing  # noqa: PLC0415

    found = standing.find(name, tracking_uri)
    if output is not None:
        raise Mistake(f"--output: expected with a PATH; got with the sweep {name}")
    if found[1].spec.arms:
        raise Mistake(f"{name}: expected a sweep with scores; got one that prunes")
    refuse_unwritable(_folder(found[1].spec), "storage_path")
    return found


def _refuse_lonely(metrics: Sequence[str], regimens: Sequence[str]) -> None:
    """Refuse a single score; a plain key stands for one of each regimen."""
    if len({*metrics}) == len({*regimens}) == 1:
        raise Mistake(
            f"compare: expected two metrics or more, or a metric and a truth; got {metrics[0]!r} "
            "alone"
        )


def _refuse_unknown(metrics: Sequence[str], known: Sequence[str]) -> None:
    if unknown := [m for m in metrics if m not in known]:
        raise Mistake(unknown_metric(unknown[0], known))


def _dataset(spec: Any) -> Any:
    """The sweep's dataset if this machine has the same one."""
    try:
        loaded, dataset = _loaded(spec)
    except Mistake as error:
        _say(f"the dataset is not here: {error}")
        return None
    if loaded.dataset_digest != spec.dataset_digest:
        _say("the dataset here differs from the one that was trained on")
        return None
    return dataset


def _loaded(spec: Any) -> tuple[Any, Any]:
    """The spec with its dataset's digest, and the dataset."""
    from sweep import driver  # noqa: PLC0415 - torch, for images alone

    return driver.load(spec)


def _dry_run(spec: Any, dataset: Any, uri: str, *, retry_failed: bool) -> None:
    from hardness.planting import described  # noqa: PLC0415
    from sweep import driver, planning, standing, tracking  # noqa: PLC0415
    from sweep.spec import shown_values  # noqa: PLC0415

    try:
        store = tracking.Store.find(uri, spec.name)
    except NoSuchSweep:
        store = None
    sweep = standing.look(spec, store)
    todo = planning.to_train(sweep.cells, retry_failed=retry_failed)
    packs = planning.packs(
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
    for line in planning.statements(spec, sweep.proposals):
        click.echo(f"  {line}")
    for proposal in sweep.proposals:
        shown = shown_values(proposal.parameters)
        configuration = proposal.configuration
        mine = [c for c in sweep.cells if c.run.configuration == configuration]
        seeds = " ".join(f"{c.run.seed}:{c.state}" for c in mine)
        click.echo(f"  {configuration.configuration_id} {configuration.regimen} {shown}  {seeds}")
    if spec.method == "bayes":
        click.echo("  a Bayesian search proposes the rest as results come in")
    if store:
        _print_seeds(sweep)
    counted = f"{len(sweep.cells)} cells, {len(todo)} to train, in {len(packs)} packs"
    if spec.adaptive:
        most = sum(len(spec.most_seeds(p.configuration.regimen)) for p in sweep.proposals)
        counted += f"; at most {most} cells if no look ends a configuration sooner"
    click.echo(counted)
    if todo:
        left = timedelta(seconds=round(driver.estimate(spec, dataset, todo)))
        click.echo(f"about {left} of training on one core of this machine, measured on one epoch")


def _places_of_images(dataset: Any) -> list[str]:
    """Where images are read from that are not held in memory, and what a cache takes."""
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


def _aggregate(
    sweep: Any,
    store: Any,
    dataset: Any,
    *,
    intervals: bool,
    figures: bool,
    given: Any = None,
    given_truths: Any = None,
) -> Any:
    from sweep import adaptive, tables, tracking  # noqa: PLC0415
    from sweep import aggregate as aggregation  # noqa: PLC0415

    aggregation.quiet()
    folder = _folder(sweep.spec)
    result = aggregation.aggregate(
        sweep, store, folder,
        dataset=dataset, given=given, given_truths=given_truths, intervals=intervals,
    )  # fmt: skip
    if not result.scores:
        _say("no run is done, so there is nothing to aggregate")
        for note in result.notes if sweep.recorded else ():
            _say(note)
        return result
    aggregation.write(result, folder)
    best = [
        one.configuration.configuration_id
        for one in aggregation.best_of_each_regimen(sweep, result.scores)
    ]
    if figures:
        from sweep import report  # noqa: PLC0415 - Matplotlib, once the aggregation needs no memory

        report.draw(result, best, folder / "figures", dataset)
    else:
        # Lest those of an earlier aggregation pass for its own.
        for path in (folder / "figures").glob("*.png"):
            path.unlink()
    if not sweep.recorded:
        adaptive.write(adaptive.table(*_due(sweep)), folder)
        aggregation.publish(sweep, store, result, folder)
    tables.print_stability(result, best)
    tables.print_agreement(result.agreement, "Agreement with the supervised reference ranking")
    tables.print_truth(result.truth)
    for note in result.notes:
        click.echo(f"note: {note}")
    looks = not sweep.recorded and _print_seeds(sweep)
    some = {"truth.csv": result.truth, "variance.csv": result.variance}
    more = "".join(f"{file}, " for file, table in some.items() if not table.empty)
    more += "seeds.csv, " if looks else ""
    click.echo(f"tables    {folder}/stability.csv, agreement.csv, {more}samples.parquet, notes.csv")
    if figures:
        click.echo(f"figures   {folder}/figures/")
    if not sweep.recorded:
        uri = hidden(store.uri)
        where = "" if uri == tracking.default_uri() else f" --tracking-uri {uri}"
        click.echo(f"runs      sweep ui {sweep.spec.name}{where}")
    return result


def _due(sweep: Any) -> tuple[Any, Any, Any]:
    """What decides how many seeds each configuration has."""
    return sweep.spec, sweep.proposals, sweep.due


def _print_seeds(sweep: Any) -> bool:
    """A line a configuration with adaptive seeds; whether any look was taken."""
    from sweep import adaptive  # noqa: PLC0415

    for line in adaptive.lines(*_due(sweep)):
        click.echo(f"seeds     {line}")
    return any(due.looks for due in sweep.due.values())


def _exit_recorded(sweep: Any, result: Any) -> None:
    """End with 1 if a run is unfinished or damaged, naming each."""
    bad = [f"seed {c.run.seed}: {c.trace.reason}" for c in sweep.cells if c.state != "done"]
    bad += [f"seed {seed}: {why}" for s in result.scores for seed, why in s.missing.items()]
    for line in dict.fromkeys(bad):
        _say(line)
    if bad or not result.scores:
        sys.exit(SOME_FAILED)


def _exit(sweep: Any, *, unfinished: bool = False) -> None:
    """End with 1 if cells failed or, where the job was to finish them, are not done."""
    bad = [c for c in sweep.cells if c.state == "failed" or (unfinished and c.state != "done")]
    if bad:
        states = " and ".join(sorted({c.state for c in bad}))
        _say(f"{len(bad)} of {len(sweep.cells)} cells {states}; see sweep status {sweep.spec.name}")
        sys.exit(SOME_FAILED)
