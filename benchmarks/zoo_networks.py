"""Networks of torchvision, timm and transformers, built at random from their libraries with a batch each."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

CLASSES, BATCH, SEED = 10, 4, 0
SIDES = (32, 64, 96, 128, 160, 192, 224, 240, 256, 299, 320, 384, 448, 512)
SMALL, LARGEST = 20_000_000, 90_000_000  # parameters
COUNTS = {"torchvision": 60, "timm": 150}

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
"""Architecture -> (class, kind of its inputs, the small sizes in its configuration)."""

Loss = Callable[[Any, Any], torch.Tensor]


class Skipped(Exception):
    """A step that does not apply."""


@dataclass(frozen=True)
class Subject:
    """A network that is built identically at every call, with a batch and, unless it is cross-entropy, a loss.

    `shape` is that of one image, empty where the network takes several inputs by name.
    """

    build: Callable[[], torch.nn.Module]
    inputs: Any
    labels: torch.Tensor
    loss: Loss | None
    shape: tuple[int, ...]

    def outputs(self, network: torch.nn.Module) -> Any:
        """Return the outputs of the batch."""
        return network(**self.inputs) if isinstance(self.inputs, dict) else network(self.inputs)

    def objective(self, network: torch.nn.Module) -> torch.Tensor:
        """Return the loss of the batch."""
        return (self.loss or torch.nn.functional.cross_entropy)(self.outputs(network), self.labels)


def torchvision_names() -> list[str]:
    """Return the networks below 20 million parameters, the smallest of other families, then the next larger ones."""
    from torchvision import models

    sizes = {
        name: max(weights.meta["num_params"] for weights in models.get_model_weights(name))
        for name in models.list_models(module=models)
    }
    homes = {name: models.get_model_builder(name).__module__ for name in sizes}
    return _chosen(sizes, homes, COUNTS["torchvision"], SMALL)


def timm_names() -> list[str]:
    """Return networks of every module, interleaved: those below 20 million parameters, else one below 30 million."""
    import timm

    cache = Path(tempfile.gettempdir()) / f"autosparse-zoo-timm-{timm.__version__}.json"
    if not cache.exists():
        print("counting the parameters of timm's networks: three minutes, once", file=sys.stderr)
        draft = cache.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(dict(_timm_sizes())), encoding="utf-8")
        draft.replace(cache)
    sizes = json.loads(cache.read_text(encoding="utf-8"))
    homes = {name: module for module in timm.list_modules() for name in timm.list_models(module=module)}
    return _interleave(sizes, homes, COUNTS["timm"])


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


def _interleave(sizes: dict[str, int], homes: dict[str, str], count: int) -> list[str]:
    # One of every module a round, new names before variants of one; of large modules a single network.
    queues: dict[str, list[str]] = defaultdict(list)
    for name in sorted(sizes, key=lambda name: (sizes[name], name)):
        if not name.startswith("test_"):  # made for timm's own tests
            queues[homes[name]].append(name)
    for module, names in queues.items():
        small = [name for name in names if sizes[name] < SMALL]
        stems = [re.match("[a-z]+", name).group() for name in small]  # type: ignore[union-attr]
        others = [stem in stems[:number] for number, stem in enumerate(stems)]
        small = [name for _, name in sorted(zip(others, small, strict=True), key=lambda pair: pair[0])]
        queues[module] = small or [name for name in names[:1] if sizes[name] < 1.5 * SMALL]
    rounds = itertools.zip_longest(*queues.values())
    return sorted([name for names in rounds for name in names if name is not None][:count])


def torchvision_subject(name: str) -> Subject:
    """Return a classifier of torchvision."""
    from torchvision import models

    def build(side: int) -> torch.nn.Module:
        sized = {"image_size": side} if name.startswith("vit_") else {}
        sized = {"input_size": (side, side)} if name.startswith("maxvit") else sized
        return models.get_model(name, weights=None, num_classes=CLASSES, **sized)

    return _smallest(build, 3, SIDES)


def timm_subject(name: str) -> Subject:
    """Return a network of timm, built for the size of the image if it takes one."""
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
                value = (loss or torch.nn.functional.cross_entropy)(outputs, labels)
                value.backward()
            except Exception as error:  # libraries raise many types for an image that is too small
                problems.append(f"{side}: {type(error).__name__}: {error}".partition("\n")[0][:100])
                continue
        if math.isfinite(value.item()):
            return Subject(partial(_built, partial(build, side)), images, labels, loss, shape)
        problems.append(f"{side}: the loss is {value.item()}")
    raise Skipped(f"no image fits, {problems[-1]}")


def first_cross_entropy(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of the first of several outputs in training mode."""
    while not isinstance(outputs, torch.Tensor):
        outputs = next(iter(outputs.values() if isinstance(outputs, dict) else outputs))
    return torch.nn.functional.cross_entropy(outputs, labels)


def transformers_subject(name: str) -> Subject:
    """Return a small network of transformers."""
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
    """Return the loss that a network of transformers computes from labels among its inputs."""
    loss: torch.Tensor = outputs.loss
    return loss


def logits_loss(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of the logits of a network of transformers."""
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
