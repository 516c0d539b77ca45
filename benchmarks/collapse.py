"""Magnitude on ResNet-18 at 95 %: what it cuts, before any training, and what `repair: reconnect` makes of it.

python benchmarks/collapse.py [--width 64] [--sparsity 0.95]
"""

import argparse
import time

import torch

import autosparse
from autosparse.models import models

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--sparsity", type=float, default=0.95)
asked = parser.parse_args()

torch.manual_seed(0)
model = models["resnet18"].function((3, 32, 32), 10, width=asked.width)
batches = [(torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.long))]
masks = {}
for repair in ("none", "reconnect"):
    begun = time.perf_counter()
    method = {"criterion": "magnitude", "repair": repair}
    masks[repair] = autosparse.prune(model, batches, sparsity=asked.sparsity, method=method)
    print(
        f"repair: {repair}, {time.perf_counter() - begun:.1f} s; {masks[repair].kept:,} of {masks[repair].total:,} kept"
    )
    for finding in masks[repair].examine(batches[0][0]):
        print(f"  {finding.kind}: {finding.message}")
moved = sum(int((masks["reconnect"][name] & ~mask).sum()) for name, mask in masks["none"].items())
print(f"{moved} weights moved")
