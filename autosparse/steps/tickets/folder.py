"""kept_ticket: a ticket from the folder of a run, and the reading of such folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autosparse.borders import expand
from autosparse.core.ticket import Ticket
from autosparse.core.weights import total_of
from autosparse.errors import StepError, UsageError
from autosparse.regular_file import LARGEST_MEMORY, LARGEST_NOTE, read_regular
from autosparse.steps._base import Context, operations
from autosparse.steps.tickets.orders import TicketResult
from autosparse.steps.workload import LINE, Facts, Workload
from autosparse.store import file_digest, load_tensors
from autosparse.store.sealed import unseal

ABOUT = "ticket.json"
PARTS = ("state", "order")
_FIELDS = {
    "model": dict, "shape": list, "classes": int, "seed": int, "total": int, "made_by": str, "sparsities": list,
    "sha256": dict,
}  # fmt: skip
_AGAIN = "copy it again from the run that left it: the `ticket` folder of a run"


def kept_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of copying a ticket."""
    size = 8 * options["ticket"]["total"]
    about = {"bytes": 2 * size}
    return Workload({}, {"step": 1, **about}, (about,), size + LINE, depends_on_network=False, runs_network=False)


@operations.register(result=TicketResult, cost=kept_cost, spec_paths={"ticket": "ticket.folder"})
def kept_ticket(context: Context, *, ticket: dict[str, Any]) -> None:
    """Load the ticket that `context.access` names; `ticket` is the description that its folder must match."""
    folder = context.access["ticket"]
    if read_ticket(folder) != ticket:
        raise StepError(f"ticket {folder} has changed since it was planned", "run again: the plan is compiled again")
    loaded = load_ticket(folder)
    named = {name: ticket[name] for name in _FIELDS if name != "sha256"}
    result = TicketResult(**{**named, "shape": tuple(ticket["shape"])})
    result.write(context.output, state=loaded.state, order=loaded.order)


def read_ticket(folder: str | Path) -> dict[str, Any]:
    """Describe a ticket by its content: its network, how it was found, and the sha256 of its tensors.

    Args:
        folder: Folder `ticket` of a finished run.

    Returns:
        Fields of `ticket.json`.

    Raises:
        UsageError: If there is no ticket in the folder, or a damaged one.
    """
    path = expand(folder)
    if not path.is_dir():
        problem = f"there is no folder {folder}" if not path.exists() else f"{folder} is not a folder"
        raise UsageError(problem, "a finished run leaves its ticket in `runs/NAME-N/ticket`")
    files = (ABOUT, *(f"{part}.safetensors" for part in PARTS))
    for name in files:
        if not (path / name).is_file():
            inside = (path / "ticket" / ABOUT).is_file()
            hint = f"did you mean `{folder}/ticket`?" if inside else "a finished run leaves one, `runs/NAME-N/ticket`"
            raise UsageError(f"{folder} has no {name}: it is not a ticket's folder", hint)
    try:
        about = unseal(read_regular(path / ABOUT, most=LARGEST_NOTE))
        for name, kind in _FIELDS.items():
            if not isinstance(about.get(name), kind) or isinstance(about.get(name), bool):
                raise ValueError(f"it has no valid `{name}`")
        digests = {part: file_digest(path / f"{part}.safetensors") for part in PARTS}
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} is damaged: {ABOUT}: {error}", _AGAIN) from None
    for part, digest in digests.items():
        if about["sha256"].get(part) != digest:
            raise UsageError(f"{folder} is damaged: {part}.safetensors is not what {ABOUT} describes", _AGAIN)
    return {name: about[name] for name in _FIELDS}


def load_ticket(folder: str | Path) -> Ticket:
    """Load the tensors of a ticket's folder. Raises UsageError for damaged ones."""
    about, path = read_ticket(folder), expand(folder)
    try:
        state, order = (load_tensors(read_regular(path / f"{part}.safetensors", most=LARGEST_MEMORY)) for part in PARTS)
        for name, part in order.items():
            if name not in state or state[name].shape != part.shape or not bool(part.isfinite().all()):
                raise ValueError(f"order.safetensors: `{name}` is not a weight of state.safetensors")
        if total_of(order) != about["total"] or not order:
            raise ValueError(f"order.safetensors: not {about['total']} weights")
        for name, part in state.items():
            if part.is_floating_point() and not bool(part.isfinite().all()):
                raise ValueError(f"state.safetensors: `{name}` is not finite")
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder} is damaged: {error}", _AGAIN) from error
    return Ticket(state, order, about["classes"])
