"""Prune a transformer, train it with the Hugging Face Trainer, and count the zeros."""

import tempfile
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

import autosparse

set_seed(0)
config = BertConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
config.num_labels = 3
model = BertForSequenceClassification(config)
rows: Any = [{"input_ids": torch.randint(0, 100, (16,)), "labels": torch.randint(0, 3, ())} for _ in range(256)]
batches: Any = torch.utils.data.DataLoader(rows, batch_size=32)
masks = autosparse.prune(model, batches, sparsity=0.8, method="snip")

with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder,
        num_train_epochs=2,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=2,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows[:32], callbacks=[masks.callback()])
    trainer.train()

zeros = sum(int((model.get_parameter(name) == 0).sum()) for name in masks)
print(f"{zeros:,} of {masks.total:,} weights are zero, {masks.total - masks.kept:,} are pruned")
