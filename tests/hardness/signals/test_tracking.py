"""Signals of successive embeddings, and the arrays kept of the last."""

import numpy as np
import torch

from hardness.signals.tracking import EmbeddingTracker, snapshots


def test_displacement_is_from_the_epoch_before():
    tracker = EmbeddingTracker()
    updates = [
        tracker.update(torch.tensor(emb)) for emb in ([[3.0, 4.0]], [[3.0, 8.0]], [[3, 7.0]])
    ]
    assert [found["feature_norm"].item() for found in updates] == [12.5, 36.5, 29.0]
    assert np.isnan(updates[0]["msd"]).all()
    assert [found["msd"].item() for found in updates[1:]] == [8.0, 0.5]


def test_turns_are_from_the_epoch_before():
    tracker = EmbeddingTracker()
    updates = [tracker.update(torch.tensor([row])) for row in ([3.0, 0], [0, 8.0], [0, -2.0])]
    assert np.isnan(updates[0]["msd_cosine"]).all()
    assert [found["msd_cosine"].item() for found in updates[1:]] == [1.0, 2.0]
    assert all(values.dtype == np.float32 for values in updates[1].values())


def test_an_encoder_that_was_dead_for_an_epoch_moved_by_its_whole_length():
    tracker = EmbeddingTracker()
    tracker.update(torch.ones(2, 2))
    dead = tracker.update(torch.zeros(2, 2))
    assert dead["msd"].tolist() == dead["msd_cosine"].tolist() == [1.0, 1.0]
    found = tracker.update(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert found["msd"].tolist() == [12.5, 0.0]
    assert found["feature_norm"].tolist() == [12.5, 0.0]
    assert found["msd_cosine"].tolist() == [1.0, 0.0]


def test_only_what_is_wanted_and_available_is_kept():
    emb = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]], dtype=torch.float64)
    assert snapshots((), {"emb": emb}) == {}
    assert snapshots(("emb", "logits"), {"emb": emb}).keys() == {"emb"}
    kept = snapshots(("neighbor_distances",), {"emb": emb})["neighbor_distances"]
    assert kept.dtype == np.float32
    np.testing.assert_allclose(kept, [[0, 2**0.5], [2**0.5, 2**0.5], [0, 2**0.5]], rtol=1e-6)


def test_neighbors_are_kept_as_distances_and_rows_of_one_graph():
    emb = torch.randn(30, 4, generator=torch.manual_seed(0))
    kept = snapshots(("neighbor_rows", "neighbor_distances"), {"emb": emb})
    rows, distances = kept["neighbor_rows"], kept["neighbor_distances"]
    assert (rows.dtype, rows.shape) == (np.dtype(np.int32), (30, 20))
    unit = torch.nn.functional.normalize(emb, dim=1).numpy()
    between = np.linalg.norm(unit[rows] - unit[:, None], axis=2)
    np.testing.assert_allclose(between, distances, rtol=1e-5)
    assert snapshots(("neighbor_rows",), {"emb": emb}).keys() == {"neighbor_rows"}
    np.testing.assert_array_equal(
        snapshots(("neighbor_rows",), {"emb": emb})["neighbor_rows"], rows
    )
