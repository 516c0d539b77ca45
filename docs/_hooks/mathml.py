"""Hook of the site: formulas in `$$...$$` and `$...$` become MathML, which browsers render without scripts."""

from __future__ import annotations

import re
from html import escape
from typing import Any

_SYMBOLS = {
    "cdot": "⋅", "eta": "η", "theta": "θ", "phi": "ϕ", "sim": "∼", "partial": "∂", "prod": "∏", "sum": "∑",
    "ge": "≥", "le": "≤", "in": "∈", "times": "×", "odot": "⊙", "Delta": "Δ", "varepsilon": "ε",
}  # fmt: skip
_LETTERS = {"eta", "theta", "phi", "Delta", "varepsilon"}
_SPACES = {",": "0.17em", ";": "0.28em", "quad": "1em", "qquad": "2em"}
_TOKEN = re.compile(r"\\([A-Za-z]+|.)|([0-9]+(?:\.[0-9]+)?)|(\S)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\w$`])\$([^$\n`]+)\$(?![\w$`])", re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the formulas of a page, except in blocks of code."""
    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_FORMULA.sub(_replaced, markdown[end : fence.start()]), fence.group()]
        end = fence.end()
    return "".join([*parts, _FORMULA.sub(_replaced, markdown[end:])])


def mathml(tex: str, *, block: bool = False) -> str:
    """Return a formula as MathML. Raises ValueError for TeX outside the subset that the pages use."""
    tokens = _tokens(tex)
    inner = _row(tokens)
    if tokens:
        raise ValueError(f"unbalanced `}}` in the formula {tex}")
    return f'<math display="{"block" if block else "inline"}"><mrow>{inner}</mrow></math>'


def _replaced(match: re.Match[str]) -> str:
    return mathml(match[1], block=True) if match[1] else mathml(match[2])


def _tokens(tex: str) -> list[str]:
    # `text` and its group are one token, which keeps its spaces; the first token is the last of the list.
    tokens = []
    for piece in re.split(r"(\\text\{[^}]*\})", tex):
        if piece.startswith("\\text{"):
            tokens.append(piece)
        else:
            tokens += [match.group() for match in _TOKEN.finditer(piece)]
    return tokens[::-1]


def _row(tokens: list[str]) -> str:
    parts: list[str] = []
    while tokens and tokens[-1] != "}":
        token = tokens.pop()
        if token in ("_", "^"):
            raise ValueError("a script without a base")
        parts.append(_scripted(_atom(token, tokens), tokens))
    return "".join(parts)


def _scripted(base: str, tokens: list[str]) -> str:
    scripts = {}
    while tokens and tokens[-1] in ("_", "^"):
        sign = tokens.pop()
        scripts[sign] = _group(tokens)
    if not scripts:
        return base
    kind = "under" if any(symbol in base for symbol in "∑∏") else "sub"
    if len(scripts) == 2:
        tag = "munderover" if kind == "under" else "msubsup"
        return f"<{tag}>{base}{scripts['_']}{scripts['^']}</{tag}>"
    if "_" in scripts:
        return f"<m{kind}>{base}{scripts['_']}</m{kind}>"
    return f"<msup>{base}{scripts['^']}</msup>"


def _group(tokens: list[str]) -> str:
    if not tokens:
        raise ValueError("a formula ends within a command")
    token = tokens.pop()
    if token != "{":
        return _atom(token, tokens)
    inner = _row(tokens)
    if not tokens:
        raise ValueError("unbalanced `{` in a formula")
    tokens.pop()
    return f"<mrow>{inner}</mrow>"


def _atom(token: str, tokens: list[str]) -> str:
    if token == "{":
        tokens.append(token)
        return _group(tokens)
    if token.startswith("\\"):
        return _command(token[1:], tokens)
    if token[0].isdigit():
        return f"<mn>{token}</mn>"
    if token.isalpha():
        return f"<mi>{token}</mi>"
    stretch = ' stretchy="false" lspace="0" rspace="0"' if token in "()[]|" else ""
    return f"<mo{stretch}>{escape('−' if token == '-' else token)}</mo>"


def _command(name: str, tokens: list[str]) -> str:
    if name.startswith("text{"):
        return f"<mtext>{escape(name[5:-1])}</mtext>"
    if name == "frac":
        return f"<mfrac>{_group(tokens)}{_group(tokens)}</mfrac>"
    if name == "mathbf":
        return f'<mstyle style="font-weight: bold">{_group(tokens)}</mstyle>'
    if name in ("left", "right", "Big"):
        return f'<mo stretchy="true" lspace="0" rspace="0">{escape(tokens.pop())}</mo>'
    if name in _SPACES:
        return f'<mspace width="{_SPACES[name]}"/>'
    if name not in _SYMBOLS:
        raise ValueError(f"the site renders no `\\{name}`")
    tag = "mi" if name in _LETTERS else "mo"
    return f"<{tag}>{_SYMBOLS[name]}</{tag}>"
