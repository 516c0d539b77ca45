"""Two hundred hostile specs from a compact table: fields and values that none of them accepts, and hostile texts."""

from __future__ import annotations

GOOD = "model: resnet8\ndataset: digits\n"

_ANYWHERE = (
    "[[[[[[[[1]]]]]]]]", "{? : 1}", "~nosuchuser/x", "'\\0'", '"\\uD800"', "2001-01-01T00:00:00Z", f"0x{'f' * 290}",
    f"-{'9' * 400}", "1e999", "-.inf", ".nan", "*alias", "&anchor x", "!!python/object/apply:os.system [id]",
    "{<<: {a: 1}}", "\u202e", "{name: [1]}", "[{}, {}]",
)  # fmt: skip
_FIELDS = (
    "budget", "method", "scorer", "seeds", "training.epochs", "training.lr", "irp.rounds", "irp.per_round",
    "target.memory", "compare",
)  # fmt: skip


def _nested(field: str, value: str) -> str:
    first, _, last = field.partition(".")
    return f"{first}: {{{last}: {value}}}\n" if last else f"{first}: {value}\n"


def _texts() -> dict[str, str]:
    deep = "[" * 5000
    bomb = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 10))
    return {
        "deep list": f"seeds: {deep}{']' * 5000}\n",
        "open list": f"seeds: {deep}\n",
        "deep mapping": f"training: {'{a: ' * 5000}1{'}' * 5000}\n",
        "deep block": "".join(f"{' ' * n}a:\n" for n in range(500)),
        "alias bomb": f"l0: &l0 [lol]\n{bomb}",
        "many keys": "".join(f"key{n}: 1\n" for n in range(2000)),
        "long key": f"{'k' * 100_000}: 1\n",
        "long value": f"method: {'v' * 100_000}\n",
        "long scalar": f"seeds: [{'1' * 100_000}]\n",
        "second document": "---\na: 1\n",
        "null character": "method: 'a\0b'\n",
        "tab": "training:\n\tlr: 1\n",
        "unclosed quote": "method: 'snip\n",
        "unclosed brace": "training: {lr: 1\n",
        "half a pair": 'method: "\\uD83D"\n',
        "huge escape": 'method: "\\UFFFFFFFF"\n',
        "complex key": "? [a, b]\n: 1\n",
        "directive": "%YAML 9.9\n---\na: 1\n",
        "repeated key": "method: snip\nmethod: random\n",
        "extends nothing": "extends: ''\n",
        "extends itself": "extends: hostile.yaml\n",
        "extends a list": "extends: [a, b]\n",
        "extends no user": "extends: ~nosuchuser/x.yaml\n",
        "extends a long name": f"extends: {'x' * 5000}.yaml\n",
        "extends a device": "extends: /dev/null/x\n",
        "extends null": 'extends: "a\\0b"\n',
        "store of no user": "store: ~nosuchuser/x\n",
        "store nowhere": "store: relative/path\n",
        "own file of no user": "irp: {model: '~nosuchuser/net.py:build'}\n",
        "study of a number": "study: 5\n",
        "study of nothing": "study: {'': [1]}\n",
        "study of a deep path": f"study: {{{'.'.join('a' * 300)}: [1]}}\n",
        "budget of nothing": "budget: []\n",
        "budget of two units": "budget: {parameters: 1, macs: 1}\n",
        "budget of an unknown unit": "budget: {weights: 5}\n",
        "budget of words": "budget: [half, most]\n",
        "methods of one name": "compare: [{name: a, criterion: snip}, {name: a, criterion: grasp}]\n",
    }


def hostile_specs() -> dict[str, str]:
    """Return name -> text of a spec that no reader may accept, or end on."""
    crossed = {f"{field} {value[:30]}": GOOD + _nested(field, value) for field in _FIELDS for value in _ANYWHERE}
    return crossed | {name: GOOD + text for name, text in _texts().items()}
