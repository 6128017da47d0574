"""Update the tables and figures of RESULTS.md from the sweeps of the small grid.

``python experiments/results.py FOLDER`` reads the tables in FOLDER, ``sweeps`` by default. The text
of RESULTS.md between ``<!-- NAME -->`` and ``<!-- /NAME -->`` is replaced by the table NAME, if
FOLDER has all sweeps of this table. ``truths.csv`` has a value for every metric and truth; values
of sweeps that FOLDER lacks stay as they are.
"""

import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import t

HERE = Path(__file__).parent
REFERENCE = "supervised_reference"
# Chosen by hand after the first tables of CIFAR-10 were seen, to cover each family. All other
# metrics are in truths.csv and in the tables of the sweeps.
SUPERVISED = (
    "mean_loss.supervised",
    "aum.supervised",
    "cartography_confidence.supervised",
    "forgetting_events.supervised",
    "el2n.supervised",
    "grand.supervised",
    "vog_prob.supervised",
    "knn_label_disagreement.supervised",
    "ssft.second_split",
    "label_quality_self_confidence.cross_fit",
    "rho_loss.cross_fit",
)
LABEL_FREE = (
    "knn_distance.contrastive",
    "lid_mle.contrastive",
    "prototypicality.contrastive",
    "isolation_forest.contrastive",
    "msd_mean.contrastive",
    "msd_cosine.contrastive",
    "feature_norm_mean.contrastive",
    "lgn_mean.contrastive",
    "ssl_loss_ntxent.contrastive",
    "ssl_loss_barlow.contrastive",
    "ssl_param_grad_norm.contrastive",
    "ssl_perturbation_gain.contrastive",
    "reconstruction_error.autoencoder",
    "knn_distance.autoencoder",
)
PIXELS = (
    "image_l2_norm",
    "image_entropy",
    "image_compressed_size",
    "total_variation",
    "lid_mle_pixels",
)
UNCERTAINTY = (
    "max_softmax.cross_fit",
    "predictive_entropy.cross_fit",
    "margin.cross_fit",
    "energy.cross_fit",
    "odin.cross_fit",
    "gradnorm.cross_fit",
    "mc_dropout_entropy.cross_fit",
    "mc_dropout_bald.cross_fit",
)
IN_SAMPLE = ("max_softmax.supervised", "predictive_entropy.supervised", "ensemble_mi.supervised")
EVERY = (*SUPERVISED, *IN_SAMPLE, *UNCERTAINTY, *LABEL_FREE, *PIXELS)
CHANCE = 0.5
SHARES = ("sample", "sample_by_configuration", "seed")
SYMMETRIC = "truth_noise_symmetric"
ABOUT = ["family", "labels_used"]
# Endings of sweep names, one per ``data_seed``.
DRAWS = ("", "-draw1", "-draw2")
# At 5 % symmetric noise on CIFAR-10 (Ravikumar et al., 2025).
PUBLISHED_NOISE = {
    "mean_loss.supervised": "0.987",
    "ssft.second_split": "0.950",
    "label_quality_self_confidence.cross_fit": "0.887, confident learning",
}

BESIDE_UNCERTAINTY = (
    "knn_distance.contrastive",
    "msd_mean.contrastive",
    "msd_cosine.contrastive",
    "image_l2_norm",
)
DISAGREES = "aggregate_disagreement.aggregate"  # from a file of truths, see RESULTS.md
STATISTICS = {
    "spearman_pair_mean": "two seeds",
    "spearman": "Spearman",
    "spearman_within_class": "within class",
    "auroc": "AUROC",
    "average_precision": "average precision",
}

Cells = Mapping[str, str]
Columns = list[tuple[str, Cells]]  # title and cells


class Grid:
    """The tables of all sweeps, and the table of every metric against every truth.

    Args:
        folder: Folder with one folder of tables per sweep.
        truths: Content of ``truths.csv``, which may have further sweeps.
    """

    def __init__(self, folder: Path, truths: pd.DataFrame) -> None:
        self.folder, self.truths = folder, every_truth(folder, truths)

    def table(self, sweep: str, file: str) -> pd.DataFrame:
        """One table of a sweep.

        Raises:
            FileNotFoundError: If the folder lacks the sweep.
        """
        return pd.read_csv(self.folder / sweep / file)

    def truth(self, sweep: str, truth: str, statistic: str) -> Cells:
        """A statistic with its 95 % bootstrap interval over samples, by score."""
        table = self.table(sweep, "truth.csv")
        mine = table[table["truth"] == truth].set_index("score")
        ends = (f"{statistic}_low", f"{statistic}_high")
        return {str(one): _interval(row, statistic, *ends) for one, row in mine.iterrows()}

    def draws(self, sweep: str, truth: str, statistic: str) -> Columns:
        """A statistic of each score in each draw of the data, and its mean over the draws."""
        drawn = self.truths[[f"{sweep}{draw} {truth} {statistic}" for draw in DRAWS]].dropna()
        columns = [(f"`data_seed` {n}", _plain(drawn[name])) for n, name in enumerate(drawn)]
        means = drawn.mean(axis=1)
        width = drawn.std(axis=1) * t.ppf(0.975, len(DRAWS) - 1) / len(DRAWS) ** 0.5
        over = pd.DataFrame({"mean": means, "low": means - width, "high": means + width})
        return [
            *columns,
            (
                "mean of the draws",
                {
                    str(one): _interval(row, "mean", "low", "high", digits=3)
                    for one, row in over.iterrows()
                },
            ),
        ]

    def stability(self, sweep: str, statistic: str, ends: tuple[str, ...] = ()) -> Cells:
        """A statistic of stability over seeds, by score."""
        table = self.table(sweep, "stability.csv")
        mine = table.set_index(table["metric"] + "." + table["regimen"])
        return {str(one): _interval(row, statistic, *ends) for one, row in mine.iterrows()}

    def agreement(
        self, sweep: str, other: str, statistic: str, ends: tuple[str, ...] = ()
    ) -> Cells:
        """Agreement with the score ``other``, by score."""
        table = self.table(sweep, "agreement.csv")
        right = table["right"].where(~table["right"].str.startswith(REFERENCE), REFERENCE)
        found: dict[str, str] = {}
        for mine, theirs in ((table["left"], right), (right, table["left"])):
            rows = table[theirs == other]
            found |= {
                name: _interval(row, statistic, *ends)
                for name, (_, row) in zip(mine[theirs == other], rows.iterrows(), strict=True)
            }
        return found


def stability(grid: Grid) -> str:
    """How stable each metric is over seeds."""
    pair = "spearman_pair_mean"
    columns: Columns = []
    for name, sweep in (("CIFAR-10", "small-cifar10"), ("MNIST", "small-mnist")):
        columns += [
            (f"{name}: two seeds", grid.stability(sweep, pair, (f"{pair}_low", f"{pair}_high"))),
            ("within class", grid.stability(sweep, "spearman_within_class_pair_mean")),
            ("top 10 %", grid.stability(sweep, "topk_overlap_10")),
            ("seeds for 0.9", grid.stability(sweep, "seeds_for_r90")),
        ]
    return _markdown(columns, [key for key in EVERY if key not in PIXELS])


def label_free(grid: Grid) -> str:
    """Agreement of label-free metrics with the supervised reference."""
    return _markdown(_with_reference(grid), [*LABEL_FREE, *PIXELS])


def uncertainty(grid: Grid) -> str:
    """Agreement of uncertainty metrics with the supervised reference and label-free metrics."""
    columns = _with_reference(grid, (("CIFAR-10", "small-cifar10"),))
    ends = ("spearman_low", "spearman_high")
    columns += [
        (f"with `{other}`", grid.agreement("small-cifar10", other, "spearman", ends))
        for other in BESIDE_UNCERTAINTY
    ]
    return _markdown(columns, [*IN_SAMPLE, *UNCERTAINTY])


def label_noise(grid: Grid) -> str:
    """AUROC for finding replaced labels."""
    columns: Columns = [
        (f"{name} {rate} %", grid.truth(f"small-{sweep}-symmetric{rate:02}", SYMMETRIC, "auroc"))
        for name, sweep in (("CIFAR-10", "cifar10"), ("MNIST", "mnist"))
        for rate in (5, 20)
    ]
    return _markdown([*columns, ("published, CIFAR-10 5 %", PUBLISHED_NOISE)], EVERY)


def leakage(grid: Grid) -> str:
    """Whether any label-free score finds symmetric label noise, which would be a leak."""
    lines = []
    for sweep in (f"small-{d}-symmetric{r}" for d in ("cifar10", "mnist") for r in ("05", "20")):
        table = grid.table(sweep, "truth.csv")
        free = table[(table["truth"] == SYMMETRIC) & (table["labels_used"] == "none")]
        free = free[free["auroc"].notna()]
        outside = free[(free["auroc_least"] > CHANCE) | (free["auroc_most"] < CHANCE)]
        lines.append(
            f"- `{sweep}`: {len(free)} label-free scores between {free['auroc'].min():.3f} and "
            f"{free['auroc'].max():.3f}; simultaneous intervals without 0.5: "
            f"{', '.join(outside['score']) or 'none'}."
        )
    return "\n".join(lines)


def draws(grid: Grid) -> str:
    """AUROC for finding replaced labels, over draws of the images and the replaced labels."""
    return _markdown(grid.draws("small-cifar10-symmetric20", SYMMETRIC, "auroc"), EVERY)


def human_noise(grid: Grid) -> str:
    """Metrics against human labels of CIFAR-10's training images (CIFAR-10N)."""
    clean, aggregate = "small-cifar10", DISAGREES
    worse, trained = "small-cifar10-worse", "truth_noise_human"
    columns = [
        ("aggregate label differs: AUROC", grid.truth(clean, aggregate, "auroc")),
        ("within class", grid.truth(clean, aggregate, "auroc_within_class")),
        ("of three labels, wrong: Spearman", grid.truth(clean, "truth_human_errors", "spearman")),
        ("trained on the worst labels: AUROC", grid.truth(worse, trained, "auroc")),
        ("within class", grid.truth(worse, trained, "auroc_within_class")),
    ]
    return _markdown(columns, EVERY)


def human_noise_without_labels(grid: Grid) -> str:
    """Every label-free score, pixel metrics too, against disagreement of human labels."""
    sweep = "small-cifar10"
    table = grid.table(sweep, "truth.csv")
    free = table[(table["truth"] == DISAGREES) & (table["labels_used"] == "none")]
    columns: Columns = [
        ("AUROC", grid.truth(sweep, DISAGREES, "auroc")),
        ("within class", grid.truth(sweep, DISAGREES, "auroc_within_class")),
        ("average precision", grid.truth(sweep, DISAGREES, "average_precision")),
    ]
    return _markdown(columns, free.sort_values("auroc", ascending=False)["score"])


def published(grid: Grid) -> str:
    """Published values on clean CIFAR-10 (``published.csv``) beside the values found here."""
    sweep = "small-cifar10"
    lines = ["| what | statistic | published | by | here |", "| --- " * 5 + "|"]
    for row in pd.read_csv(HERE / "published.csv", dtype=str, keep_default_na=False).itertuples():
        what, statistic, elsewhere, source, score, other = row[1:]
        ends = (f"{statistic}_low", f"{statistic}_high")
        if not other:
            found = grid.stability(sweep, statistic, ends)
        elif other == DISAGREES:
            found = grid.truth(sweep, other, statistic)
        else:
            found = grid.agreement(sweep, other, statistic, ends)
        cells = (what, STATISTICS[statistic], elsewhere, source, found[score])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def human_uncertainty(grid: Grid) -> str:
    """Metrics against the human votes of CIFAR-10H."""
    sweep = "small-cifar10h"
    table = grid.table(sweep, "truth.csv")
    columns: Columns = []
    for truth in dict.fromkeys(table["truth"]):
        name = truth.removeprefix("truth_").replace("_", " ")
        columns += [
            (f"{name}: Spearman", grid.truth(sweep, truth, "spearman")),
            ("within class", grid.truth(sweep, truth, "spearman_within_class")),
        ]
    return _markdown(columns, EVERY)


def images(grid: Grid) -> str:
    """AUROC for finding distorted images."""
    columns: Columns = [
        (
            f"{name}: {kind}",
            grid.truth(f"small-{sweep}-images", f"truth_noise_image_{kind}", "auroc"),
        )
        for name, sweep in (("CIFAR-10", "cifar10"), ("MNIST", "mnist"))
        for kind in ("blur", "gaussian", "mix")
    ]
    return _markdown(columns, EVERY)


def rare(grid: Grid) -> str:
    """Metrics against the rarity of an image's kind, over draws of the rare kinds."""
    return _markdown(grid.draws("small-cifar10-rare", "truth_rare_subgroup", "spearman"), EVERY)


def ood(grid: Grid) -> str:
    """AUROC for finding foreign images, badly framed images and duplicates."""
    columns: Columns = [
        (title, grid.truth("small-cifar10-ood", f"truth_{kind}", "auroc"))
        for title, kind in (
            ("digits (far)", "ood_far"),
            ("negatives (near)", "ood_near"),
            ("badly framed", "atypical"),
            ("copies", "duplicate"),
        )
    ]
    return _markdown(columns, EVERY)


def pruning(grid: Grid) -> str:
    """Accuracy after training on parts of the data."""
    table = grid.table("small-cifar10-prune", "prune.csv")
    rows = ["| by | keep | arm | samples | accuracy | less its random part |", "| --- " * 6 + "|"]
    for _, row in table.fillna({"by": ""}).iterrows():
        cells = (
            f"`{row['by']}`" if row["by"] else "",
            f"{row['keep']:.0%}",
            row["arm"],
            str(row["samples"]),
            _interval(row, "accuracy", "accuracy_low", "accuracy_high", digits=3),
            _interval(row, "difference", "difference_low", "difference_high", digits=3),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def sensitivity(grid: Grid) -> str:
    """Variance shares of sample, configuration and seed on the digits."""
    table = grid.table("digits", "variance.csv")
    mine = table.set_index(table["metric"] + "." + table["regimen"])
    columns: Columns = [
        (
            share.replace("_", " "),
            {str(one): f"{value:.2f}" for one, value in mine[share].dropna().items()},
        )
        for share in SHARES
    ]
    return _markdown(columns, [key for key in EVERY if key in mine.index])


def every_truth(folder: Path, before: pd.DataFrame) -> pd.DataFrame:
    """Every metric against every truth: AUROC of binary ones, Spearman's correlation of others.

    Args:
        folder: Folder with the tables of sweeps whose columns are updated.
        before: The table so far.
    """
    columns = {str(name): column for name, column in before.drop(columns=ABOUT).items()}
    about = before[ABOUT].to_dict("index")
    for path in sorted(folder.glob("small-*/truth.csv")):
        table = pd.read_csv(path)
        for truth, mine in table.groupby("truth", sort=False):
            by_score = mine.set_index("score")
            graded = (by_score["kind"] == "graded").all()
            statistic = "spearman" if graded else "auroc"
            columns[f"{path.parent.name} {truth} {statistic}"] = by_score[statistic].round(4)
            about |= by_score[ABOUT].to_dict("index")
    table = pd.DataFrame.from_dict(about, orient="index", columns=ABOUT)
    table = table.join(pd.DataFrame({name: columns[name] for name in sorted(columns)}))
    return table.rename_axis("score").sort_values(["labels_used", "family", "score"])


TABLES: dict[str, Callable[[Grid], str]] = {
    "stability": stability,
    "label_free": label_free,
    "published": published,
    "uncertainty": uncertainty,
    "label_noise": label_noise,
    "leakage": leakage,
    "draws": draws,
    "human_noise": human_noise,
    "human_noise_without_labels": human_noise_without_labels,
    "human_uncertainty": human_uncertainty,
    "images": images,
    "rare": rare,
    "ood": ood,
    "pruning": pruning,
    "sensitivity": sensitivity,
}
FIGURES = {
    "small-cifar10/figures/stability.png": "cifar10-stability.png",
    "small-cifar10/figures/forecast.png": "cifar10-forecast.png",
    "small-cifar10/figures/agreement.png": "cifar10-agreement.png",
    "small-cifar10/figures/truth.png": "cifar10-human-noise.png",
    "small-cifar10-symmetric20/figures/truth.png": "cifar10-symmetric20.png",
    "small-mnist-symmetric20/figures/truth.png": "mnist-symmetric20.png",
    "small-cifar10-worse/figures/truth.png": "cifar10-worse.png",
    "small-cifar10h/figures/truth.png": "cifar10h.png",
    "small-cifar10-images/figures/truth.png": "cifar10-images.png",
    "small-cifar10-rare/figures/truth.png": "cifar10-rare.png",
    "small-cifar10-ood/figures/truth.png": "cifar10-ood.png",
    "small-cifar10-prune/figures/prune.png": "cifar10-prune.png",
    "digits/figures/variance.png": "digits-variance.png",
}


def uncertainty_figure(grid: Grid) -> Figure:
    """Agreement of uncertainty with the supervised reference and with label-free metrics."""
    table = grid.table("small-cifar10", "agreement.csv")
    table["right"] = table["right"].where(~table["right"].str.startswith(REFERENCE), REFERENCE)
    flipped = table.rename(columns={"left": "right", "right": "left"})
    both = pd.concat([table, flipped]).set_index(["left", "right"])
    names = [*IN_SAMPLE, *UNCERTAINTY]
    figure = Figure((11, 3.4), layout="constrained")
    panels = (REFERENCE, *BESIDE_UNCERTAINTY)
    y = np.arange(len(names))
    colours = np.where(np.isin(names, IN_SAMPLE), "#0072B2", "#009E73")
    for axis, other in zip(
        figure.subplots(1, len(panels), sharex=True, sharey=True), panels, strict=True
    ):
        rows = both.loc[[(name, other) for name in names]]
        axis.axvline(0, color="#D9D9D9", lw=1, zorder=0)
        axis.hlines(y, rows["spearman_low"], rows["spearman_high"], colors=colours, alpha=0.5)
        axis.scatter(rows["spearman"], y, s=18, c=colours, zorder=3)
        axis.set_title(other.replace(".", "\n."), loc="left", fontsize=9)
        axis.set_yticks(y, names, fontsize=8)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
        axis.tick_params(axis="x", labelsize=8)
    figure.supxlabel("Spearman correlation, 95 % interval over samples", fontsize=9)
    return figure


def _with_reference(
    grid: Grid,
    names: Iterable[tuple[str, str]] = (
        ("CIFAR-10", "small-cifar10"),
        ("MNIST", "small-mnist"),
        ("digits", "digits"),
    ),
) -> Columns:
    columns: Columns = []
    for name, sweep in names:
        ends = ("spearman_low", "spearman_high")
        columns += [
            (f"{name}: Spearman", grid.agreement(sweep, REFERENCE, "spearman", ends)),
            ("within class", grid.agreement(sweep, REFERENCE, "spearman_within_class")),
            ("seed noise divided out", grid.agreement(sweep, REFERENCE, "disattenuated")),
        ]
    return columns


def _plain(values: "pd.Series[Any]") -> Cells:
    return {str(one): f"{value:.3f}" for one, value in values.items()}


def _interval(
    row: "pd.Series[Any]", value: str, low: str = "", high: str = "", *, digits: int = 2
) -> str:
    if value not in row or pd.isna(row[value]):
        return ""
    if value.startswith("seeds_for"):
        return "∞" if row[value] == float("inf") else f"{row[value]:.0f}"
    text = f"{row[value]:.{digits}f}"
    if not low or low not in row or pd.isna(row[low]):
        return text
    return f"{text} [{row[low]:.{digits}f}, {row[high]:.{digits}f}]"


def _markdown(columns: Columns, rows: Iterable[str]) -> str:
    """A Markdown table without the rows and columns that have no value."""
    kept = [(title, cells) for title, cells in columns if cells]
    lines = [
        f"| metric | {' | '.join(title for title, _ in kept)} |",
        "| --- " * (len(kept) + 1) + "|",
    ]
    for key in rows:
        values = [cells.get(key, "") for _, cells in kept]
        if any(values):
            lines.append(f"| `{key}` | {' | '.join(values)} |")
    return "\n".join(lines)


def filled(text: str, grid: Grid) -> str:
    """The text of RESULTS.md with every table updated whose sweeps are there.

    Raises:
        ValueError: If the text lacks the comments of a table.
    """
    for name, make in TABLES.items():
        opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if not 0 <= text.find(opening) < text.find(closing):
            raise ValueError(f"RESULTS.md: expected {opening.strip()} and then {closing}; got none")
        try:
            table = make(grid)
        except FileNotFoundError as missing:
            print(f"{name}: not updated, because {missing.filename} is missing")
            continue
        before, rest = text.split(opening)
        text = f"{before}{opening}{table}\n{closing}{rest.split(closing)[1]}"
    return text


def main(folder: Path) -> None:
    """Update RESULTS.md, its figures and ``truths.csv``."""
    truths = HERE / "truths.csv"
    grid = Grid(folder, pd.read_csv(truths, index_col="score"))
    path = HERE / "RESULTS.md"
    text = filled(path.read_text(), grid)
    path.write_text(text)
    grid.truths.to_csv(truths)
    if (folder / "small-cifar10" / "agreement.csv").exists():
        uncertainty_figure(grid).savefig(HERE / "figures" / "cifar10-uncertainty.png", dpi=150)
    for source, target in FIGURES.items():
        if (folder / source).exists():
            shutil.copy(folder / source, HERE / "figures" / target)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "sweeps"))
