"""A module of Lightning that other processes can import."""

from __future__ import annotations

from lightning.pytorch import LightningModule

from tests.integration.api.steps import Steps


class Module(Steps, LightningModule):
    """The steps as a module."""
