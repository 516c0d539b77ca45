"""shuffle: a method's masks with their places permuted within each layer, the control of what its quotas are worth."""

from __future__ import annotations

from autosparse.core.graph.connectivity import dissect
from autosparse.core.sanity import shuffle as permute
from autosparse.core.weights import total_of
from autosparse.steps import operations
from autosparse.steps.evidence import gather_evidence
from autosparse.steps.mask import describe_masks
from autosparse.steps.work import Work, generator


@operations.register(version=1)
def shuffle(work: Work, *, seed: int) -> None:
    """The masks of input `mask`, the same number in every layer at other places."""
    evidence = gather_evidence(work, seed=seed)
    before = {name: mask.to(work.device) for name, mask in work.inputs["mask"].tensors("masks").items()}
    masks = permute(before, generator("shuffle", seed))
    work.output.write_tensors("masks", masks)
    work.output.write_json("result", {"total": total_of(masks), **describe_masks(dissect(evidence.masked(masks)))})
