"""Prune networks of torchvision, timm and transformers: `python benchmarks/zoo.py`, `python benchmarks/zoo.py --table`.

Every network is built at random from its own library, nothing is downloaded: torchvision's classifiers and timm's with
10 classes at the smallest image that a plain training step accepts, transformers from the small configurations in
TRANSFORMERS. Each runs in a process of its own, one thread, two processes at once, within limits of time and memory.
Its steps are four methods of `prune` at a sparsity of 0.9, `hold` over two steps of SGD, `save`, and for every third
network of torchvision and timm three formats of export. A line of `results/zoo.jsonl` is one network; networks that
have a line are skipped, so that the command can be stopped and continued.

`--family` chooses a library, `--only` a pattern of names (`timm:mobile*`), `--limit` the number of networks, `--out`
another file. `--table` prints what the file holds, in Markdown. transformers, timm and the extra `onnx` must be
installed; a full run takes about an hour on two cores. A step is "ok", "reason: ..." where an exporter refuses the
network in autosparse's words, or the error's name and first line; `at` is the line of autosparse that raised it.
"""

from __future__ import annotations

import argparse
import fnmatch
import itertools
import json
import math
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
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import autosparse
from autosparse.exporters import Model, exporters, open_model

RESULTS = Path(__file__).parent / "results" / "zoo.jsonl"
PACKAGE = Path(autosparse.__file__).parent
SPARSITY, CLASSES, BATCH, SEED = 0.9, 10, 4, 0
ROUNDS = 5  # of SynFlow, whose 100 would take most of the time
CLOSE = 1e-3  # of the largest output
SIDES = (32, 64, 96, 128, 160, 192, 224, 240, 256, 299, 320, 384, 448, 512)
PROCESSES, SECONDS, MEMORY = 2, 180, 10 * 2**30  # SECONDS of the processor, twice as many with exports
SMALL, LARGEST = 20_000_000, 90_000_000  # parameters
COUNTS = {"torchvision": 60, "timm": 150}
PRUNE = {
    "default": {},
    "snip": {"method": "snip"},
    "synflow": {"method": {"preset": "synflow", "schedule": {"name": "exponential", "rounds": ROUNDS}}},
    "erk": {"method": "erk"},
}
EXPORTS = ("shrunk", "onnx", "pt2")
STEPS = ("build", *PRUNE, "hold", "save", *EXPORTS)
FAMILIES = ("torchvision", "timm", "transformers")

_TOKENS, _WIDTH, _LENGTH, _SIDE = 99, 32, 16, 32
_BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_LLAMA = {**_BERT, "num_key_value_heads": 2, "pad_token_id": 0}
_VIT = {**_BERT, "image_size": 32, "patch_size": 8}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
_BART = {
    **{"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4},
    **{"decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4}
_WAVES = {"conv_dim": (32, 32), "conv_kernel": (10, 3), "conv_stride": (5, 2)}
_POSITIONS = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
_WHISPER = {**_BART, "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 32}
_TWO_STAGES = {"num_stages": 2, "depths": [2, 2], "hidden_sizes": [16, 32]}
_SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
_SEGFORMER = {
    **{"num_encoder_blocks": 2, "depths": [2, 2], "sr_ratios": [4, 2], "hidden_sizes": [16, 32]},
    **{"patch_sizes": [7, 3], "strides": [4, 2], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2]},
}
_MOBILEVIT = {"image_size": 64, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32]}
_CLIP = {"text_config": {**_BERT, "vocab_size": _TOKENS}, "vision_config": _VIT, "projection_dim": 16}
TRANSFORMERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertForSequenceClassification", "texts", _BERT),
    "roberta": ("RobertaForSequenceClassification", "texts", _BERT),
    "distilbert": ("DistilBertForSequenceClassification", "texts", {"dim": 32, "n_layers": 2, "n_heads": 4}),
    "albert": ("AlbertForSequenceClassification", "texts", {**_BERT, "embedding_size": 16}),
    "electra": ("ElectraForSequenceClassification", "texts", {**_BERT, "embedding_size": 16}),
    "deberta-v2": (
        "DebertaV2ForSequenceClassification",
        "texts",
        {**_BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    "modernbert": ("ModernBertForSequenceClassification", "texts", {**_BERT, "pad_token_id": 0}),
    "xlnet": ("XLNetForSequenceClassification", "texts", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}),
    "t5-encoder": ("T5ForTokenClassification", "tokens", _T5),
    "gpt2": ("GPT2LMHeadModel", "language", _GPT),
    "gpt-neox": ("GPTNeoXForCausalLM", "language", _BERT),
    "opt": ("OPTForCausalLM", "language", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}),
    "llama": ("LlamaForCausalLM", "language", _LLAMA),
    "mistral": ("MistralForCausalLM", "language", _LLAMA),
    "mixtral": ("MixtralForCausalLM", "language", {**_LLAMA, "num_local_experts": 4}),
    "qwen2": ("Qwen2ForCausalLM", "language", _LLAMA),
    "gemma": ("GemmaForCausalLM", "language", {**_LLAMA, "head_dim": 8}),
    "phi": ("PhiForCausalLM", "language", _BERT),
    "falcon": ("FalconForCausalLM", "language", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}),
    "bloom": ("BloomForCausalLM", "language", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "t5": ("T5ForConditionalGeneration", "pairs", _T5),
    "bart": ("BartForConditionalGeneration", "pairs", _BART),
    "vit": ("ViTForImageClassification", "images", _VIT),
    "deit": ("DeiTForImageClassification", "images", _VIT),
    "beit": ("BeitForImageClassification", "images", _VIT),
    "swin": ("SwinForImageClassification", "images", _SWIN),
    "convnext": ("ConvNextForImageClassification", "images", _TWO_STAGES),
    "resnet": ("ResNetForImageClassification", "images", {"embedding_size": 16, **_TWO_STAGES}),
    "segformer": ("SegformerForImageClassification", "images", _SEGFORMER),
    "mobilevit": ("MobileViTForImageClassification", "images", _MOBILEVIT),
    "wav2vec2": ("Wav2Vec2ForSequenceClassification", "sounds", {**_BERT, **_WAVES, **_POSITIONS}),
    "whisper": ("WhisperForConditionalGeneration", "speech", _WHISPER),
    "clip": ("CLIPModel", "captions", _CLIP),
}
"""Architecture -> (class, kind of its inputs, what is small in its configuration)."""

Loss = Callable[[Any, Any], torch.Tensor]


@dataclass(frozen=True)
class Subject:
    """A network, built the same at every call, with a batch and, where cross-entropy does not do, a loss.

    `shape` is that of one image, empty where the network takes several inputs by name.
    """

    build: Callable[[], torch.nn.Module]
    inputs: Any
    labels: torch.Tensor
    loss: Loss | None
    shape: tuple[int, ...]

    def outputs(self, network: torch.nn.Module) -> Any:
        """Those of the batch."""
        return network(**self.inputs) if isinstance(self.inputs, dict) else network(self.inputs)

    def objective(self, network: torch.nn.Module) -> torch.Tensor:
        """The loss of the batch."""
        return (self.loss or torch.nn.functional.cross_entropy)(self.outputs(network), self.labels)


class Wrong(AssertionError):
    """A promise of the interface that does not hold."""


class Skipped(Exception):
    """A step that does not apply."""


def main() -> None:
    """Run what has no line yet, or print the table."""
    options = _options()
    if options.one:
        Trial(options.one, options.record, export=options.export).run()
    elif options.table:
        print(table(lines(options.out)))
    else:
        run(options)


def run(options: argparse.Namespace) -> None:
    """A process for every network that is chosen and has no line yet."""
    done = {f"{line['family']}:{line['name']}" for line in lines(options.out)}
    families = [options.family] if options.family else [*FAMILIES]
    for family in [family for family in families if find_spec(family) is None]:
        print(f"{family} is not installed: its networks are left for another run", file=sys.stderr)
        families.remove(family)
    chosen = [
        (f"{family}:{name}", family != "transformers" and place % 3 == 0)
        for family in families
        for place, name in enumerate(NAMES[family]())
    ]
    if options.only:
        chosen = [one for one in chosen if fnmatch.fnmatch(one[0], options.only)]
    missing = [one for one in chosen[: options.limit] if one[0] not in done]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(PROCESSES) as pool, options.out.open("a", encoding="utf-8") as file:
        futures = [pool.submit(_child, network, export) for network, export in missing]
        for count, future in enumerate(as_completed(futures), 1):
            line = future.result()
            file.write(json.dumps(line) + "\n")
            file.flush()
            brief = ", ".join(f"{step} {told['result'][:80]}" for step, told in line["steps"].items() if _fails(told))
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
            # Of a machine that does other work, too: processor time is what the child limits.
            ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, timeout=20 * limit)
            last = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
            fate = f"Crash: exit code {ended.returncode}" + "".join(f", {text[:200]}" for text in last)
            fate = f"TimeLimit: over {limit} s" if ended.returncode == -signal.SIGXCPU else fate
        except subprocess.TimeoutExpired:
            fate = f"TimeLimit: over {20 * limit} s of the clock"
        told: dict[str, Any] = {"family": family, "name": name, "steps": {}}
        for text in record.read_text(encoding="utf-8").splitlines() if record.exists() else []:
            part = json.loads(text)
            told["steps"] |= part.pop("steps", {})
            told |= part
    if not told.pop("finished", False):
        told["steps"][told.get("step", "build")] = {"result": fate}
    told.pop("step", None)
    return {**told, "seconds": round(time.perf_counter() - begin, 1)}


class Trial:
    """One network's steps, each written to the record as it begins and as it ends."""

    def __init__(self, network: str, record: Path, *, export: bool) -> None:
        self.family, _, self.name = network.partition(":")
        self.record = record
        self.export = export
        self.warned: dict[str, None] = {}

    def run(self) -> None:
        """Every step, and what is known of the network."""
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
        begin, made, told = time.process_time(), None, {}
        torch.manual_seed(SEED)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                made = work()
                told["result"] = "ok"
            except Skipped as error:
                told["result"] = f"skipped: {error}"
            except Exception as error:
                told = _told(error, reasons=name in EXPORTS)
        self.warned |= dict.fromkeys(f"{name}: {w.message}" for w in caught if _is_autosparse(w))
        self._write(steps={name: {**told, "seconds": round(time.process_time() - begin, 2)}})
        return made

    def _write(self, **fields: Any) -> None:
        with self.record.open("a", encoding="utf-8") as file:
            # Where libraries lie on this machine is no part of a result.
            file.write(re.sub(r"/[^\s:()\"]*/site-packages/", "", json.dumps(fields)) + "\n")


def pruned(subject: Subject, network: torch.nn.Module, options: dict[str, Any]) -> autosparse.Masks:
    """Masks with the exact count and the right shapes, the network left as it was."""
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
    """Two training steps under which masked weights stay zero."""
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
    """A file of masks that holds the same masks."""
    path = Path("masks.safetensors").absolute()
    masks.save(path)
    if autosparse.Masks.load(path) != masks:
        raise Wrong("the masks are not those that were saved")


def with_dead_channels(masks: autosparse.Masks) -> autosparse.Masks:
    """The masks without every fourth output of every layer, so that an export has channels to remove."""
    fewer = {name: mask.clone() for name, mask in masks.items()}
    for mask in fewer.values():
        mask[::4] = False
    return autosparse.Masks(fewer)


def export(subject: Subject, network: torch.nn.Module, masks: autosparse.Masks, format: str) -> float:
    """An emitted model, opened again, with the outputs of the masked network: its bytes over those of the state."""
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


def _told(error: Exception, *, reasons: bool) -> dict[str, str]:
    # What a step came to, and the innermost line of autosparse that was running.
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


# Networks


def torchvision_names() -> list[str]:
    """Those below 20 million parameters, the smallest of families that have none, and then the next larger ones."""
    from torchvision import models

    sizes = {
        name: max(weights.meta["num_params"] for weights in models.get_model_weights(name))
        for name in models.list_models(module=models)
    }
    homes = {name: models.get_model_builder(name).__module__ for name in sizes}
    return _chosen(sizes, homes, COUNTS["torchvision"], SMALL)


def timm_names() -> list[str]:
    """The smallest of every module that has any below 20 million parameters, or one below 30 million."""
    import timm

    cache = Path(tempfile.gettempdir()) / f"autosparse-zoo-timm-{timm.__version__}.json"
    if not cache.exists():
        print("counting the parameters of timm's networks: three minutes, once", file=sys.stderr)
        draft = cache.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(dict(_timm_sizes())), encoding="utf-8")
        draft.replace(cache)
    sizes = json.loads(cache.read_text(encoding="utf-8"))
    homes = {name: module for module in timm.list_modules() for name in timm.list_models(module=module)}
    return _turns(sizes, homes, COUNTS["timm"])


def _timm_sizes() -> Iterator[tuple[str, int]]:
    import timm

    for name in timm.list_models():
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = timm.create_model(name, pretrained=False, num_classes=CLASSES)
        yield name, sum(parameter.numel() for parameter in network.parameters())


def _chosen(sizes: dict[str, int], homes: dict[str, str], count: int, small: int) -> list[str]:
    order = sorted(sizes, key=lambda name: (sizes[name], name))
    first = {homes[name]: name for name in reversed(order) if sizes[name] < LARGEST}
    chosen = [name for name in order if sizes[name] < small]
    chosen += [name for name in first.values() if name not in chosen]
    chosen += [name for name in order if name not in chosen]
    return sorted(chosen[:count])


def _turns(sizes: dict[str, int], homes: dict[str, str], count: int) -> list[str]:
    # One of every module in turn, other names before variants of the same; of large ones a single network.
    queues: dict[str, list[str]] = defaultdict(list)
    for name in sorted(sizes, key=lambda name: (sizes[name], name)):
        if not name.startswith("test_"):  # made for timm's own tests
            queues[homes[name]].append(name)
    for module, names in queues.items():
        small = [name for name in names if sizes[name] < SMALL]
        stems = [re.match("[a-z]+", name).group() for name in small]  # type: ignore[union-attr]
        others = [stem in stems[:place] for place, stem in enumerate(stems)]
        small = [name for _, name in sorted(zip(others, small, strict=True), key=lambda pair: pair[0])]
        queues[module] = small or [name for name in names[:1] if sizes[name] < 1.5 * SMALL]
    turns = itertools.zip_longest(*queues.values())
    return sorted([name for turn in turns for name in turn if name is not None][:count])


def torchvision_subject(name: str) -> Subject:
    """A classifier of torchvision."""
    from torchvision import models

    def build(side: int) -> torch.nn.Module:
        sized = {"image_size": side} if name.startswith("vit_") else {}
        sized = {"input_size": (side, side)} if name.startswith("maxvit") else sized
        return models.get_model(name, weights=None, num_classes=CLASSES, **sized)

    return _smallest(build, 3, SIDES)


def timm_subject(name: str) -> Subject:
    """A network of timm, made for the image's size where it can be."""
    import timm

    def build(side: int) -> torch.nn.Module:
        try:
            return timm.create_model(name, pretrained=False, num_classes=CLASSES, img_size=side)
        except TypeError:  # it has no such option
            return timm.create_model(name, pretrained=False, num_classes=CLASSES)

    channels, *given = timm.get_pretrained_cfg(name, allow_unregistered=False).input_size
    return _smallest(build, channels, sorted({*SIDES, max(given)}))


def _smallest(build: Callable[[int], torch.nn.Module], channels: int, sides: Iterable[int]) -> Subject:
    # With the smallest image at which a plain training step works.
    problems: list[str] = []
    for side in sides:
        shape = (channels, side, side)
        torch.manual_seed(SEED)
        images, labels = torch.randn(BATCH, *shape), torch.arange(BATCH) % CLASSES
        with _quiet():
            try:
                network = _built(partial(build, side))
                network.eval()(images[:1])
                outputs = network.train()(images)
                loss = None if isinstance(outputs, torch.Tensor) else first_cross_entropy
                found = (loss or torch.nn.functional.cross_entropy)(outputs, labels)
                found.backward()
            except Exception as error:  # whatever it raises for an image that is too small
                problems.append(f"{side}: {type(error).__name__}: {error}".partition("\n")[0][:100])
                continue
        if math.isfinite(found.item()):
            return Subject(partial(_built, partial(build, side)), images, labels, loss, shape)
        problems.append(f"{side}: the loss is {found.item()}")
    raise Skipped(f"no image fits, {problems[-1]}")


def first_cross_entropy(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the first of several outputs, which others follow in training mode."""
    while not isinstance(outputs, torch.Tensor):
        outputs = next(iter(outputs.values() if isinstance(outputs, dict) else outputs))
    return torch.nn.functional.cross_entropy(outputs, labels)


def transformers_subject(name: str) -> Subject:
    """A small network of transformers."""
    import transformers

    transformers.logging.set_verbosity_error()
    kind, inputs, small = TRANSFORMERS[name]
    network = getattr(transformers, kind)
    own = {"vocab_size": _TOKENS, "num_labels": CLASSES, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    own |= {"decoder_start_token_id": 1} if inputs in ("pairs", "speech") else {}

    def build() -> torch.nn.Module:
        return _built(lambda: network(network.config_class(**{**own, **small})))

    torch.manual_seed(SEED)
    batch = _batch(inputs, small)
    # Labels among the inputs give `outputs.loss`.
    labels = torch.arange(BATCH) % CLASSES
    subject = Subject(
        build, batch, labels, own_loss if "labels" in batch or "return_loss" in batch else logits_loss, ()
    )
    subject.objective(build().train()).backward()
    return subject


def own_loss(outputs: Any, _: torch.Tensor) -> torch.Tensor:
    """The loss that a network of transformers computes from labels among its inputs."""
    loss: torch.Tensor = outputs.loss
    return loss


def logits_loss(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the logits that a network of transformers returns."""
    return torch.nn.functional.cross_entropy(outputs.logits, labels)


def _batch(kind: str, small: dict[str, Any]) -> dict[str, Any]:
    tokens, classes = torch.randint(3, _TOKENS, (BATCH, _LENGTH)), torch.arange(BATCH) % CLASSES
    side = small.get("image_size", _SIDE)
    images = torch.randn(BATCH, 3, side, side)
    texts = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    return {
        "texts": {**texts, "labels": classes},
        "tokens": {**texts, "labels": tokens % CLASSES},
        "language": {**texts, "labels": tokens},
        "pairs": {**texts, "labels": tokens.flip(1)},
        "images": {"pixel_values": images},
        "sounds": {"input_values": torch.randn(BATCH, 800)},
        "speech": {"input_features": torch.randn(BATCH, 8, 32), "labels": tokens},
        "captions": {**texts, "pixel_values": images, "return_loss": True},
    }[kind]


def _built(build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(SEED)
        return build()


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


NAMES: dict[str, Callable[[], list[str]]] = {
    "torchvision": torchvision_names,
    "timm": timm_names,
    "transformers": lambda: sorted(TRANSFORMERS),
}
SUBJECTS: dict[str, Callable[[str], Subject]] = {
    "torchvision": torchvision_subject,
    "timm": timm_subject,
    "transformers": transformers_subject,
}


# Results


def lines(path: Path) -> list[dict[str, Any]]:
    """The networks that have a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def table(found: list[dict[str, Any]]) -> str:
    """Passes by family and step, and every step that did not pass with its reason, in Markdown."""
    head = ["family", "networks", *STEPS, "warned"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for family in (family for family in FAMILIES if any(line["family"] == family for line in found)):
        own = [line["steps"] for line in found if line["family"] == family]
        warned = sum(bool(line.get("warnings")) for line in found if line["family"] == family)
        rows.append([family, str(len(own)), *(_passes(own, step) for step in STEPS), str(warned)])
    text = ["Passes of those tried; in brackets, refused with a reason.", "", *map(_row, rows), ""]
    rows = [["result", "step", "networks", "in autosparse"], ["---"] * 4]
    groups: dict[tuple[str, str], tuple[set[str], list[str]]] = {}
    for line in found:
        for step, told in line["steps"].items():
            if told["result"] != "ok":
                steps, networks = groups.setdefault((told["result"], told.get("at", "")), (set(), []))
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


def _fails(told: dict[str, Any]) -> bool:
    return told["result"] != "ok"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Prune networks of other libraries.")
    parser.add_argument("--family", choices=FAMILIES, help="networks of one library")
    parser.add_argument("--only", metavar="PATTERN", help="networks whose `family:name` matches, such as `timm:vit*`")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N networks")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="lines of results")
    parser.add_argument("--table", action="store_true", help="print the results in Markdown")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--export", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
