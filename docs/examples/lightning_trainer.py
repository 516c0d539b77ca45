"""Prune a network, train it with Lightning, and count the zeros."""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import autosparse


class Classifier(pl.LightningModule):
    """A module that trains the network it is given."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        """Return the loss of a batch."""
        inputs, labels = batch
        return nn.functional.cross_entropy(self.net(inputs), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


pl.seed_everything(0)
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
loader = DataLoader(TensorDataset(torch.randn(512, 1, 8, 8), torch.randint(0, 10, (512,))), batch_size=64)
masks = autosparse.prune(net, loader, sparsity=0.95, method="snip")

trainer = pl.Trainer(
    max_epochs=2,
    accelerator="auto",
    accumulate_grad_batches=2,
    gradient_clip_val=1.0,
    callbacks=[masks.callback()],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
)
trainer.fit(Classifier(net), loader)

zeros = sum(int((net.get_parameter(name) == 0).sum()) for name in masks)
print(f"{zeros:,} of {masks.total:,} weights are zero, {masks.total - masks.kept:,} are pruned")
