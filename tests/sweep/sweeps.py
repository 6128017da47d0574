"""Small real sweeps for the tests: experiment files, the command line, stored dynamics."""

import contextlib
import io

import numpy as np

from hardness.dynamics.folder import Dynamics
from sweep import cli
from sweep.execution import driver, status
from sweep.execution.places import Places
from sweep.execution.trial import run_pack
from sweep.experiment import check, yaml_file
from sweep.experiment.runs import Pack, RunSpec
from sweep.planning import search
from sweep.store.mlflow_store import Store

EXPERIMENT = """
name: {name}
dataset: {{name: digits, subset: {subset}}}
validation: {{split: 0.2}}
model: {{name: small_cnn, width: 4}}
regimens:
  supervised:
    train: {{max_epochs: {epochs}, batch_size: 32}}
    parameters: {{train.lr: {{values: {lrs}}}}}
  contrastive:
    train: {{max_epochs: {epochs}, batch_size: 64}}
seeds: {seeds}
metrics: {metrics}
"""
# Of all families, none of which takes a scoring pass: most tests are not about what is scored.
FEW = "[aum, mean_loss, el2n, energy, msd_mean, knn_distance, lid_mle]"


def experiment(folder, *, name="small", metrics="all", **options):
    """Write an experiment file; returns its path."""
    options = {"subset": 120, "epochs": 3, "lrs": "[0.05, 0.1]", "seeds": "2"} | options
    path = folder / f"{name}.yaml"
    path.write_text(EXPERIMENT.format(name=name, metrics=metrics, **options))
    return path


def command(*arguments):
    """Run the command line in this process: exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main([str(a) for a in arguments])
        except SystemExit as error:
            return error.code or 0, out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def by_hand(path, *overrides, checkpoint_seconds=60.0):
    """Each run of an experiment file, its places and its training, which a worker would run.

    What Ray does is another subject of the tests, and a process of its own costs seconds.
    """
    content = yaml_file.read(path, overrides)
    spec, dataset = driver.load(check.check(content, str(path)))
    store = Store.create(driver.places(content, spec)[0], spec.name)
    known = {"dataset_digest": spec.dataset_digest, "dataset_size": spec.dataset_size}
    store.save_sweep({**driver.resolved(content, spec), **known}, {})
    places = Places(
        store=store,
        name=spec.name,
        storage_path=spec.storage_path,
        recording=spec.needs.recording,
        checkpoint_seconds=checkpoint_seconds,
    )
    for proposal in search.proposals(spec, [], {}):
        parent = store.save_configuration(
            proposal.configuration, proposal.parameters, proposal.number
        )
        for seed in spec.seeds:
            pack = Pack(configuration=proposal.configuration, seeds=(seed,), parent_run=parent)
            run = RunSpec(configuration=proposal.configuration, seed=seed)
            yield run, places, run_pack(pack, dataset, places)


def train(path, *overrides):
    """Train all runs of an experiment file in this process."""
    for run, _, training in by_hand(path, *overrides):
        *_, last = training
        assert last.state == "done", (run, last)


def stored(store, tracking_run, names=None):
    """Per-epoch signals of a finished run, as bytes that must match to the bit."""
    dynamics = Dynamics(store.local_folder(tracking_run))
    dynamics.verify()
    names = names or [s for s in dynamics.manifest.signals if s not in dynamics.snapshots()]
    arrays = {**dynamics.signals(names), **dynamics.snapshots()}
    return {name: np.ascontiguousarray(a).tobytes() for name, a in arrays.items()}


def cells(name, uri=None):
    """A store and the sweep of that name in it."""
    return status.find(name, uri)
