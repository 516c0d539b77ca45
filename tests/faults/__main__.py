"""Campaign of faults: `python -m tests.faults --trials 1000 --jsonl faults.jsonl` prints a table with a row a kind."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.campaign import KINDS
from tests.faults.commands import References
from tests.faults.world import World


def main() -> None:
    """Run the trials that the file does not hold yet, then print the table and the failures."""
    options = _options()
    done = _read(options.jsonl)
    known = {(row["kind"], row["trial"]) for row in done if row["seed"] == options.seed}
    with tempfile.TemporaryDirectory(prefix="faults") as base:
        references = References(World.create(Path(base)))
        for kind in options.kind:
            end = time.monotonic() + options.seconds
            for row in trials_of(references, kind, options, known):
                done.append(row)
                if options.jsonl:
                    with open(options.jsonl, "a") as file:
                        file.write(json.dumps(row) + "\n")
                if time.monotonic() > end:
                    break
    _print(done)


def _options() -> Any:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--trials", type=int, default=100, help="trials of each kind")
    parser.add_argument("--kind", action="append", choices=[*KINDS], help="only this kind; repeatable")
    parser.add_argument("--seed", type=int, default=0, help="decides the order of the trials")
    parser.add_argument("--trial", type=int, help="only the trial of this number")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end each kind after this time")
    parser.add_argument("--jsonl", type=Path, help="append every trial to this file, and skip those that it holds")
    options = parser.parse_args()
    options.kind = options.kind or [*KINDS]
    return options


def _read(path: Path | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []


def trials_of(known: References, kind: str, options: Any, done: set[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each trial of a kind that is not done."""
    trials = KINDS[kind](known, Random(f"{options.seed}/{kind}"))
    for number, trial in enumerate(islice(trials, options.trials if options.trial is None else options.trial + 1)):
        if (kind, number) in done or options.trial not in (None, number):
            continue
        begin = time.monotonic()
        verdict = trial.judge()
        yield {
            "kind": kind,
            "seed": options.seed,
            "trial": number,
            "inputs": trial.inputs,
            "text": trial.text,
            "verdict": verdict.word,
            "problem": verdict.problem,
            "printed": verdict.printed,
            "seconds": round(time.monotonic() - begin, 3),
        }


def _print(rows: Sequence[dict[str, Any]]) -> None:
    print(f"{'kind':10} {'inputs':>8} {'trials':>7} {'unharmed':>9} {'one line':>9} {'failed':>7} {'s a trial':>10}")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of = [row for row in rows if row["kind"] == kind]
        words, mean = Counter(row["verdict"] for row in of), sum(row["seconds"] for row in of) / len(of)
        counts = f"{words['unharmed']:9} {words['one line']:9} {words['failed']:7}"
        print(f"{kind:10} {sum(row['inputs'] for row in of):8} {len(of):7} {counts} {mean:10.2f}")
    failures: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["verdict"] == "failed":
            failures[row["kind"], _alike(row["problem"])].append(row)
    for (kind, _), of in sorted(failures.items(), key=lambda item: -len(item[1])):
        shortest = min(of, key=lambda row: len(row["text"]))
        print(f"\n{len(of)} x {kind}: {shortest['problem']}")
        print(f"    {shortest['text']}")
        print(f"    python -m tests.faults --kind {kind} --seed {shortest['seed']} --trial {shortest['trial']}")


def _alike(problem: str) -> str:
    # The same for problems that differ in numbers, keys and names of files.
    return re.sub(r"[0-9a-f]{8,}|\d+|[\w.-]*/\S*|\[.*\]", "#", problem)[:70]


if __name__ == "__main__":
    main()
