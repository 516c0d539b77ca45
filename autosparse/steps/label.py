"""label: how many rounds each weight survived, and examples for scorers to learn from."""

from __future__ import annotations

from autosparse.core.describe import describe
from autosparse.core.evidence import Evidence
from autosparse.core.labels import survival
from autosparse.lazy import torch
from autosparse.steps import operations
from autosparse.steps.evidence import gather_evidence
from autosparse.steps.work import Work, generator


@operations.register(version=1)
def label(work: Work, *, images: int, examples: int, features: dict[str, int], seed: int) -> None:
    """Labels of one IRP and the features of up to `examples` weights of each layer.

    `features` names the feature groups that scorers will look at, and their versions, so that a changed group makes new
    examples.
    """
    rounds = [artifact.tensors("masks") for artifact in work.roles("round").values()]
    labels = survival(rounds)
    evidence: Evidence = gather_evidence(work, seed=seed)
    layers = [layer.name for layer in evidence.layers]
    random = generator("examples", seed)
    kept: dict[str, torch.Tensor] = {}
    for described in describe(evidence, features, images):
        for name, values in described.values.items():
            pick = torch.randperm(len(values), generator=random)[:examples].sort().values
            kept[f"{name}|features"] = values.detach().cpu()[pick]
            kept[f"{name}|share"] = labels[name].flatten()[pick].float() / len(rounds)
    work.output.write_tensors("labels", labels)
    work.output.write_tensors("examples", kept)
    bins = torch.cat([part.flatten() for part in labels.values()]).long().bincount(minlength=len(rounds) + 1)
    work.output.write_json("result", {"columns": list(described.columns), "layers": layers, "survivors": bins.tolist()})
