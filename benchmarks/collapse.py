"""Layer collapse of magnitude pruning on ResNet-18 at 95 %, before any training, and its repair by `repair: reconnect`.

python benchmarks/collapse.py [--width 64] [--sparsity 0.95]
"""

import argparse
import time

import torch
from records import append

import autosparse
from autosparse.models import models

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--sparsity", type=float, default=0.95)
options = parser.parse_args()

torch.manual_seed(0)
model = models["resnet18"].function((3, 32, 32), 10, width=options.width)
batches = [(torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.long))]
masks, rows = {}, []
for repair in ("none", "reconnect"):
    begin = time.perf_counter()
    method = {"criterion": "magnitude", "repair": repair}
    masks[repair] = autosparse.prune(model, batches, sparsity=options.sparsity, method=method)
    seconds, kept, total = time.perf_counter() - begin, masks[repair].kept, masks[repair].total
    print(f"repair: {repair}, {seconds:.1f} s; {kept:,} of {total:,} kept")
    findings = [f"{finding.kind}: {finding.message}" for finding in masks[repair].examine(batches[0][0])]
    print("".join(f"  {finding}\n" for finding in findings), end="")
    rows.append({
        "measure": "repair", "network": "resnet18", "criterion": "magnitude", "sparsity": options.sparsity,
        "repair": repair, "seconds": round(seconds, 2), "kept": kept, "total": total, "findings": findings,
    })  # fmt: skip
moved = sum(int((masks["reconnect"][name] & ~mask).sum()) for name, mask in masks["none"].items())
print(f"{moved} weights moved")
rows[-1]["moved"] = moved
append("collapse", rows, torch.get_num_threads())
