"""Pruning of foreign networks, those of torchvision, timm and transformers: `python benchmarks/zoo.py`.

Every network is built at random from its library, without downloads (`zoo_networks.py`): torchvision's and timm's
classifiers with 10 classes at the smallest image that a plain training step accepts, transformers from small
configurations. Each runs in a separate process, one thread, two processes at once, within limits of time and memory.
The steps are four methods of `prune` at a sparsity of 0.9, `hold` over two steps of SGD, `save`, and for every third
network of torchvision and timm three export formats. A row of `results/zoo.jsonl` is one network; the command skips
networks that have a row, so it can be stopped and continued.

`--family` selects a library, `--only` a pattern of names (`timm:mobile*`), `--limit` the number of networks, `--out`
another file. `--table` prints the rows in Markdown. transformers, timm and the extra `onnx` must be installed; a full
run takes about an hour on two cores. The result of a step is "ok", "reason: ..." if an exporter rejects the network in
autosparse's words, or the error's name and first line; `at` is the line of autosparse that raised it.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from records import FOLDER, provenance, read_file
from zoo_networks import NAMES, SEED, SUBJECTS, Skipped, Subject

import autosparse
from autosparse.exporters import Model, exporters, open_model

RESULTS = FOLDER / "zoo.jsonl"
PACKAGE = Path(autosparse.__file__).parent
SPARSITY = 0.9
ROUNDS = 5  # of SynFlow; 100 would dominate the run time
CLOSE = 1e-3  # of the largest output
PROCESSES, SECONDS, MEMORY = 2, 180, 10 * 2**30  # SECONDS of processor time, twice as long with exports
PRUNE = {
    "default": {},
    "snip": {"method": "snip"},
    "synflow": {"method": {"preset": "synflow", "schedule": {"name": "exponential", "rounds": ROUNDS}}},
    "erk": {"method": "erk"},
}
EXPORTS = ("shrunk", "onnx", "pt2")
STEPS = ("build", *PRUNE, "hold", "save", *EXPORTS)
FAMILIES = ("torchvision", "timm", "transformers")


class Wrong(AssertionError):
    """A guarantee of the interface that does not hold."""


def main() -> None:
    """Run the networks that have no row, or print the table."""
    options = _options()
    if options.one:
        Trial(options.one, options.record, export=options.export).run()
    elif options.table:
        print(table(read_file(options.out)))
    else:
        run(options)


def run(options: argparse.Namespace) -> None:
    """Start a process for every selected network that has no row."""
    done = {f"{line['family']}:{line['name']}" for line in read_file(options.out)}
    families = [options.family] if options.family else [*FAMILIES]
    for family in [family for family in families if find_spec(family) is None]:
        print(f"{family} is not installed: its networks are skipped", file=sys.stderr)
        families.remove(family)
    chosen = [
        (f"{family}:{name}", family != "transformers" and number % 3 == 0)
        for family in families
        for number, name in enumerate(NAMES[family]())
    ]
    if options.only:
        chosen = [one for one in chosen if fnmatch.fnmatch(one[0], options.only)]
    missing = [one for one in chosen[: options.limit] if one[0] not in done]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(PROCESSES) as pool, options.out.open("a", encoding="utf-8") as file:
        futures = [pool.submit(_child, network, export) for network, export in missing]
        for count, future in enumerate(as_completed(futures), 1):
            line = {**future.result(), **provenance(threads=1)}
            file.write(json.dumps(line) + "\n")
            file.flush()
            results = {step: outcome["result"] for step, outcome in line["steps"].items()}
            brief = ", ".join(f"{step} {result[:80]}" for step, result in results.items() if result != "ok")
            print(
                f"{count}/{len(missing)} {line['family']}:{line['name']} {line['seconds']:.0f} s: {brief or 'ok'}",
                flush=True,
            )


def _child(network: str, export: bool) -> dict[str, Any]:
    family, _, name = network.partition(":")
    begin = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.jsonl"
        command = [sys.executable, __file__, "--one", network, "--record", str(record)]
        limit = SECONDS * (1 + export)
        try:
            command += ["--export"] * export
            # The machine may be shared, so the child limits processor time and this timeout is generous.
            ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, timeout=20 * limit)
            last = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
            fate = f"Crash: exit code {ended.returncode}" + "".join(f", {text[:200]}" for text in last)
            fate = f"TimeLimit: over {limit} s" if ended.returncode == -signal.SIGXCPU else fate
        except subprocess.TimeoutExpired:
            fate = f"TimeLimit: over {20 * limit} s of the clock"
        row: dict[str, Any] = {"family": family, "name": name, "steps": {}}
        for text in record.read_text(encoding="utf-8").splitlines() if record.exists() else []:
            part = json.loads(text)
            row["steps"] |= part.pop("steps", {})
            row |= part
    if not row.pop("finished", False):
        row["steps"][row.get("step", "build")] = {"result": fate}
    row.pop("step", None)
    return {**row, "seconds": round(time.perf_counter() - begin, 1)}


class Trial:
    """The steps of one network, each recorded at its start and at its end."""

    def __init__(self, network: str, record: Path, *, export: bool) -> None:
        self.family, _, self.name = network.partition(":")
        self.record = record
        self.export = export
        self.warned: dict[str, None] = {}

    def run(self) -> None:
        """Run all steps and record the facts of the network."""
        torch.set_num_threads(1)
        seconds = SECONDS * (1 + self.export)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        self._write(versions={name: version(name) for name in ("torch", self.family)})
        subject: Subject | None = self._step("build", lambda: SUBJECTS[self.family](self.name))
        if subject is not None:
            self._prune(subject)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        self._write(warnings=[*self.warned], peak_mib=peak, finished=True)

    def _prune(self, subject: Subject) -> None:
        network = subject.build()
        count = sum(parameter.numel() for parameter in network.parameters())
        self._write(parameters=count, input=_shapes(subject.inputs), own_loss=subject.loss is not None)
        made = [self._step(step, lambda step=step: pruned(subject, network, PRUNE[step])) for step in PRUNE]
        masks: autosparse.Masks | None = next((masks for masks in made if masks is not None), None)
        if masks is None:
            return
        self._write(
            layers=len(masks), unprunable_share=round(1 - masks.total / count, 4), unprunable=_left_out(network, masks)
        )
        self._step("hold", lambda: hold(subject, network, masks))
        self._step("save", lambda: save(masks))
        if self.export:
            fewer = with_dead_channels(masks)
            fewer.apply(network.eval())
            shares = {
                format: self._step(format, lambda format=format: export(subject, network, fewer, format))
                for format in EXPORTS
            }
            self._write(sizes={format: share for format, share in shares.items() if share is not None})

    def _step(self, name: str, work: Callable[[], Any]) -> Any:
        self._write(step=name)
        begin, made, outcome = time.process_time(), None, {}
        torch.manual_seed(SEED)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                made = work()
                outcome["result"] = "ok"
            except Skipped as error:
                outcome["result"] = f"skipped: {error}"
            except Exception as error:
                outcome = _outcome(error, reasons=name in EXPORTS)
        self.warned |= dict.fromkeys(f"{name}: {w.message}" for w in caught if _is_autosparse(w))
        self._write(steps={name: {**outcome, "seconds": round(time.process_time() - begin, 2)}})
        return made

    def _write(self, **fields: Any) -> None:
        with self.record.open("a", encoding="utf-8") as file:
            # Paths of this machine do not belong in a result.
            file.write(re.sub(r"/[^\s:()\"]*/site-packages/", "", json.dumps(fields)) + "\n")


def pruned(subject: Subject, network: torch.nn.Module, options: dict[str, Any]) -> autosparse.Masks:
    """Return masks with the exact count and the right shapes; the network must not change."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    masks = autosparse.prune(network, [(subject.inputs, subject.labels)], SPARSITY, loss=subject.loss, **options)
    after, weights = network.state_dict(), dict(network.named_parameters(remove_duplicate=False))
    odd = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
    if odd or before.keys() != after.keys():
        raise Wrong(f"the state of the network has changed: {', '.join(odd[:3])}")
    if modes != [module.training for module in network.modules()]:
        raise Wrong("the mode of the network has changed")
    if any(weight.grad is not None for weight in weights.values()):
        raise Wrong("the network has gradients")
    if odd := [name for name, mask in masks.items() if mask.shape != weights[name].shape]:
        raise Wrong(f"masks have other shapes than their weights: {', '.join(odd[:3])}")
    kept = sum(int(mask.sum()) for mask in masks.values())
    if kept != round((1 - SPARSITY) * masks.total) or kept != masks.kept:
        raise Wrong(f"{kept} of {masks.total} weights are kept")
    return masks


def hold(subject: Subject, network: torch.nn.Module, masks: autosparse.Masks) -> None:
    """Train two steps; masked weights must stay zero."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    network.train()
    with masks.hold(optimizer):
        for _ in range(2):
            optimizer.zero_grad()
            subject.objective(network).backward()
            optimizer.step()
        weights = dict(network.named_parameters(remove_duplicate=False))
        if odd := [name for name, mask in masks.items() if bool(weights[name].detach()[~mask].any())]:
            raise Wrong(f"masked weights are not zero after training: {', '.join(odd[:3])}")


def save(masks: autosparse.Masks) -> None:
    """Save and load the masks; they must be equal."""
    path = Path("masks.safetensors").absolute()
    masks.save(path)
    if autosparse.Masks.load(path) != masks:
        raise Wrong("the loaded masks differ from the saved ones")


def with_dead_channels(masks: autosparse.Masks) -> autosparse.Masks:
    """Return the masks without every fourth output of every layer, so that an export can remove channels."""
    fewer = {name: mask.clone() for name, mask in masks.items()}
    for mask in fewer.values():
        mask[::4] = False
    return autosparse.Masks(fewer)


def export(subject: Subject, network: torch.nn.Module, masks: autosparse.Masks, format: str) -> float:
    """Export and open a model; its outputs must match. Return its bytes relative to the state."""
    state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        expected = subject.outputs(network)
    if not bool(expected.isfinite().all()):
        raise Skipped("outputs of the masked network are not finite after training")
    files = exporters[format].function(Model(state, dict(masks), subject.build, subject.shape))
    with torch.no_grad():
        opened = open_model(format, files, subject.build())(subject.inputs)
    if opened.shape != expected.shape:
        raise Wrong(f"outputs are {tuple(opened.shape)}, not {tuple(expected.shape)}")
    error = float((opened - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
    if not error <= CLOSE:
        raise Wrong(f"outputs differ by {error:.2g} of the largest")
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    return round(sum(map(len, files.values())) / size, 4)


def _outcome(error: Exception, *, reasons: bool) -> dict[str, str]:
    # The result of a failed step, and the innermost line of autosparse in its traceback.
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
    first = str(error).strip().partition("\n")[0][:300]
    named = bool(own) and own[-1] is frames[-1] and isinstance(error, ValueError | autosparse.AutosparseError)
    result = f"reason: {first}" if reasons and named else f"{type(error).__name__}: {first}"
    where = f"{Path(own[-1].filename).relative_to(PACKAGE)}:{own[-1].lineno}" if own else ""
    return {"result": result, **({"at": where} if where else {})}


def _is_autosparse(warning: warnings.WarningMessage) -> bool:
    of_package = warning.category.__module__.partition(".")[0] == "autosparse"
    return of_package or Path(warning.filename).is_relative_to(PACKAGE)


def _left_out(network: torch.nn.Module, masks: autosparse.Masks) -> dict[str, float]:
    # Reason -> share of all parameters that have no mask for it, from a thousandth. Tied parameters count once.
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    shares: Counter[str] = Counter()
    for name, reason in masks.unprunable.items():
        if not reason.startswith("tied to "):
            shares[reason] += sizes.get(name, 0)
    every = sum(sizes.values())
    return {reason: round(size / every, 4) for reason, size in shares.most_common() if size >= every / 1000}


def _shapes(inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return {name: _shapes(value) for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    return list(inputs.shape)


def table(lines: list[dict[str, Any]]) -> str:
    """Return passes by family and step, and every failed step with its reason, in Markdown."""
    head = ["family", "networks", *STEPS, "warned"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for family in (family for family in FAMILIES if any(line["family"] == family for line in lines)):
        own = [line["steps"] for line in lines if line["family"] == family]
        warned = sum(bool(line.get("warnings")) for line in lines if line["family"] == family)
        rows.append([family, str(len(own)), *(_passes(own, step) for step in STEPS), str(warned)])
    text = ["Passed / tried (rejected with a reason).", "", *map(_row, rows), ""]
    rows = [["result", "step", "networks", "in autosparse"], ["---"] * 4]
    groups: dict[tuple[str, str], tuple[set[str], list[str]]] = {}
    for line in lines:
        for step, outcome in line["steps"].items():
            if outcome["result"] != "ok":
                steps, networks = groups.setdefault((outcome["result"], outcome.get("at", "")), (set(), []))
                steps.add(step)
                name = f"{line['family']}:{line['name']}"
                networks += [name] if name not in networks else []
    for (result, where), (steps, networks) in sorted(groups.items(), key=lambda item: (-len(item[1][1]), item[0])):
        rows.append([result.replace("|", "\\|"), ", ".join(sorted(steps, key=STEPS.index)), ", ".join(networks), where])
    return "\n".join([*text, *map(_row, rows)])


def _passes(own: list[dict[str, Any]], step: str) -> str:
    results = [steps[step]["result"] for steps in own if step in steps]
    tried = [result for result in results if not result.startswith("skipped: ")]
    refused = sum(result.startswith("reason: ") for result in tried)
    return f"{tried.count('ok')}/{len(tried)}" + (f" ({refused})" if refused else "") if tried else "-"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Prune networks of other libraries.")
    parser.add_argument("--family", choices=FAMILIES, help="select one library")
    parser.add_argument("--only", metavar="PATTERN", help="select networks by `family:name`, such as `timm:vit*`")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after the first N networks")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="file of rows")
    parser.add_argument("--table", action="store_true", help="print the rows in Markdown")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--export", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
