"""The callback in the trainers of Lightning and Hugging Face, and the documented examples."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from autosparse import Masks
from tests.integration.api.steps import Steps
from tests.unit.api.conftest import batches, checkered, masked, network, trained

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # the libraries warn of one another
]
EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


@pytest.mark.parametrize("name", ["lightning_trainer", "hf_trainer"])
def test_documented_examples(name: str, tmp_path: Path) -> None:
    """Each example runs as it stands, and every pruned weight is zero after its training."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    zeros, _, total, *_, pruned, _, _ = done.stdout.splitlines()[-1].split()

    assert zeros == pruned
    assert int(zeros.replace(",", "")) >= 0.8 * int(total.replace(",", "")) - 1


def lightning(library: str) -> Any:
    """A module of Lightning that trains a network under `net`, and has a copy of it that the masks fit as well."""
    return type("Module", (Steps, importlib.import_module(library).LightningModule), {})()


def trainer_of(library: str, folder: Path, masks: Masks | None, **options: Any) -> Any:
    """A trainer, with the callback of masks."""
    pl: Any = importlib.import_module(library)
    common = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    callbacks = [] if masks is None else [masks.callback("net")]
    return pl.Trainer(default_root_dir=folder, callbacks=callbacks, **common, **options)


def loader() -> Any:
    """Four batches."""
    examples: Any = batches(4)
    return torch.utils.data.DataLoader(examples, batch_size=None, num_workers=0)


def assert_zeros(module: Any, masks: Masks, folder: Path) -> None:
    """Pruned weights are zero in the trained network and in the checkpoint."""
    [checkpoint] = (folder / "checkpoints").glob("*.ckpt")
    loaded = lightning("lightning.pytorch")
    loaded.load_state_dict(torch.load(checkpoint, weights_only=False)["state_dict"])
    for one in (module.net, loaded.net):
        assert 0 == masked(one, masks).count_nonzero()
        assert trained(one, masks)


@pytest.mark.parametrize("library", ["lightning.pytorch", "pytorch_lightning"])
@pytest.mark.parametrize(
    "options", [{"accumulate_grad_batches": 2, "gradient_clip_val": 1.0}, {"precision": "bf16-mixed"}]
)
def test_lightning(library: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Zeros hold in training, in its checkpoint, and when a dense checkpoint is resumed."""
    dense, module = lightning(library), lightning(library)
    masks = Masks(checkered(module.net))
    plain = trainer_of(library, tmp_path / "dense", None, max_epochs=1)
    plain.fit(dense, loader())
    plain.save_checkpoint(tmp_path / "dense.ckpt")
    assert masked(dense.net, masks).count_nonzero() > 0

    trainer = trainer_of(library, tmp_path, masks, max_epochs=3, **options)
    trainer.fit(module, loader(), loader(), ckpt_path=str(tmp_path / "dense.ckpt"))

    assert_zeros(module, masks, tmp_path)


def test_lightning_in_two_processes(tmp_path: Path) -> None:
    """The callback travels to the processes of DistributedDataParallel."""
    from tests.integration.api.lightning_module import Module

    module = Module()
    masks = Masks(checkered(module.net))
    trainer = trainer_of("lightning.pytorch", tmp_path, masks, max_epochs=2, strategy="ddp_spawn", devices=2)
    trainer.fit(module, loader(), loader())

    assert_zeros(module, masks, tmp_path)


def test_lightning_averages(tmp_path: Path) -> None:
    """An average that Lightning began before the hold, and assigns at the end, has the zeros."""
    from lightning.pytorch.callbacks import EMAWeightAveraging

    module = lightning("lightning.pytorch")
    masks = Masks(checkered(module.net))
    trainer = trainer_of("lightning.pytorch", tmp_path, masks, max_epochs=2)
    trainer.callbacks.append(EMAWeightAveraging(decay=0.9))
    trainer.fit(module, loader())

    assert 0 == masked(module.net, masks).count_nonzero()
    assert trained(module.net, masks)


@pytest.mark.parametrize("compiled", [False, True])
def test_hugging_face(compiled: bool, tmp_path: Path) -> None:
    """Zeros hold in training, in its checkpoints, in a best one that is loaded, and when a dense one is resumed."""
    from transformers import Trainer, TrainingArguments

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.net(x)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    def train(folder: Path, callbacks: list[Any], resume: str | None = None, **options: Any) -> nn.Module:
        arguments = TrainingArguments(
            str(folder), learning_rate=0.01, per_device_train_batch_size=4, gradient_accumulation_steps=2,
            report_to="none", disable_tqdm=True, use_cpu=True, bf16=True, eval_strategy="epoch",
            save_strategy="epoch", load_best_model_at_end=True, torch_compile=compiled,
            torch_compile_backend="aot_eager" if compiled else None, **options,
        )  # fmt: skip
        model = Model()
        trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows[:8], callbacks=callbacks)
        trainer.train(resume_from_checkpoint=resume)
        trainer.save_model(str(folder / "saved"))
        return model.net

    rows: Any = [
        {"x": x, "labels": label} for inputs, labels in batches(4) for x, label in zip(inputs, labels, strict=True)
    ]
    masks = Masks(checkered(network()))
    assert masked(train(tmp_path / "dense", [], num_train_epochs=1), masks).count_nonzero() > 0
    [dense] = (tmp_path / "dense").glob("checkpoint-*")

    net = train(tmp_path / "sparse", [masks.callback()], str(dense), num_train_epochs=3)

    assert 0 == masked(net, masks).count_nonzero()
    assert trained(net, masks)
    from safetensors.torch import load_file

    files = [*(tmp_path / "sparse").glob("*/model.safetensors")]
    assert 3 == len(files)
    for file in files:
        state = load_file(file)
        assert not any(state[f"net.{name}"][~mask].any() for name, mask in masks.items())
