"""How small emitted models are: `python benchmarks/emission.py`, ResNet-18 for CIFAR-10, random weights under masks.

A compact file in % of the dense one, and over what information theory allows: 4 bytes for each value that is left and
the entropy of which places they have, were every mask of that many as likely.
"""

from __future__ import annotations

import math

import autosparse
from autosparse.exporters import Model, exporters
from autosparse.models import build_model
from autosparse.store import dump_tensors

METHODS, SPARSITIES = ("erk", "magnitude"), (0.9, 0.95, 0.98, 0.99)


def main() -> None:
    """A line for every method and sparsity."""
    network = build_model("resnet18", {}, (3, 32, 32), 10)
    print("method     sparsity   of the dense file   over the limit   with a bit for every place")
    for method in METHODS:
        for sparsity in SPARSITIES:
            masks = autosparse.prune(network, None, sparsity, method=method)
            state = {name: t * masks[name] if name in masks else t for name, t in network.state_dict().items()}
            files = exporters["compact"].function(Model(state, dict(masks)))
            taken, dense = sum(map(len, files.values())), len(dump_tensors(state))
            share = masks.kept / masks.total
            entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
            limit, bitmap = 4 * masks.kept + masks.total * entropy / 8, 4 * masks.kept + masks.total / 8
            print(f"{method:10} {sparsity:8} {taken / dense:19.1%} {taken / limit:16.2f} {bitmap / limit:28.2f}")


if __name__ == "__main__":
    main()
