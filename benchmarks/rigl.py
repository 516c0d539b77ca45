"""Mask updates against the authors' code of RigL and SET: the same masks for twenty updates of a small network.

`python benchmarks/rigl.py write FILE` trains a LeNet on digits by `drop_and_grow` (gradient, then random growth) and
writes the weights, gradients, random numbers and masks of every update to FILE (.npz). It needs torch.

`python benchmarks/rigl.py compare FILE AUTHORS` gives these weights, gradients and numbers to the optimizers of a
checkout of google-research/rigl, AUTHORS. They keep their own masks. The agreement is appended to
`results/agreement.jsonl`. It needs tensorflow and six, and may run in another environment.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy

UPDATES, EVERY, SHARE = 20, 15, 0.3
RULES = {"RigL": {"grow": "gradient"}, "SET": {"grow": "random", "decay": "constant"}}
AUTHORS = "google-research/rigl d39fc7d"


def write(file: str) -> None:
    """Record twenty updates of each rule."""
    import torch
    from records import machine

    from autosparse import prune
    from autosparse.core.images import Images
    from autosparse.core.training.loop import train_sparse
    from autosparse.core.training.recipe import Recipe
    from autosparse.core.training.update_rules import update_rules
    from autosparse.core.training.updates import MaskUpdates, Moment
    from autosparse.models import build_model

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (512, 28, 28, 1), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (512,), generator=generator)
    images = Images(pixels, labels, torch.full((1,), 0.5), torch.full((1,), 0.25))
    steps = UPDATES * EVERY
    recipe = Recipe(epochs=steps / 16, batch=32, precision="float32")
    recorded: dict[str, Any] = {"machine": numpy.array(machine(1))}
    for rule, options in RULES.items():
        model = build_model("lenet", {}, (1, 28, 28), 10)
        masks = prune(model, sparsity=0.9, method={"criterion": "random", "allocation": "erk"})
        drawn = torch.Generator().manual_seed(7)
        again = torch.Generator().manual_seed(7)
        updates = update_rules["drop_and_grow"].function(None, drawn, share=SHARE, every=EVERY, end=1.0, **options)
        number = 0

        def change(moment: Moment, rule: str = rule, updates: Any = updates, again: Any = again) -> Any:
            nonlocal number
            made = updates.change(moment)
            for name, mask in moment.masks.items():
                numbers = torch.rand(mask.shape, generator=again)  # those that the rule draws
                values = {"weight": moment.weights[name], "gradient": moment.gradients[name], "drawn": numbers}
                for kind, tensor in {**values, "before": mask, "after": made[name]}.items():
                    recorded[f"{rule}/{number}/{name}/{kind}"] = tensor.detach().numpy().copy()
            recorded[f"{rule}/{number}/step"] = numpy.array([moment.step, moment.steps])
            number += 1
            return made

        watched = MaskUpdates(updates.due, change, updates.replaces_step)
        result = train_sparse(model, images, recipe, torch.Generator().manual_seed(1), watched, masks=dict(masks))
        print(f"{rule}: {len(result.changes)} updates, {sum(change.grown for change in result.changes)} weights grown")
    numpy.savez_compressed(file, **recorded)


def compare(file: str, authors: str) -> None:
    """Update the same masks by the authors' code, and append the number of equal ones."""
    recorded = numpy.load(file)
    base = _load(Path(authors) / "rigl" / "sparse_optimizers_base.py")
    kinds = {"RigL": base.SparseRigLOptimizerBase, "SET": base.SparseSETOptimizerBase}
    for rule, kind in kinds.items():
        begin = f"{rule}/0/"
        names = sorted(key[len(begin) : -len("/before")] for key in recorded.files if _begins(key, begin))
        masks = {name: recorded[f"{rule}/0/{name}/before"] for name in names}
        same = weights = 0
        for number in range(UPDATES):
            step, steps = map(int, recorded[f"{rule}/{number}/step"])
            for name in names:
                at = f"{rule}/{number}/{name}"
                parts = {part: recorded[f"{at}/{part}"] for part in ("weight", "gradient", "drawn")}
                masks[name] = _updated(kind, rule, masks[name], parts, step, steps)
                same += int((masks[name] == recorded[f"{at}/after"]).sum())
                weights += masks[name].size
        row = {
            "measure": "agreement", "network": "lenet", "method": rule, "quantity": f"masks of {UPDATES} updates",
            "float32": same / weights, "weights": weights, "compared_with": AUTHORS,
            "command": "python benchmarks/rigl.py compare FILE AUTHORS", "machine": str(recorded["machine"]),
            "date": datetime.now(UTC).date().isoformat(),
        }  # fmt: skip
        with (Path(__file__).parent / "results" / "agreement.jsonl").open("a", encoding="utf-8") as rows:
            rows.write(json.dumps(row) + "\n")
        print(f"{rule}: {same} of {weights} mask values of {UPDATES} updates are equal")


def _begins(key: str, begin: str) -> bool:
    return key.startswith(begin) and key.endswith("/before")


def _updated(kind: Any, rule: str, mask: Any, parts: dict[str, Any], step: int, steps: int) -> Any:
    # One call of the authors' update, without the noise on the score of removal.
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        weights, masks = (
            tf.compat.v1.get_variable(name, initializer=values.astype("float32"), use_resource=False)
            for name, values in (("weights", parts["weight"]), ("mask", mask))
        )

        class Bare(kind):  # type: ignore[misc]
            """The authors' optimizer without an optimizer inside."""

            def _random_normal(self, shape: Any, **about: Any) -> Any:
                return tf.zeros(shape)

            def _random_uniform(self, shape: Any, **about: Any) -> Any:
                return tf.constant(parts["drawn"])

            def reset_momentum(self, weights: Any, new_connections: Any) -> Any:
                return tf.no_op()

        inside = types.SimpleNamespace(get_slot_names=list)
        decay = "constant" if "decay" in RULES[rule] else "cosine"
        optimizer = Bare(inside, 0, steps, EVERY, drop_fraction=SHARE, drop_fraction_anneal=decay)
        optimizer._weight2masked_grads = {weights.name: tf.constant(parts["gradient"])}
        optimizer._global_step = tf.constant(step)
        optimizer.drop_fraction = optimizer.get_drop_fraction(tf.constant(step), tf.constant(True))
        made = optimizer.generic_mask_update(masks, weights)
        session.run(tf.compat.v1.global_variables_initializer())
        return session.run(made).astype(bool)


def _load(path: Path) -> Any:
    # The authors' module, with the two names that later releases of tensorflow moved.
    import tensorflow as tf

    decay = types.ModuleType("tensorflow.python.training.learning_rate_decay")
    decay.cosine_decay = tf.compat.v1.train.cosine_decay  # type: ignore[attr-defined]
    sys.modules[decay.__name__] = decay
    import tensorflow.python.training as training
    from tensorflow.python.ops import control_flow_ops

    training.learning_rate_decay = decay
    control_flow_ops.Assert = tf.debugging.Assert
    spec = importlib.util.spec_from_file_location("authors", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMANDS: dict[str, Callable[..., None]] = {"write": write, "compare": compare}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
