"""Cost of recording, loop, reading, scoring passes, scheduling and aggregation: figures.

``python -m tests.benchmarks [NAME …] [--pairs N] [--core]``
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import sys

from tests.benchmarks.figures import measured, show

NAMES = ("recording", "loop", "reading", "passes", "scheduling", "aggregation")


def main():
    """Run the chosen benchmarks, each in a process of its own, and print one table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all")
    parser.add_argument("--pairs", type=int, default=10, help="of timings a ratio (10)")
    parser.add_argument(
        "--core", action="store_true", help="of aggregation, the metrics that its aim was set for"
    )
    chosen = parser.parse_args()
    unknown = [name for name in chosen.names if name not in NAMES]
    if unknown or chosen.pairs < 1:
        parser.error(f"expected names of {', '.join(NAMES)} and at least 1 pair")
    if chosen.core and chosen.names != ["aggregation"]:
        parser.error("--core: expected with aggregation alone")
    # Ray's workers would compile torch and mlflow anew in every process.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    figures = []
    for name in chosen.names or NAMES:
        print(f"{name} …", file=sys.stderr, flush=True)
        # Its own process: memory and threads of one benchmark stay out of the next.
        spawn = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
            figures += pool.submit(measured, name, chosen.pairs, chosen.core).result()
    show(figures)


if __name__ == "__main__":
    main()
