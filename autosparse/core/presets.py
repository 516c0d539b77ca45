"""The published methods as points of the choices: criterion, allocation, selection, schedule, updates."""

from __future__ import annotations

from typing import Any, TypeAlias

Method: TypeAlias = "dict[str, Any]"


def _method(criterion: Any, allocation: str, selection: str, schedule: Any = "one_shot") -> Method:
    return {"criterion": criterion, "allocation": allocation, "selection": selection, "schedule": schedule}


def _sparse_training(allocation: str, updates: Any, criterion: str = "random") -> Method:
    return {**_method(criterion, allocation, "top"), "updates": updates}


_SNIP = {"name": "snip", "images": 128}  # a round sees one batch of the authors' training
_FROZEN = {"name": "search", "train_weights": False, "parts": 1}
_FREE = {**_FROZEN, "quotas": "free"}


PRESETS: dict[str, tuple[str, Method]] = {
    "learned": ("predictions of a trained scorer (AutoSparse, 2024)", _method("learned", "global", "tuned")),
    "learned_rounds": (
        "predictions of a trained scorer, recomputed in each of 12 pruning rounds; for scorer `hazard`",
        _method("learned", "global", "top", {"name": "exponential", "rounds": 12}),
    ),
    "irp": (
        "survivors of iterative rewind pruning of the same network: the oracle (AutoSparse, 2024)",
        _method("irp", "global", "top"),
    ),
    "random": (
        "random weights, the same sparsity in every layer (Gale et al. 2019)",
        _method("random", "uniform", "top"),
    ),
    "er": ("random weights, Erdős-Rényi quotas (Mocanu et al. 2018)", _method("random", "er", "top")),
    "erk": ("random weights, Erdős-Rényi kernel quotas (Evci et al. 2020)", _method("random", "erk", "top")),
    "igq": ("random weights, ideal gas quotas (Vysogorets & Kempe 2023)", _method("random", "igq", "top")),
    "width": (
        "the dense network at a smaller width, with as many weights",
        {**_method("random", "uniform", "top"), "unit": {"name": "channel", "rescale": True}},
    ),
    "magnitude": ("largest initial weights (Frankle et al. 2021)", _method("magnitude", "global", "top")),
    "snip": ("connection sensitivity (Lee et al. 2019)", _method("snip", "global", "top")),
    "iterative_snip": (
        "connection sensitivity, recomputed in each of 100 rounds (Verdenius et al. 2020; de Jorge et al. 2021)",
        _method(_SNIP, "global", "top", {"name": "exponential", "rounds": 100}),
    ),
    "force": (
        "iterative SNIP with regrowth of pruned weights (de Jorge et al. 2021)",
        _method(_SNIP, "global", "top", {"name": "exponential", "rounds": 100, "regrow": True}),
    ),
    "grasp": ("gradient signal preservation (Wang et al. 2020)", _method("grasp", "global", "top")),
    "synflow": (
        "synaptic flow, data-free (Tanaka et al. 2020)",
        _method("synflow", "global", "top", {"name": "exponential", "rounds": 100}),
    ),
    "prospr": ("meta-gradients through the first steps (Alizadeh et al. 2022)", _method("prospr", "global", "top")),
    "fisher": (
        "second-order sensitivity by the empirical Fisher diagonal (Gollini Navarrete et al. 2025)",
        _method("fisher", "global", "top"),
    ),
    "hutchinson": (
        "second-order sensitivity by Hutchinson's estimate of the Hessian diagonal (Gollini Navarrete et al. 2025)",
        _method("hutchinson", "global", "top"),
    ),
    "ntk_sap": (
        "effect on the trace of the neural tangent kernel, data-free (Wang et al. 2023)",
        _method("ntk_sap", "global", "top", {"name": "exponential", "rounds": 20}),
    ),
    "px": (
        "paths active on training images, by a bound on the trace of the neural tangent kernel (Iurada et al. 2024)",
        _method("px", "global", "top", {"name": "exponential", "rounds": 100}),
    ),
    "mask_search": (
        "scores learned with the weights in 400 steps, Erdős-Rényi kernel quotas",
        _method("magnitude", "erk", "top", "search"),
    ),
    "edge_popup": (
        "scores learned under frozen weights (Ramanujan et al. 2020; here with Adam)",
        _method("random", "uniform", "top", {**_FROZEN, "anneal": 0.0}),
    ),
    "gem_miner": (
        "scores learned under frozen weights while the mask shrinks, one threshold for all layers (Sreenivasan et al. "
        "2022; here with Adam, 400 steps, and cubic shrinking)",
        _method("random", "global", "top", _FREE),
    ),
    "cts": (
        "gem_miner with masks drawn from the concrete distribution (Arora & Teuscher 2025; here with exact counts, "
        "without gradient balancing)",
        _method("random", "global", "top", {**_FREE, "relaxation": "concrete"}),
    ),
    "ticket": (
        "initial weights and their masks found on other images, in ideal gas quotas (Frankle & Carbin 2019)",
        _method("order", "igq", "top"),
    ),
    "npb": (
        "node-path balance: most channels, then paths, in Erdős-Rényi kernel quotas (Pham et al. 2023)",
        _method("random", "erk", "paths"),
    ),
    "rigl": (
        "dynamic sparse training: drops the smallest weights, grows those of the largest gradients (Evci et al. 2020)",
        _sparse_training("erk", "drop_and_grow"),
    ),
    "srigl": (
        "rigl with constant fan-in: every output of a layer keeps as many weights (Lasby et al. 2024)",
        {
            **_sparse_training("erk", {"name": "drop_and_grow", "within": "output"}),
            "selection": "balanced",
        },
    ),
    "set": (
        "dynamic sparse training with random growth (Mocanu et al. 2018)",
        _sparse_training("er", {"name": "drop_and_grow", "grow": "random", "decay": "constant"}),
    ),
    "pwmpr": (
        "growth during training, drawn by the products of weights on paths (Yao & Dovrolis 2025; here to the budget)",
        _sparse_training("erk", "path_growth"),
    ),
    "gmp": (
        "gradual magnitude pruning during training, one threshold for all layers (Zhu & Gupta 2017)",
        _sparse_training("global", "gradual", "magnitude"),
    ),
    "ac_dc": (
        "alternating sparse and dense phases of training (Peste et al. 2021)",
        _sparse_training("global", "alternating", "magnitude"),
    ),
    "lr_rewinding": (
        "magnitude pruning after each of six trainings, each from the trained weights (Renda et al. 2020)",
        _sparse_training("global", "iterative", "magnitude"),
    ),
}
"""Preset -> (help, method)."""

CHANNEL_DEFAULT: Method = {"criterion": "snip"}
"""The method that `unit: channel` stands for without other choices."""

CONTROLS: dict[str, tuple[str, Method]] = {
    "shuffle": ("same layer quotas, filled at random", {"selection": "shuffle"}),
    "layer_mean": (
        "layer quotas from mean scores, filled at random",
        {"allocation": "layer_mean", "selection": "shuffle"},
    ),
}
"""Controls that a method must beat to have learned more than quotas: control -> (help, replaced choices)."""

OTHER_WEIGHTS = "other_weights"
OF_TICKETS: dict[str, tuple[str, Method]] = {
    OTHER_WEIGHTS: ("a ticket's masks on a network that starts from other initial weights", {}),
}
"""Controls of a ticket, whose masks belong to its initial weights."""

_RANDOM = {"criterion": "random", "allocation": "uniform", "selection": "top", "schedule": "one_shot"}
SMALLER: dict[str, tuple[str, Method]] = {
    "width": (
        "the network at a smaller width: the same share of every group of channels, initialized for that width",
        {**_RANDOM, "unit": {"name": "channel", "rescale": True}},
    ),
    "random": ("random channels, the same share of every group", _RANDOM),
}
"""Controls of a method that prunes whole channels, which a smaller network needs no method for."""
