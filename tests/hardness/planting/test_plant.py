"""Planted hardness: exact counts, seeds, what may meet in one row, each kind, and its traps."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hardness.data.datasets import Dataset, content_digest, load
from hardness.data.options import DatasetOptions
from hardness.data.source import SOURCE, Samples
from hardness.dynamics.folder import samples_table, write_samples
from hardness.models.options import ModelOptions
from hardness.planting.class_groups import CONFUSED, SUPERCLASSES
from hardness.planting.ground import share_of
from hardness.planting.options import (
    KINDS,
    Atypical,
    Drawn,
    Duplicate,
    HumanLabels,
    HumanVotes,
    ImageBlur,
    ImageGaussian,
    ImageMix,
    LongTail,
    NoiseAsymmetric,
    NoiseHuman,
    OodFar,
    OodNear,
    Planting,
    RareSubgroup,
)
from hardness.planting.plant import described, plant
from hardness.seeding import Streams
from hardness.training.options import Supervised, TrainOptions
from hardness.training.supervised import supervised
from tests.conftest import SHARED_DATA
from tests.photographs import write_imagenet

FAR = DatasetOptions(name="mnist")
CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"
)  # fmt: skip
CYCLE: dict = {str(c): str((c + 3) % 10) for c in range(10)}


def options(kind, rate, **more):
    """A drawn kind's options at a rate, with whatever else it needs."""
    kinds: dict = {
        "noise_asymmetric": lambda **o: NoiseAsymmetric(classes=CYCLE, **o),
        "noise_image_blur": ImageBlur,
        "noise_image_gaussian": ImageGaussian,
        "noise_image_mix": ImageMix,
        "ood_near": OodNear,
        "ood_far": lambda **o: OodFar(dataset=FAR, **o),
        "atypical": Atypical,
        "duplicate": Duplicate,
    }
    return kinds.get(kind, Drawn)(rate=rate, **more)


LABELS = ("noise_symmetric", "noise_asymmetric", "noise_pair", "noise_adjacent")
IMAGES = (
    "noise_image_blur",
    "noise_image_gaussian",
    "noise_image_mix",
    "ood_near",
    "ood_far",
    "atypical",
)
DRAWN = (*LABELS, *IMAGES, "duplicate")


def made(labels, *, classes=None, channels=3, side=6, name="made", columns=None, held=20):
    """A dataset of random images, no two alike, whose ids have gaps."""
    labels = np.asarray(labels, dtype=np.int64)
    classes = classes or tuple(map(str, range(int(labels.max()) + 1)))
    rng = np.random.default_rng(7)
    n = len(labels)

    def samples(count, given, ids):
        shape = count, channels, side, side
        images = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
        return Samples(images=images, labels=torch.as_tensor(given), sample_ids=ids)

    train = samples(n, labels, 3 * torch.arange(n) + 1)
    validation = samples(held, np.arange(held) % len(classes), torch.arange(held))
    table = pd.DataFrame(index=range(n))
    for column, values in (columns or {}).items():
        table[SOURCE + column] = list(values)
    return Dataset(
        name=name,
        classes=classes,
        train=train,
        validation=validation,
        columns=table,
        digest=content_digest(classes, train, validation),
        data_seed=4,
    )


def balanced(n, n_classes=10, **more):
    return made(np.arange(n) % n_classes, **more)


@pytest.fixture(scope="module")
def digits():
    return load(DatasetOptions(name="digits", subset=600), 0.2)


@pytest.fixture(scope="module")
def far():
    return balanced(300, channels=1, side=9, name="mnist")


def truth(dataset, kind):
    return dataset.columns[f"truth_{kind}"].to_numpy(copy=True)


def hit(dataset, kind):
    return dataset.columns["planted"].map(lambda text: kind in text.split("+")).to_numpy(copy=True)


def changed_images(before, after):
    return (before.train.images != after.train.images).flatten(1).any(dim=1).numpy()


class TestEveryDrawnKind:
    @pytest.mark.parametrize("kind", DRAWN)
    def test_hits_exactly_so_many_rows_and_leaves_all_others_alone(self, digits, far, kind):
        found = plant(digits, Planting(**{kind: options(kind, 0.11)}), far)
        rows = hit(found, kind)
        assert rows.sum() == math.floor(0.11 * 480) == 52
        assert found.train.sample_ids.equal(digits.train.sample_ids)
        assert found.columns["true_label"].tolist() == digits.train.labels.tolist()
        wrong = (found.train.labels != digits.train.labels).numpy()
        painted = changed_images(digits, found)
        if kind in LABELS:
            assert (wrong == rows).all()
            assert not painted.any()
        else:
            assert not wrong.any()
            assert not painted[~rows].any()
            # A digit's negative or blur always differs; a copied digit may look as before.
            assert painted[rows].mean() > 0.9
        for part in ("images", "labels", "sample_ids"):
            held = [getattr(d.validation, part) for d in (digits, found)]
            assert held[0].equal(held[1])
        assert found.digest == content_digest(found.classes, found.train, found.validation)
        assert found.digest != digits.digest

    @pytest.mark.parametrize("kind", DRAWN)
    def test_the_same_seed_draws_the_same_and_another_one_other_rows(self, digits, far, kind):
        def planted(**more):
            return plant(digits, Planting(**{kind: options(kind, 0.2, **more)}), far)

        first, again, other = planted(), planted(seed=digits.data_seed), planted(seed=1)
        assert first.digest == again.digest
        pd.testing.assert_frame_equal(first.columns, again.columns)
        assert (hit(first, kind) != hit(other, kind)).any()
        # The dataset's own seed draws where the kind has none.
        moved = dataclasses.replace(digits, data_seed=1)
        assert plant(moved, Planting(**{kind: options(kind, 0.2)}), far).digest == other.digest

    @pytest.mark.parametrize("kind", DRAWN)
    def test_a_larger_rate_hits_the_same_rows_and_more(self, digits, far, kind):
        few, many = (
            plant(digits, Planting(**{kind: options(kind, rate)}), far) for rate in (0.1, 0.3)
        )
        rows = hit(few, kind)
        assert hit(many, kind)[rows].all()
        if kind != "duplicate":
            assert many.train.labels[rows].equal(few.train.labels[rows])
            assert many.train.images[rows].equal(few.train.images[rows])

    @pytest.mark.parametrize("kind", [*LABELS, *IMAGES])
    def test_who_is_hit_depends_on_the_sample_id_and_not_on_the_subset(self, digits, far, kind):
        whole = hit(plant(digits, Planting(**{kind: options(kind, 0.3)}), far), kind)
        rows = np.flatnonzero(np.arange(len(whole)) % 3 > 0)
        part = dataclasses.replace(
            digits,
            train=digits.train.take(torch.from_numpy(rows)),
            columns=digits.columns.iloc[rows].reset_index(drop=True),
        )
        rate = (whole[rows].sum() + 0.5) / len(rows)
        found = plant(part, Planting(**{kind: options(kind, float(rate))}), far)
        assert (hit(found, kind) == whole[rows]).all()

    @pytest.mark.parametrize("kind", DRAWN)
    def test_does_not_change_the_dataset_that_it_was_given(self, digits, far, kind):
        before = digits.train.images.clone(), digits.train.labels.clone()
        plant(digits, Planting(**{kind: options(kind, 0.4)}), far)
        assert digits.train.images.equal(before[0])
        assert digits.train.labels.equal(before[1])
        assert content_digest(digits.classes, digits.train, digits.validation) == digits.digest


class TestCounts:
    def test_a_rate_is_the_decimal_that_was_written(self):
        # In floats 0.29 * 100 is 28.999999999999996, and 0.57 * 100 is 56.99999999999999.
        assert [share_of(r, 100) for r in (0.29, 0.57, 0.1, 1.0)] == [29, 57, 10, 100]

    @given(st.integers(1, 10**4), st.integers(1, 10**7))
    def test_is_the_floor_of_the_exact_product(self, thousandths, n):
        assume(thousandths * n >= 10**4)
        assert share_of(thousandths / 10**4, n) == thousandths * n // 10**4

    def test_no_row_is_no_planting(self, digits):
        with pytest.raises(ValueError, match=r"noise_pair: rate: expected at least one of 480 sam"):
            plant(digits, Planting(noise_pair=Drawn(rate=0.002)))


class TestComposition:
    rates = st.fixed_dictionaries({}, optional=dict.fromkeys(DRAWN, st.floats(0.01, 0.07)))

    @settings(max_examples=25)
    @given(rates, st.integers(0, 3))
    def test_no_row_is_hit_twice(self, far, rates, seed):
        assume(rates)
        base = dataclasses.replace(balanced(300, channels=1), data_seed=seed)
        found = plant(base, Planting(**{k: options(k, r) for k, r in rates.items()}), far)
        masks = np.array([hit(found, kind) for kind in rates])
        assert masks.sum(axis=0).max() <= 1
        assert masks.sum(axis=1).tolist() == [share_of(r, 300) for r in rates.values()]
        planted = found.columns["planted"]
        assert {*planted} - {""} == {*rates}
        assert [c for c in found.columns if str(c).startswith("truth_")] == [
            f"truth_{kind}" for kind in KINDS if kind in rates
        ]
        wrong = found.train.labels.numpy() != found.columns["true_label"].to_numpy()
        noisy = np.isin(planted, LABELS)
        assert (wrong == noisy).all()

    @settings(max_examples=25)
    @given(rates, st.integers(0, 3))
    def test_with_overlap_an_image_and_a_label_are_still_overwritten_once(self, far, rates, seed):
        assume(rates)
        base = dataclasses.replace(balanced(300, channels=1), data_seed=seed)
        plan = Planting(overlap=True, **{k: options(k, r) for k, r in rates.items()})
        found = plant(base, plan, far)
        for targets in ((*LABELS, "duplicate"), (*IMAGES, "duplicate")):
            masks = [hit(found, kind) for kind in rates if kind in targets]
            assert not masks or np.sum(masks, axis=0).max() <= 1
        wrong = found.train.labels.numpy() != found.columns["true_label"].to_numpy()
        noisy = [hit(found, kind) for kind in rates if kind in LABELS]
        assert (wrong == np.any(noisy, axis=0)).all() if noisy else not wrong.any()

    def test_with_overlap_an_image_kind_does_not_move_the_noise(self, digits):
        noise, blur = Drawn(rate=0.3), ImageBlur(rate=0.5)
        alone = plant(digits, Planting(noise_symmetric=noise))
        both = plant(digits, Planting(overlap=True, noise_symmetric=noise, noise_image_blur=blur))
        assert both.train.labels.equal(alone.train.labels)
        names = {*both.columns["planted"]}
        assert names == {
            "", "noise_symmetric", "noise_image_blur", "noise_image_blur+noise_symmetric"
        }  # fmt: skip

    def test_rarity_meets_every_kind(self, digits):
        plan = Planting(long_tail=LongTail(imbalance=8.0), noise_symmetric=Drawn(rate=0.4))
        found = plant(digits, plan)
        assert "long_tail+noise_symmetric" in {*found.columns["planted"]}
        # The rate counts the rows that are left.
        assert truth(found, "noise_symmetric").sum() == share_of(0.4, len(found.train))

    def test_more_than_there_are_is_refused(self, digits):
        plan = Planting(noise_image_blur=ImageBlur(rate=0.7), noise_symmetric=Drawn(rate=0.4))
        said = "noise_symmetric: rate: expected at most the 144 samples that are free for it; "
        with pytest.raises(ValueError, match=said + "got 192"):
            plant(digits, plan)
        assert plant(digits, dataclasses.replace(plan, overlap=True)).digest

    def test_a_planted_dataset_is_not_planted_again(self, digits):
        once = plant(digits, Planting(noise_pair=Drawn(rate=0.1)))
        with pytest.raises(ValueError, match="expected a dataset in which nothing is planted"):
            plant(once, Planting(noise_pair=Drawn(rate=0.1)))


class TestLabels:
    def test_symmetric_noise_never_keeps_the_true_label_and_takes_all_others_alike(self):
        """Where H-CAT draws from all classes, and a tenth of its flags mark right labels."""
        base = balanced(20_000, side=1)
        found = plant(base, Planting(noise_symmetric=Drawn(rate=0.9)))
        rows = truth(found, "noise_symmetric")
        assert rows.sum() == 18_000
        true, given = found.columns["true_label"].to_numpy(), found.train.labels.numpy()
        assert (given[rows] != true[rows]).all()
        counts = np.zeros((10, 10))
        np.add.at(counts, (true[rows], given[rows]), 1)
        assert (np.diag(counts) == 0).all()
        # 200 expected in each of 90 cells; five standard deviations are 70.
        assert np.abs(counts[~np.eye(10, dtype=bool)] - 200).max() < 70

    def test_two_classes_are_swapped(self):
        found = plant(balanced(100, 2), Planting(noise_symmetric=Drawn(rate=0.3)))
        rows = truth(found, "noise_symmetric")
        assert (found.train.labels.numpy() == (np.arange(100) % 2) ^ rows).all()

    @pytest.mark.parametrize("kind", LABELS)
    def test_one_class_cannot_be_mistaken(self, kind):
        with pytest.raises(ValueError, match=f"^{kind}: .*expected at least 2 classes; got 1$"):
            plant(balanced(10, 1), Planting(**{kind: options(kind, 0.5)}))

    def test_pair_noise_takes_the_next_class_and_the_last_one_the_first(self):
        found = plant(balanced(100, 3), Planting(noise_pair=Drawn(rate=1.0)))
        assert found.train.labels.tolist() == [(i % 3 + 1) % 3 for i in range(100)]

    def test_adjacent_noise_takes_a_neighbour_and_does_not_go_round(self):
        found = plant(balanced(4000, 4, side=1), Planting(noise_adjacent=Drawn(rate=1.0)))
        true, given = found.columns["true_label"].to_numpy(), found.train.labels.numpy()
        taken = {c: {*given[true == c].tolist()} for c in range(4)}
        assert taken == {0: {1}, 1: {0, 2}, 2: {1, 3}, 3: {2}}
        assert (given[true == 1] == 0).mean() == pytest.approx(0.5, abs=0.08)

    def test_asymmetric_noise_hits_a_share_of_the_classes_that_are_mistaken(self):
        base = balanced(1000)
        noise = NoiseAsymmetric(rate=0.4, classes={"3": 5, "5": "3", "9": 1})
        found = plant(base, Planting(noise_asymmetric=noise))
        wrong = truth(found, "noise_asymmetric")
        true, given = found.columns["true_label"].to_numpy(), found.train.labels.numpy()
        assert wrong.sum() == 120
        assert {*zip(true[wrong], given[wrong], strict=True)} == {(3, 5), (5, 3), (9, 1)}
        # What was realised of all samples is said.
        assert described(found) == ["planted: noise_asymmetric in 120 of 1,000 samples (12.00%)"]

    @pytest.mark.parametrize(
        ("classes", "said"),
        [
            ({"cat": "cat"}, "classes: expected another class for 'cat'; got the same"),
            ({"cat": "cow"}, "classes: unknown class 'cow'; known: cat, dog"),
            ({"cat": 2}, "classes: unknown class '2'; known: cat, dog"),
            (None, "classes: expected a map from class to wrong class, or a conc"),
        ],
    )
    def test_a_class_is_mistaken_for_another_one(self, classes, said):
        """Where some of H-CAT's classes are mapped to themselves, and flagged."""
        base = balanced(100, 2, classes=("cat", "dog"))
        with pytest.raises(ValueError, match=f"^noise_asymmetric: {said}"):
            plant(base, Planting(noise_asymmetric=NoiseAsymmetric(rate=0.4, classes=classes)))

    def test_known_datasets_have_the_mistakes_of_patrini(self):
        base = balanced(1000, classes=CIFAR10, name="cifar10")
        found = plant(base, Planting(noise_asymmetric=NoiseAsymmetric(rate=1.0)))
        true, given = found.columns["true_label"].to_numpy(), found.train.labels.numpy()
        wrong = true != given
        pairs = {(CIFAR10[t], CIFAR10[g]) for t, g in zip(true[wrong], given[wrong], strict=True)}
        assert pairs == {*CONFUSED["cifar10"].items()}
        assert wrong.sum() == 500

    @pytest.mark.parametrize("concentration", [0.05, 1.0, 100.0])
    def test_a_dirichlet_row_never_is_the_class_itself(self, concentration):
        base = balanced(5000, side=1)
        noise = NoiseAsymmetric(rate=0.8, concentration=concentration)
        found = plant(base, Planting(noise_asymmetric=noise))
        rows = truth(found, "noise_asymmetric")
        true, given = found.columns["true_label"].to_numpy(), found.train.labels.numpy()
        assert ((true != given) == rows).all()
        assert rows.sum() == 4000
        largest = np.mean([np.bincount(given[rows & (true == c)]).max() for c in range(10)]) / 400
        # Nearly one class takes all of it, or each of nine a ninth.
        low, high = {0.05: (0.6, 1), 1.0: (0.2, 0.6), 100.0: (0.11, 0.2)}[concentration]
        assert low < largest < high


class TestPeople:
    def test_noisy_labels_are_trained_on_and_those_that_differ_are_the_truth(self):
        columns = {"people": [0, 1, 2, 2, 1, 0], "id": range(10, 16)}
        base = made([0, 1, 2, 0, 1, 2], columns=columns)
        found = plant(base, Planting(noise_human=NoiseHuman(column="people")))
        assert found.train.labels.tolist() == [0, 1, 2, 2, 1, 0]
        assert found.columns["true_label"].tolist() == [0, 1, 2, 0, 1, 2]
        assert truth(found, "noise_human").tolist() == [0, 0, 0, 1, 0, 1]
        assert found.columns["source_id"].tolist() == [*range(10, 16)]

    def test_as_truth_only_they_change_nothing_but_the_table(self):
        columns = {"a": [0, 1, 0, 1], "b": [0, 0, 1, 1], "c": [0, 1, 1, 1]}
        base = made([0, 1, 0, 0], columns=columns)
        found = plant(base, Planting(human_labels=HumanLabels(columns=("a", "b", "c"))))
        assert found.digest == base.digest
        assert found.columns["truth_human_errors"].tolist() == [0, 1, 2, 3]
        assert found.columns["planted"].tolist() == [""] * 4
        assert described(found) == ["truth: human_errors, graded from 0 to 3"]

    def test_votes_are_graded_truth(self):
        votes = [[4, 0, 0], [2, 2, 0], [1, 1, 2], [0, 0, 0]]
        base = made([0, 1, 0, 2], columns={"votes": votes})
        found = plant(base, Planting(human_votes=HumanVotes(column="votes")))
        assert found.digest == base.digest
        assert truth(found, "human_entropy").tolist() == pytest.approx(
            [0, math.log(2), 1.5 * math.log(2), math.nan], nan_ok=True
        )
        assert truth(found, "human_disagreement").tolist() == pytest.approx(
            [0, 0.5, 0.75, math.nan], nan_ok=True
        )

    def test_the_same_votes_for_other_classes_are_a_tie(self):
        rng = np.random.default_rng(0)
        votes = rng.permuted(np.tile([31, 11, 5, 2, 1, 1, 0, 0, 0, 0], (200, 1)), axis=1)
        base = made([*range(10)] * 20, columns={"votes": [*votes]})
        found = plant(base, Planting(human_votes=HumanVotes(column="votes")))
        assert len({*truth(found, "human_entropy")}) == 1

    def test_votes_are_kept_with_the_run(self, tmp_path):
        votes = [np.array([4, 0]), np.array([1, 3])]
        base = made([0, 1], columns={"votes": votes})
        found = plant(base, Planting(human_votes=HumanVotes(column="votes")))
        write_samples(
            tmp_path, samples_table(sample_ids=[1, 4], labels=[0, 1], columns=found.columns)
        )
        again = pd.read_parquet(tmp_path / "samples.parquet")
        assert again["source_votes"].map(list).tolist() == [[4, 0], [1, 3]]
        assert again["truth_human_disagreement"].tolist() == [0, 0.25]
        assert again["planted"].tolist() == ["", ""]

    def test_people_are_asked_about_the_superclass_that_is_learned(self):
        """Whoever takes a cat for a dog has still seen an animal."""
        columns = {"people": [1, 2, 3, 2], "votes": [[1, 3, 0, 0], [0, 0, 4, 0]] * 2}
        base = made([0, 1, 2, 3], columns=columns)
        groups: dict = {"animal": ("0", "1"), "vehicle": ("2", "3")}
        plan = Planting(
            rare_subgroup=RareSubgroup(groups=groups),
            noise_human=NoiseHuman(column="people"),
            human_votes=HumanVotes(column="votes"),
        )
        found = plant(base, plan)
        assert truth(found, "noise_human").tolist() == [False, True, False, False]
        assert found.train.labels.tolist() == [0, 1, 1, 1]
        assert truth(found, "human_entropy").tolist() == [0, 0, 0, 0]
        assert truth(found, "human_disagreement").tolist() == [0, 1, 1, 0]

    @pytest.mark.parametrize(
        ("plan", "said"),
        [
            (
                {"noise_human": NoiseHuman(column="x")},
                "noise_human: expected a column of the dataset; got 'x'; known: same, far, votes",
            ),
            (
                {"noise_human": NoiseHuman(column="same")},
                "noise_human: same: expected labels unlike the dataset's; got the same",
            ),
            (
                {"human_labels": HumanLabels(columns=("same", "far"))},
                "human_labels: far: expected labels from 0 to 1 in every row; got others",
            ),
            (
                {"noise_human": NoiseHuman(column="votes")},
                "noise_human: votes: expected labels from 0 to 1 in every row; got others",
            ),
            (
                {"human_votes": HumanVotes(column="same")},
                "human_votes: same: expected 2 counts of 0 or more in every row; got others",
            ),
            (
                {"human_votes": HumanVotes(column="votes")},
                "human_votes: votes: expected 2 counts of 0 or more in every row; got others",
            ),
        ],
    )
    def test_strange_columns_are_refused(self, plan, said):
        columns = {"same": [0, 1], "far": [0, 2], "votes": [[0, 1], [-1, 3]]}
        with pytest.raises(ValueError, match=f"^{said}$"):
            plant(made([0, 1], columns=columns), Planting(**plan))

    def test_only_parquet_has_columns(self, digits):
        with pytest.raises(ValueError, match=r"known: none, since only parquet has columns$"):
            plant(digits, Planting(noise_human=NoiseHuman(column="aggre_label")))


class TestImages:
    def test_blur_takes_detail_away_and_noise_adds_it(self, digits):
        def variation(dataset, rows):
            images = dataset.train.images[torch.from_numpy(rows)].double()
            return images.diff(dim=3).abs().mean().item()

        # Digits are all edges, beside which a little noise does not show.
        for kind, sigma, low, high in (
            ("noise_image_blur", 1.0, 0, 0.8),
            ("noise_image_gaussian", 80.0, 1.1, 9),
        ):
            found = plant(digits, Planting(**{kind: options(kind, 0.3, sigma=sigma)}))
            rows = truth(found, kind)
            ratio = variation(found, rows) / variation(digits, rows)
            assert low < ratio < high, kind

    def test_noise_is_of_the_size_that_was_asked_for(self):
        base = balanced(500, side=8)
        base.train.images.fill_(128)
        found = plant(base, Planting(noise_image_gaussian=ImageGaussian(rate=0.5, sigma=20.0)))
        rows = truth(found, "noise_image_gaussian")
        noise = found.train.images[torch.from_numpy(rows)].double() - 128
        assert noise.std() == pytest.approx(20, rel=0.02)
        assert noise.mean() == pytest.approx(0, abs=0.3)
        # No two rows share their noise.
        assert len(noise.flatten(1).unique(dim=0)) == 250

    def test_a_mix_has_a_partner_of_another_class_out_of_all_of_them(self):
        """Where published mixes were drawn from 100 base images alone."""
        base = balanced(1000, side=4)
        found = plant(base, Planting(noise_image_mix=ImageMix(rate=0.5, share=0.25)))
        rows = np.flatnonzero(truth(found, "noise_image_mix"))
        images, mixes = (d.train.images.double().flatten(1) for d in (base, found))
        # Of one image only, the mix is three quarters of the row's own and a quarter of that one.
        wanted = 4 * (mixes[rows] - 0.75 * images[rows])
        partners = torch.cdist(wanted, images).argmin(dim=1).numpy()
        assert (wanted - images[partners]).abs().max() <= 2
        labels = base.train.labels.numpy()
        assert (labels[partners] != labels[rows]).all()
        assert len(np.unique(partners)) > 300

    def test_a_mix_needs_a_second_class(self):
        with pytest.raises(ValueError, match="expected samples of at least 2 classes; got one"):
            plant(balanced(10, 1), Planting(noise_image_mix=ImageMix(rate=0.5)))

    def test_near_shifts_are_negatives_and_quarter_turns(self, digits):
        inverted = plant(digits, Planting(ood_near=OodNear(rate=0.2)))
        rows = torch.from_numpy(truth(inverted, "ood_near"))
        assert inverted.train.images[rows].equal(255 - digits.train.images[rows])
        turned = plant(digits, Planting(ood_near=OodNear(rate=0.2, shift="rotate")))
        assert turned.train.images[rows].equal(digits.train.images[rows].rot90(1, (2, 3)))

    def test_far_images_come_once_each_and_keep_the_rows_labels(self, far):
        base = balanced(400, side=9)
        found = plant(base, Planting(ood_far=options("ood_far", 0.5)), far)
        rows = truth(found, "ood_far")
        images = found.train.images[torch.from_numpy(rows)]
        # Grey becomes three equal channels; the size is that of the others already.
        theirs = {image.numpy().tobytes() for image in far.train.images}
        ours = [image[0].numpy().tobytes() for image in images]
        assert {*ours} <= theirs
        assert len({*ours}) == 200
        assert (images == images[:, :1]).all()
        assert found.train.labels.equal(base.train.labels)

    def test_far_images_go_the_way_of_all_pixels(self, far):
        """Where H-CAT's keep a range of their own, which gives them away."""
        found = plant(balanced(400), Planting(ood_far=options("ood_far", 0.5)), far)
        assert (found.train.images.dtype, found.train.images.shape[1:]) == (torch.uint8, (3, 6, 6))

    def test_far_images_need_another_dataset_with_enough_of_them(self, digits, far):
        plan = Planting(ood_far=options("ood_far", 0.9))
        with pytest.raises(ValueError, match=r"expected at least 432 training samples; got 300"):
            plant(digits, plan, far)
        with pytest.raises(ValueError, match="expected mnist; got another one or none"):
            plant(digits, plan)
        itself = OodFar(rate=0.1, dataset=DatasetOptions(name="digits"))
        with pytest.raises(ValueError, match="expected another dataset than the one planted"):
            plant(digits, Planting(ood_far=itself), digits)

    @pytest.mark.parametrize("only", ["zoom", "shift", "crop"])
    def test_atypical_images_are_of_the_operations_that_are_on(self, only):
        base = balanced(200, side=12, channels=1)
        base.train.images.zero_()
        base.train.images[:, :, 4:8, 4:8] = 255
        off: dict = {"zoom": 1.0, "shift": 0.0, "crop": 1.0}
        on = {"zoom": 2.0, "shift": 0.25, "crop": 0.5}
        plan = Planting(atypical=Atypical(rate=0.5, **{**off, only: on[only]}))
        found = plant(base, plan)
        rows = torch.from_numpy(truth(found, "atypical"))
        bright = (found.train.images[rows] > 127).flatten(1).sum(dim=1)
        if only == "zoom":
            assert (bright == 4).all()
        elif only == "shift":
            assert (bright == 16).all()
            assert len(found.train.images[rows].flatten(1).unique(dim=0)) == 4
        else:
            # Two times as large: up to 64 pixels, as far as the window holds the square.
            assert bright.max() > 40
            assert len(found.train.images[rows].flatten(1).unique(dim=0)) > 50

    def test_by_default_all_three_operations_occur(self):
        base = balanced(300, side=12, channels=1)
        base.train.images.zero_()
        base.train.images[:, :, 4:8, 4:8] = 255
        found = plant(base, Planting(atypical=Atypical(rate=1.0)))
        bright = (found.train.images > 127).flatten(1).sum(dim=1).tolist()
        zoomed, shifted = bright.count(4) / 300, bright.count(16) / 300
        assert 0.2 < zoomed < 0.5
        assert 0.2 < shifted < 0.5

    def test_images_on_disk_can_have_their_labels_planted_and_nothing_else(self, tmp_path):
        root = write_imagenet(tmp_path, classes=3, train=6, val=2)
        base = load(DatasetOptions(name="imagenet", root=str(root), image_size=16), "test")
        found = plant(base, Planting(noise_symmetric=Drawn(rate=0.5)))
        assert (found.train.labels != base.train.labels).sum() == 9
        assert plant(base, Planting(long_tail=LongTail(imbalance=6.0))).train.images.shape[0] < 18
        said = "^noise_image_blur: expected images in memory; got images that are read from disk"
        with pytest.raises(ValueError, match=said):
            plant(base, Planting(noise_image_blur=ImageBlur(rate=0.5)))


class TestDuplicates:
    @pytest.mark.parametrize("sigma", [0.0, 3.0])
    def test_copies_show_another_sample_of_their_class_that_nobody_else_copies(self, sigma):
        base = balanced(400, side=6)
        plan = Planting(
            duplicate=Duplicate(rate=0.2, sigma=sigma),
            noise_symmetric=Drawn(rate=0.3),
            noise_image_blur=ImageBlur(rate=0.2),
        )
        found = plant(base, plan)
        copies = np.flatnonzero(hit(found, "duplicate"))
        both = np.flatnonzero(truth(found, "duplicate"))
        assert (len(copies), len(both)) == (80, 160)
        originals = np.setdiff1d(both, copies)
        images = found.train.images.double().flatten(1)
        distances = torch.cdist(images[copies], images[originals])
        nearest = distances.argmin(dim=1).numpy()
        if sigma == 0:
            assert distances.amin(dim=1).max() == 0
        else:
            assert distances.amin(dim=1).mean() == pytest.approx(3 * 108**0.5, rel=0.1)
        assert sorted(nearest) == [*range(80)]
        labels = found.train.labels.numpy()
        assert (labels[copies] == labels[originals[nearest]]).all()
        # Originals and copies are what they were: no noise hit them.
        assert (labels[both] == found.columns["true_label"].to_numpy()[both]).all()
        assert not changed_images(base, found)[originals].any()

    def test_half_of_each_class_at_most(self):
        base = made([0] * 10 + [1] * 3 + [2])
        assert hit(plant(base, Planting(duplicate=Duplicate(rate=0.43))), "duplicate").sum() == 6
        with pytest.raises(ValueError, match="expected at most the 6 samples that are free"):
            plant(base, Planting(duplicate=Duplicate(rate=0.5)))


class TestRarity:
    def test_subgroups_are_halved_and_keep_the_label_of_their_superclass(self):
        base = balanced(10 * 99, classes=CIFAR10, name="cifar10", held=40)
        found = plant(base, Planting(rare_subgroup=RareSubgroup()))
        assert found.classes == ("animal", "vehicle")
        subgroup, halvings = found.columns["subgroup"].to_numpy(), truth(found, "rare_subgroup")
        animals = [CIFAR10.index(n) for n in SUPERCLASSES["cifar10"]["animal"]]
        for label, members, sizes in (
            (0, animals, [99, 49, 24, 12, 6, 3]),
            (1, [c for c in range(10) if c not in animals], [99, 49, 24, 12]),
        ):
            mine = np.isin(subgroup, members)
            assert (found.train.labels.numpy()[mine] == label).all()
            assert (found.columns["true_label"].to_numpy()[mine] == label).all()
            counted = {int(halvings[subgroup == c][0]): (subgroup == c).sum() for c in members}
            assert [counted[g] for g in sorted(counted)] == sizes
        # Rare is not wrong: whoever stays is who it was.
        rows = np.searchsorted(base.train.sample_ids.numpy(), found.train.sample_ids.numpy())
        assert base.train.images[rows].equal(found.train.images)
        assert base.train.labels[rows].tolist() == subgroup.tolist()
        assert (hit(found, "rare_subgroup") == (halvings > 0)).all()
        # All of the validation samples are there, under the labels to learn.
        held = [label in animals for label in base.validation.labels.tolist()]
        assert found.validation.labels.tolist() == [0 if animal else 1 for animal in held]

    def test_which_subgroup_is_rare_follows_the_seed(self):
        def sizes(seed):
            plan = Planting(rare_subgroup=RareSubgroup(groups={"all": (*range(10),)}, seed=seed))
            return plant(balanced(1000), plan).columns["subgroup"].value_counts().sort_index()

        assert len({tuple(sizes(seed)) for seed in range(5)}) == 5
        assert sizes(0).min() == 1  # and not 100 / 512, which is none

    def test_cifar100_has_its_own_superclasses(self):
        groups = SUPERCLASSES["cifar100"]
        classes = tuple(sorted(fine for members in groups.values() for fine in members))
        assert len(groups) == 20
        assert {len(members) for members in groups.values()} == {5}
        assert len({*classes}) == 100
        base = balanced(4000, 100, classes=classes, name="cifar100", side=1)
        found = plant(base, Planting(rare_subgroup=RareSubgroup()))
        # 40 of each class: 40 + 20 + 10 + 5 + 2 in each superclass.
        assert found.train.labels.bincount().tolist() == [77] * 20
        assert found.classes[2] == "flowers"

    @pytest.mark.parametrize(
        ("groups", "said"),
        [
            (None, "groups: expected a map from superclass to classes; got none, and"),
            ({"a": ("0",), "b": ("1",)}, "groups: expected every class in one superclass; got '2"),
            ({"a": ("0", 1), "b": (1, "2")}, "groups: expected every class in one superclass; g"),
            ({"a": ("0", "1"), "b": ("2", "cat")}, "groups: unknown class 'cat'; known: 0, 1, 2"),
            ({"a": ("0", "1", "2"), "b": ()}, "groups: expected classes in 'b'; got none"),
        ],
    )
    def test_every_class_belongs_to_one_superclass(self, groups, said):
        plan = Planting(rare_subgroup=RareSubgroup(groups=groups))
        with pytest.raises(ValueError, match=f"^rare_subgroup: {said}"):
            plant(balanced(30, 3), plan)

    def test_a_long_tail_falls_exponentially_from_the_first_class_to_the_last(self):
        found = plant(balanced(500, 5), Planting(long_tail=LongTail(imbalance=16.0)))
        sizes = found.train.labels.bincount()
        assert sorted(sizes.tolist(), reverse=True) == [100, 50, 25, 12, 6]
        rarity = truth(found, "long_tail")
        for label, size in enumerate(sizes.tolist()):
            mine = found.train.labels.numpy() == label
            assert {*rarity[mine]} == {{100: 0, 50: 1, 25: 2, 12: 3, 6: 4}[size]}
        assert found.classes == tuple("01234")

    @given(st.integers(2, 6), st.integers(10, 60), st.floats(1.5, 200))
    def test_no_class_is_lost_and_none_grows(self, n_classes, each, imbalance):
        base = balanced(n_classes * each, n_classes, side=1)
        found = plant(base, Planting(long_tail=LongTail(imbalance=imbalance)))
        sizes = found.train.labels.bincount(minlength=n_classes)
        assert sizes.min() >= 1
        assert sizes.max() == each
        assert {*found.train.sample_ids.tolist()} <= {*base.train.sample_ids.tolist()}


class TestPlan:
    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (Planting, "expected at least one of rare_subgroup, long_tail, human_lab"),
            (
                lambda: Planting(rare_subgroup=RareSubgroup(), long_tail=LongTail()),
                "expected rare_subgroup or long_tail; got both",
            ),
            (lambda: Drawn(rate=0.0), "rate: expected a share above 0, up to 1; got 0.0"),
            (lambda: Drawn(rate=math.nan), "rate: expected a share above 0, up to 1; got nan"),
            (lambda: ImageBlur(rate=1.5), "rate: expected a share above 0, up to 1; got 1.5"),
            (lambda: Drawn(rate=0.1, seed=-1), "seed: expected 0 or more; got -1"),
            (lambda: ImageBlur(rate=0.1, sigma=0.0), "sigma: expected a positive number; got 0"),
            (lambda: ImageGaussian(rate=0.1, sigma=math.inf), "sigma: expected a positive number"),
            (lambda: ImageMix(rate=0.1, share=0.6), "share: expected a share above 0, up to 0.5"),
            (lambda: Duplicate(rate=0.1, sigma=-1.0), "sigma: expected 0 or more; got -1.0"),
            (lambda: Atypical(rate=0.1, zoom=0.5), "zoom: expected 1 or more; got 0.5"),
            (lambda: Atypical(rate=0.1, shift=1.0), "shift: expected a share from 0, below 1"),
            (lambda: Atypical(rate=0.1, crop=0.0), "crop: expected a share above 0, up to 1"),
            (
                lambda: Atypical(rate=0.1, zoom=1.0, shift=0.0, crop=1.0),
                "expected a zoom, a shift or a crop; got none",
            ),
            (lambda: RareSubgroup(factor=1.0), "factor: expected a share between 0 and 1"),
            (lambda: LongTail(imbalance=1.0), "imbalance: expected more than 1; got 1.0"),
            (lambda: HumanLabels(columns=("a", "a")), "columns: expected different columns"),
            (
                lambda: NoiseAsymmetric(rate=0.1, classes={"a": "b"}, concentration=1.0),
                "expected classes or concentration; got both",
            ),
            (
                lambda: NoiseAsymmetric(rate=0.1, concentration=0.01),
                "concentration: expected a number of 0.05 or more; got 0.01",
            ),
        ],
    )
    def test_strange_options_are_refused(self, make, said):
        with pytest.raises(ValueError, match=f"^{said}"):
            make()

    def test_places_are_no_part_of_its_identity(self):
        def far(**places):
            dataset = DatasetOptions(name="mnist", subset=100, **places)
            return Planting(ood_far=OodFar(rate=0.1, dataset=dataset)).identity()

        assert far() == far(root="/elsewhere", download=True)
        assert far()["ood_far"]["dataset"]["subset"] == 100


def test_training_does_not_see_the_truth(digits):
    """Bit for bit the same signals, whatever the columns of truth say."""
    plan = Planting(noise_symmetric=Drawn(rate=0.2), long_tail=LongTail(imbalance=3.0))
    found = plant(digits, plan)
    lies = found.columns.assign(
        true_label=0,
        planted="",
        truth_noise_symmetric=~found.columns["truth_noise_symmetric"],
        truth_long_tail=-found.columns["truth_long_tail"],
    )
    chosen = Supervised(train=TrainOptions(max_epochs=2, batch_size=64))
    model = ModelOptions(name="mlp", width=8)
    runs = [
        [*supervised(one, model, chosen, Streams(seed=0))]
        for one in (found, dataclasses.replace(found, columns=lies), digits)
    ]
    for honest, deceived in zip(runs[0], runs[1], strict=True):
        assert {*honest.signals} == {*deceived.signals}
        for name, values in honest.signals.items():
            assert values.tobytes() == deceived.signals[name].tobytes(), name
    # And the planted labels themselves do change them.
    assert runs[0][-1].summary["train_loss"] != runs[2][-1].summary["train_loss"]


def test_wrong_labels_end_with_the_largest_loss(digits):
    found = plant(digits, Planting(noise_symmetric=Drawn(rate=0.1)))
    chosen = Supervised(train=TrainOptions(max_epochs=8, batch_size=32, lr=0.1))
    *_, last = supervised(found, ModelOptions(name="mlp", width=64), chosen, Streams(seed=0))
    wrong, loss = truth(found, "noise_symmetric"), last.signals["loss"]
    assert (loss[wrong][:, None] > loss[~wrong]).mean() > 0.9


@pytest.fixture
def root():
    folder = SHARED_DATA / "cifar10"
    if not folder.exists():
        pytest.skip(f"needs the real CIFAR-10 with people's labels at {folder}")
    return folder


class TestRealPeople:
    def test_cifar10n_as_labels_and_as_truth(self, root):
        base = load(DatasetOptions(name="parquet", root=str(root), subset=3000), "test")
        assert len(base.validation) == 10_000
        plan = Planting(
            noise_human=NoiseHuman(column="worse_label"),
            human_labels=HumanLabels(columns=("random_label1", "random_label2", "random_label3")),
        )
        found = plant(base, plan)
        ids = base.train.sample_ids.numpy()
        raw = pd.read_parquet(root / "train.parquet", columns=None).drop(columns="img").iloc[ids]
        assert found.train.labels.tolist() == raw["worse_label"].tolist()
        assert found.columns["true_label"].tolist() == raw["label"].tolist()
        # Published: 40.21 % of all 50,000.
        assert truth(found, "noise_human").mean() == pytest.approx(0.4021, abs=0.03)
        errors = found.columns["truth_human_errors"].to_numpy()
        # Worst is what any of the three got wrong.
        assert ((errors > 0) == truth(found, "noise_human")).all()
        assert errors.mean() / 3 == pytest.approx((0.1723 + 0.1812 + 0.1764) / 3, abs=0.02)

    def test_cifar10h_grades_the_ten_thousand_test_images(self, root):
        file = root / "test.parquet"
        base = load(DatasetOptions(name="parquet", root=str(file), subset=2000), 0.1)
        found = plant(base, Planting(human_votes=HumanVotes(column="human_counts")))
        raw = pd.read_parquet(file, columns=["human_counts"])["human_counts"]
        votes = np.stack(raw.iloc[base.train.sample_ids.numpy()].to_list())
        assert 47 <= votes.sum(axis=1).min() <= votes.sum(axis=1).max() <= 63
        expected = [-sum(p * math.log(p) for p in v / v.sum() if p) for v in votes]
        np.testing.assert_allclose(truth(found, "human_entropy"), expected, atol=1e-12)
        labels = base.train.labels.numpy()
        against = 1 - votes[np.arange(len(labels)), labels] / votes.sum(axis=1)
        np.testing.assert_allclose(truth(found, "human_disagreement"), against)
        # The majority sees the label in 99.2 % of them.
        assert (votes.argmax(axis=1) == labels).mean() > 0.98

    def test_animals_and_vehicles_with_digits_among_them(self, root):
        mnist = SHARED_DATA / "mnist"
        base = load(DatasetOptions(name="parquet", root=str(root), subset=2000), 0.1)
        numbers = load(DatasetOptions(name="mnist", root=str(mnist), subset=500), 0.1)
        groups: dict = {"animal": (2, 3, 4, 5, 6, 7), "vehicle": (0, 1, 8, 9)}
        plan = Planting(
            rare_subgroup=RareSubgroup(groups=groups), ood_far=OodFar(rate=0.1, dataset=FAR)
        )
        found = plant(base, plan, numbers)
        # 180 of each class: halved five times among six kinds of animals, three times among four.
        assert found.train.labels.bincount().tolist() == [180 + 90 + 45 + 22 + 11 + 5, 337]
        rows = torch.from_numpy(truth(found, "ood_far"))
        assert rows.sum() == 69
        images = found.train.images[rows]
        assert (images == images[:, :1]).all()
