"""Channels of foreign networks, those of torchvision, timm and transformers: `python benchmarks/channels_zoo.py`.

Every network is built at random from its library, without downloads (`zoo_networks.py`), and runs in a separate
process. A row of `results/channels_zoo.jsonl` is one network: its groups of coupled channels, the layers whose
channels stay with their reasons, and half of the channels removed at random from every group. `error` is the largest
difference between the outputs of the smaller network and those of the network with zeroed channels, relative to the
largest output; every tensor is random, also those that begin at zero. `macs` and `parameters` are the shares that are
left, `seconds` the processor time that finds the groups. The command skips networks that have a row.

`--only` selects a pattern of names (`timm:mobile*`), `--out` another file; `--table` prints the rows in Markdown.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from records import FOLDER, Row, provenance, read_file
from torch.utils.flop_counter import FlopCounterMode
from zoo_networks import SEED, SUBJECTS

from autosparse.core.graph.slicing import sliced, slicing_of
from autosparse.core.graph.trial import find_groups, scrambled, without
from autosparse.core.inputs import call, resized, tensors_in
from autosparse.core.weights import prunable_weights

RESULTS = FOLDER / "channels_zoo.jsonl"
SECONDS = 900
NETWORKS = {
    "torchvision": (
        "alexnet vgg11_bn resnet18 wide_resnet50_2 resnext50_32x4d densenet121 mobilenet_v2 mobilenet_v3_small"
        " efficientnet_b0 efficientnet_v2_s convnext_tiny regnet_x_400mf regnet_y_400mf shufflenet_v2_x0_5 vit_b_32"
        " swin_t swin_v2_t maxvit_t mnasnet0_5 googlenet squeezenet1_1 inception_v3"
    ),
    "timm": (
        "vit_tiny_patch16_224 deit3_small_patch16_224 eva02_tiny_patch14_224 beit_base_patch16_224 mixer_s32_224"
        " gmlp_s16_224 resmlp_12_224 swin_tiny_patch4_window7_224 convnext_atto convnextv2_atto levit_128s"
        " mobilevit_xxs mobilevitv2_050 xcit_nano_12_p16_224 coatnet_nano_cc_224 coat_lite_tiny ghostnet_050 repvgg_a0"
        " res2net50_14w_8s hrnet_w18_small poolformer_s12 efficientnetv2_rw_t nfnet_l0 dla34 ese_vovnet19b_slim dpn68"
        " edgenext_xx_small pvt_v2_b0 resnest14d tf_efficientnet_lite0 maxvit_rmlp_pico_rw_256 fastvit_t8 skresnet18"
        " efficientformer_l1 mobilenetv4_conv_small rexnet_100 selecsls42 cspresnet50 inception_v4 xception41"
    ),
    "transformers": "bert distilbert gpt2 llama vit swin convnext t5 bart whisper wav2vec2 segformer clip",
}


def main() -> None:
    """Run the networks that have no row, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="*")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
    elif options.table:
        print(table(read_file(options.out)))
    else:
        run(options.only, options.out)


def run(only: str, out: Path) -> None:
    """Start a process for every selected network that has no row."""
    done = {row["name"] for row in read_file(out)}
    names = [f"{family}:{name}" for family, listed in NETWORKS.items() for name in listed.split()]
    for name in names:
        if name in done or not fnmatch.fnmatch(name, only):
            continue
        row = {"name": name, **_child(name), **provenance(threads=1)}
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(_line(row), flush=True)


def _child(name: str) -> Row:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, "--one", name]
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"problem": f"over {SECONDS} s"}
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or [""])[-1]
        return {"problem": f"exit code {ended.returncode}: {last[:300]}"}
    row: Row = json.loads(ended.stdout.splitlines()[-1])
    return row


def measure(name: str) -> Row:
    """Return the row of one network without half of its channels, chosen at random."""
    torch.set_num_threads(1)
    family, _, architecture = name.partition(":")
    subject = SUBJECTS[family](architecture)
    network, inputs = subject.build().eval(), resized(subject.inputs, 2)
    begin = time.process_time()
    coupling = find_groups(network, inputs)
    seconds = time.process_time() - begin
    generator = torch.Generator().manual_seed(SEED)
    channels = {group.name: _half(group.channels, generator) for group in coupling.groups}
    network = scrambled(network)
    masked, smaller = (
        without(network, coupling.groups, channels),
        sliced(network, slicing_of(network, coupling.groups, channels)),
    )
    with torch.no_grad():
        pairs = [*zip(tensors_in(call(masked, inputs)), tensors_in(call(smaller, inputs)), strict=True)]
    return {
        "groups": len(coupling.groups),
        "channels": sum(group.channels for group in coupling.groups),
        "layers": len(prunable_weights(network)),
        "whole": coupling.whole,
        "error": max(float((one - other).abs().max() / one.abs().max()) for one, other in pairs),
        "macs": _macs(smaller, inputs) / _macs(network, inputs),
        "parameters": _parameters(smaller) / _parameters(network),
        "seconds": round(seconds, 1),
    }


def _half(count: int, generator: torch.Generator) -> torch.Tensor:
    kept = torch.zeros(count, dtype=torch.bool)
    kept[torch.randperm(count, generator=generator)[: max(1, count // 2)]] = True
    return kept


def _macs(network: torch.nn.Module, inputs: Any) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call(network, inputs)
    return counter.get_total_flops() // 2


def _parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def table(rows: list[Row]) -> str:
    """Return the rows as a table in Markdown."""
    titles = ("network", "groups", "layers whole", "error", "MACs left", "parameters left", "seconds")
    return "\n".join(
        [f"| {' | '.join(titles)} |", "|---|--:|---|--:|--:|--:|--:|", *(f"| {_line(row)} |" for row in rows)]
    )


def _line(row: Row) -> str:
    if "problem" in row:
        return f"{row['name']} | {row['problem']}"
    why = ", ".join(f"{count} × {why}" for why, count in Counter(row["whole"].values()).most_common(3))
    shares = f"{row['error']:.0e} | {row['macs']:.0%} | {row['parameters']:.0%} | {row['seconds']:.0f}"
    return f"{row['name']} | {row['groups']} | {len(row['whole'])} of {row['layers']}{why and f': {why}'} | {shares}"


if __name__ == "__main__":
    main()
