"""The command line: parse, call, print, exit code."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click

from hardness.files import FULL
from sweep.errors import Mistake, NoSuchSweep, hidden, refuse_unwritable, unknown_metric
from sweep.report.preview import print_adaptive_seeds, print_dry_run
from sweep.scoring import memory

DONE, SOME_FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130
_FORMAT = click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv"]), default="table",
    help="A table to read, or JSON or CSV for programs.",
)  # fmt: skip
_TRACKER = click.option(
    "--tracking-uri", metavar="URI",
    help="The sweep's tracker: an MLflow server, sqlite:///FILE, or offline (./sweeps/offline.db); "
    "by default ./mlflow.db, else offline.",
)  # fmt: skip
_OUTPUT = click.option(
    "--output", type=click.Path(path_type=Path),
    help="Folder for the tables and figures of a PATH; by default a folder beside PATH.",
)  # fmt: skip
_SCORES = click.option(
    "--scores", "files", multiple=True, type=click.Path(path_type=Path),
    help="A CSV or parquet file of other scores: sample_id and one column per score. High is hard; "
    "a column named like a metric has that metric's sign.",
)  # fmt: skip
_LOW = click.option(
    "--low-is-hard", multiple=True, metavar="COLUMN", help="A --scores column where low is hard."
)
_TRUTH = click.option(
    "--truth", "truth_files", multiple=True, type=click.Path(path_type=Path),
    help="A CSV or parquet file of truths: sample_id and one column per truth. High is hard. "
    "A truth of 0 and 1 is judged by AUROC, any other by rank correlation.",
)  # fmt: skip
_NO_FIGURES = click.option("--no-figures", is_flag=True, help="Make tables only.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Which samples are hard, rare or wrong, and would another seed agree?"""


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[key=value …]")
@click.option("--seeds", help="Seeds, such as 10 or 0:10; overrides the file.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and start nothing.")
@click.option("--no-aggregate", is_flag=True, help="Train, and make no tables or figures.")
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
    """Train the missing cells of a sweep, then aggregate.

    Run the same command again to resume, or to add seeds, values or metrics. Finished cells are
    never trained twice.
    """
    # Importing Ray, MLflow and torch takes seconds, which --help must not wait for.
    from sweep.execution import adaptive_seeds, driver, fanout
    from sweep.execution import status as sweep_status
    from sweep.experiment import check, yaml_file
    from sweep.store import mlflow_store, ownership

    content = yaml_file.read(file, overrides)
    if seeds is not None:
        content["seeds"] = int(seeds) if seeds.isdecimal() else seeds
    spec = check.check(content, str(file))
    uri, _ = driver.places(content, spec)
    refuse_unwritable(_folder(spec), f"{file}: storage_path")
    fanout.refuse_too_large(spec.resources)
    spec, dataset = driver.load(spec)
    if dry_run:
        print_dry_run(spec, dataset, uri, retry_failed=retry_failed)
        return
    dataset = driver.prepare(spec, dataset, _say)
    store = mlflow_store.Store.create(uri, spec.name, spec.artifacts)
    content = driver.resolved(content, spec)
    with ownership.driving(store, _say) as mine, _interruptible([mine]), fanout.session(_say):
        sweep = driver.train(content, spec, dataset, store, retry_failed=retry_failed)
        if no_aggregate:
            looks = adaptive_seeds.table(spec, sweep.proposals, sweep.due)
            adaptive_seeds.write(looks, _folder(spec))
            print_adaptive_seeds(sweep)
        else:
            _aggregate(sweep, store, dataset, intervals=True, figures=not no_figures)
    _exit(sweep_status.look(spec, store), unfinished=True)


@cli.command()
@click.argument("name")
@_TRACKER
@_FORMAT
def status(name: str, tracking_uri: str | None, form: Any) -> None:
    """Show which cells are done, running, failed (with the reason) and missing."""
    from sweep.execution import status as sweep_status
    from sweep.report import status_table, terminal

    _, sweep = sweep_status.find(name, tracking_uri)
    if form == "table":
        status_table.print_status(sweep)
        print_adaptive_seeds(sweep)
    else:
        terminal.emit(status_table.status(sweep), form)
    _exit(sweep)


@cli.command()
@click.argument("name", metavar="NAME|PATH")
@click.option("--no-intervals", is_flag=True, help="Compute no intervals of agreement and truth.")
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
    """Make tables and figures of finished runs: scores, stability, agreement, truth.

    NAME is a sweep; its tables are also logged to MLflow. PATH is a folder with runs of a
    recorder, cartography's dynamics or AUM's files.
    """
    from sweep.aggregation import truths
    from sweep.execution import fanout
    from sweep.execution import status as sweep_status
    from sweep.store import recorded_runs

    given = recorded_runs.given_scores(files, low_is_hard)
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
        _exit(sweep_status.look(sweep.spec, store))


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
    """Show agreement with intervals for chosen metrics, such as ``aum msd_mean.contrastive``.

    A score of --scores or a truth of --truth is named ``column.file``, a planted truth as in the
    runs' samples, such as ``truth_noise_symmetric``. With a truth, the tables also show how well
    each metric finds it, and the paired differences of the metrics.
    """
    from sweep.aggregation import aggregate as aggregation
    from sweep.aggregation import agreement_table, collected_scores, truth_table, truths
    from sweep.execution import fanout
    from sweep.report import terminal
    from sweep.store import recorded_runs

    given = recorded_runs.given_scores(files, low_is_hard)
    given_truths = truths.given_truths(truth_files)
    store, sweep = _runs(name, output, tracking_uri)
    own = truths.refuse_others({**given, **given_truths}, store, sweep.cells)
    _refuse_unknown(metrics, [*sweep.spec.needs.nameable, *given, *own, *given_truths])
    _refuse_lonely(metrics, sweep.spec.regimens)
    with fanout.session(_say):
        collected_scores.quiet()
        scores, notes = collected_scores.collect(sweep, store, _folder(sweep.spec))
        joined = collected_scores.join(given, scores[0].sample_ids, notes) if scores else {}
        pixels: dict[str, Any] = {}
        if collected_scores.needs_images(metrics) and not sweep.recorded:
            dataset = _loaded(sweep.spec)[1]
            pixels = collected_scores.pixel_scores(metrics, dataset, _folder(sweep.spec))
        truth = truth_table.truths_of(sweep, store, scores, given_truths, notes).by_name
        _refuse_unknown(
            metrics, [*collected_scores.score_keys(sweep, scores, pixels), *joined, *truth]
        )
        asked = {name: values for name, values in truth.items() if name in metrics}
        table = agreement_table.agreement_table(
            sweep, scores, pixels, joined, intervals=True, keys=metrics, truths=asked,
            control=collected_scores.cached_control(sweep.spec, _folder(sweep.spec)), pairwise=True,
        )  # fmt: skip
        against = truth_table.against_truths(
            sweep, scores, pixels, joined, asked, intervals=True, keys=metrics
        )
        differences = truth_table.differences_on_truths(
            sweep, scores, pixels, joined, asked, keys=metrics
        )
        table = aggregation.marked(table, sweep.spec.needs.approximated)
    if form == "table":
        # Truths have a table of their own.
        if not table.empty:
            table = table[~(table["left"].isin([*asked]) | table["right"].isin([*asked]))]
        terminal.print_agreement(table, f"Agreement in {name}", reference=False)
        terminal.print_pairwise(table)
        terminal.print_truth(against, every=True)
        terminal.print_differences(differences)
    else:
        terminal.emit(terminal.with_truth(table, against, differences), form)


@cli.command()
@click.argument("name")
@click.argument("further", nargs=-1, metavar="[METRIC…]")
@click.option("--by", "by", multiple=True, required=True, metavar="METRIC…",
              help="Scores that choose the samples to keep, as for compare.")  # fmt: skip
@click.option("--keep", default="0.9,0.7,0.5", show_default=True, help="Shares of samples to keep.")
@click.option("--seeds", default="5", show_default=True,
              help="Number of new seeds, or the seeds themselves, such as 10:15.")  # fmt: skip
@click.option("--configuration", help="Id or its beginning; by default the best supervised one.")
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
    """Train again on the hardest, on the easiest and on as many random samples.

    This is the sweep NAME-prune; the same command resumes it. A random part has the class counts of
    the part that it is compared with. Every arm takes as many steps as all samples would.
    """
    from sweep.execution import driver, fanout
    from sweep.execution import status as sweep_status
    from sweep.experiment import check, seed_list
    from sweep.pruning import retraining
    from sweep.report import prune_figure
    from sweep.store import mlflow_store, ownership

    keeps = retraining.shares(keep)
    asked = seed_list.seeds(int(seeds) if seeds.isdecimal() else seeds, "--seeds")
    store, sweep = sweep_status.find(name, tracking_uri)
    refuse_unwritable(_folder(sweep.spec), "storage_path")
    retrained = retraining.retraining_seeds(len(asked) if seeds.isdecimal() else asked, sweep)
    retraining.refuse(sweep, store, [*by, *further], configuration)
    claims: list[Any] = []
    with contextlib.ExitStack() as until_ray_is_gone, _interruptible(claims), fanout.session(_say):
        plan = retraining.plan(
            sweep, store, [*by, *further], keeps, retrained, _folder(sweep.spec), configuration
        )
        spec = check.check(plan.content, f"{name}-prune")
        if dry_run:
            print_dry_run(spec, plan.dataset, store.uri, retry_failed=retry_failed)
            return
        dataset = driver.prepare(spec, plan.dataset, _say)
        target = mlflow_store.Store.create(store.uri, spec.name, spec.artifacts)
        claims.append(until_ray_is_gone.enter_context(ownership.driving(target, _say)))
        driver.train(plan.content, spec, dataset, target, retry_failed=retry_failed)
    pruned = sweep_status.look(spec, target)
    table, folder = retraining.table(pruned, dataset, plan.truths), _folder(spec)
    retraining.write(table, folder)
    prune_figure.draw_pruning(table, folder / "figures")
    aggregate_run = target.aggregate_run()
    target.upload_folder(aggregate_run, folder)
    target.finish(aggregate_run)
    prune_figure.print_pruning(table, name)
    for note in plan.notes:
        click.echo(f"note: {note}")
    click.echo(f"table     {folder}/prune.csv")
    click.echo(f"figure    {folder}/figures/prune.png")
    _exit(pruned, unfinished=True)


@cli.command()
@click.option("--plugin", "plugins", multiple=True, type=click.Path(path_type=Path),
              help="A file with your own metrics.")  # fmt: skip
@_FORMAT
def metrics(plugins: tuple[Path, ...], form: Any) -> None:
    """List every metric: family, sign and its origin, needs, paper."""
    from sweep.experiment.plugins import Plugin
    from sweep.report import metric_list, terminal

    for path in plugins:
        Plugin.read(path, "--plugin").load()
    if form == "table":
        metric_list.print_metrics()
    else:
        terminal.emit(metric_list.metrics(), form)


@cli.command()
@click.argument("name")
@click.option("--port", type=click.IntRange(1, 65_535), default=5000, show_default=True,
              help="Port on 127.0.0.1.")  # fmt: skip
@_TRACKER
def ui(name: str, port: int, tracking_uri: str | None) -> None:
    """Start the MLflow UI for a sweep, or print its address on an MLflow server."""
    from sweep.store import mlflow_store

    store = mlflow_store.Store.known_as(tracking_uri, name)
    uri = store.uri
    # Without the workflow type the page shows traces of language models.
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
@click.option("--to", required=True, metavar="URI", help="Target tracker, as for --tracking-uri.")
@_TRACKER
def sync(name: str, to: str, tracking_uri: str | None) -> None:
    """Copy a sweep into another tracker, for example after offline training.

    The same command resumes an interrupted copy. Runs that are already there are skipped.
    """
    from sweep.experiment import addresses
    from sweep.store import mlflow_store, syncing

    source = mlflow_store.Store.known_as(tracking_uri, name)
    target = mlflow_store.Store.create(addresses.located(to), name)
    synced = syncing.sync(source, target, click.echo)
    click.echo(synced.line)
    where = hidden(target.uri)
    click.echo(f"tables    sweep aggregate {name} --tracking-uri {where}")
    if not synced.whole:
        sys.exit(SOME_FAILED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. A user's mistake gives one line and exit code 2."""
    memory.share_one()
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
    """If training is interrupted, mark the runs and say how to go on.

    Args:
        claims: Claims on the sweeps that this process drives; the list may grow meanwhile.
    """
    from sweep.execution import driver

    try:
        yield
    except KeyboardInterrupt:
        # Ray's workers have ended by now, so no run can start any more.
        for claim in claims:
            if claim.taken_by:
                _say(f"stopped: {claim.taken_by} has taken the sweep {claim.store.name} over")
                sys.exit(INTERRUPTED)
            driver.interrupt(claim.store, _say)
        _say(f"interrupted; what is done is kept. Go on with: {_again()}")
        sys.exit(INTERRUPTED)


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    """Treat SIGTERM, such as a spot instance's notice, like Ctrl-C."""
    # An interrupted query would log its traceback; the next query opens a new connection.
    logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL + 1)
    raise KeyboardInterrupt


def _say(line: str) -> None:
    click.echo(hidden(" ".join(f"sweep: {line}".split())), err=True)


def _again() -> str:
    return " ".join(["sweep", *sys.argv[1:]])


def _folder(spec: Any) -> Path:
    """The sweep's folder, with cached scores, tables and figures."""
    return Path(spec.storage_path) / spec.name


def _runs(name: str, output: Path | None, tracking_uri: str | None) -> tuple[Any, Any]:
    """The store and the sweep: of a folder or file of runs, else of a sweep in the tracker."""
    from sweep.store import recorded_runs, run_folders

    path = Path(name).expanduser()
    if not path.exists():
        if os.sep in name:
            raise Mistake(f"{name}: expected a folder of runs; got no such place")
        return _named(name, output, tracking_uri)
    if os.sep not in name:
        # A folder may have a sweep's name; ./NAME always means the folder.
        with contextlib.suppress(NoSuchSweep):
            return _named(name, output, tracking_uri)
    whole = path.absolute()
    return run_folders.RunFolders(), recorded_runs.gather(
        path, output or whole.with_name(f"{whole.stem}-hardness")
    )


def _named(name: str, output: Path | None, tracking_uri: str | None) -> tuple[Any, Any]:
    from sweep.execution import status as sweep_status

    found = sweep_status.find(name, tracking_uri)
    if output is not None:
        raise Mistake(f"--output: expected a PATH with it; got the sweep {name}")
    if found[1].spec.arms:
        raise Mistake(f"{name}: expected a sweep with scores; got one that prunes")
    refuse_unwritable(_folder(found[1].spec), "storage_path")
    return found


def _refuse_lonely(metrics: Sequence[str], regimens: Sequence[str]) -> None:
    """Refuse a single score; a key without a regimen stands for a score of each regimen."""
    if len({*metrics}) == len({*regimens}) == 1:
        raise Mistake(
            f"compare: expected two metrics or more, or a metric and a truth; got {metrics[0]!r} "
            "alone"
        )


def _refuse_unknown(metrics: Sequence[str], known: Sequence[str]) -> None:
    if unknown := [m for m in metrics if m not in known]:
        raise Mistake(unknown_metric(unknown[0], known))


def _dataset(spec: Any) -> Any:
    """The sweep's dataset; None if this machine does not have the same one."""
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
    from sweep.execution import driver  # imports torch

    return driver.load(spec)


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
    from sweep.aggregation import aggregate as aggregation
    from sweep.aggregation import collected_scores
    from sweep.execution import adaptive_seeds
    from sweep.experiment import addresses
    from sweep.report import terminal

    collected_scores.quiet()
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
        for one in collected_scores.best_of_each_regimen(sweep, result.scores)
    ]
    if figures:
        from sweep.report import figures as report  # Matplotlib, after aggregation freed its memory

        report.draw(result, best, folder / "figures", dataset)
    else:
        # Older figures would not belong to the new tables.
        for path in (folder / "figures").glob("*.png"):
            path.unlink()
    if not sweep.recorded:
        looks = adaptive_seeds.table(sweep.spec, sweep.proposals, sweep.due)
        adaptive_seeds.write(looks, folder)
        aggregation.publish(sweep, store, result, folder)
    terminal.print_stability(result, best)
    terminal.print_agreement(result.agreement, "Agreement with the supervised reference ranking")
    terminal.print_truth(result.truth)
    for note in result.notes:
        click.echo(f"note: {note}")
    has_looks = not sweep.recorded and print_adaptive_seeds(sweep)
    some = {"truth.csv": result.truth, "variance.csv": result.variance}
    more = "".join(f"{file}, " for file, table in some.items() if not table.empty)
    more += "seeds.csv, " if has_looks else ""
    click.echo(f"tables    {folder}/stability.csv, agreement.csv, {more}samples.parquet, notes.csv")
    if figures:
        click.echo(f"figures   {folder}/figures/")
    if not sweep.recorded:
        uri = hidden(store.uri)
        where = "" if uri == addresses.default_uri() else f" --tracking-uri {uri}"
        click.echo(f"runs      sweep ui {sweep.spec.name}{where}")
    return result


def _exit_recorded(sweep: Any, result: Any) -> None:
    """Exit with code 1 if a run is unfinished or damaged; prints a line for each."""
    bad = [f"seed {c.run.seed}: {c.trace.reason}" for c in sweep.cells if c.state != "done"]
    bad += [f"seed {seed}: {why}" for s in result.scores for seed, why in s.missing.items()]
    for line in dict.fromkeys(bad):
        _say(line)
    if bad or not result.scores:
        sys.exit(SOME_FAILED)


def _exit(sweep: Any, *, unfinished: bool = False) -> None:
    """Exit with code 1 if cells failed or, if ``unfinished`` is true, are not done."""
    bad = [c for c in sweep.cells if c.state == "failed" or (unfinished and c.state != "done")]
    if bad:
        states = " and ".join(sorted({c.state for c in bad}))
        _say(f"{len(bad)} of {len(sweep.cells)} cells {states}; see sweep status {sweep.spec.name}")
        sys.exit(SOME_FAILED)
