"""User code that misbehaves, at every point where a spec's network or dataset runs it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from tests.conftest import Ended
from tests.faults.commands import References
from tests.faults.judge import Verdict, parsed, problem_of
from tests.faults.kinds import Trial

_NETWORK = """\
import builtins, contextlib, os, sys, threading, time, warnings
import torch
from torch import nn

class Odd(Exception):
    def __str__(self): raise ValueError("no text")
    __repr__ = __str__

class Root(BaseException): pass

# AT IMPORT

class Net(nn.Module):
    def __init__(self, pixels, classes):
        super().__init__()
        self.hidden, self.head = nn.Linear(pixels, 8), nn.Linear(8, classes)

    def forward(self, images):
        x = images.flatten(1)
        # AT FORWARD
        return self.head(self.hidden(x).relu())

def build(input_shape, classes):
    channels, height, width = input_shape
    x = torch.zeros(2, channels, height, width)
    # AT BUILD
    return Net(channels * height * width, classes)
"""
_DATA = """\
import builtins, contextlib, os, sys, threading, time, warnings
import numpy
import torch

class Odd(Exception):
    def __str__(self): raise ValueError("no text")
    __repr__ = __str__

class Root(BaseException): pass

def load():
    labels = numpy.arange(60) % 3
    x = images = (numpy.zeros((60, 4, 4)) + (80 * labels)[:, None, None]).astype("uint8")
    images[:, 0, 0] = numpy.arange(60)
    # AT DATA
    return (images, labels), None
"""
_SPEC = """\
version: 1
model: "net.py:build"
dataset: "data.py:load"
budget: 0.5
method: snip
compare: [random]
controls: []
target: {device: cpu, threads: 1}
training: {epochs: 1, batch: 16, crop: 0, flip: false, precision: float32}
"""
_POINTS = ("IMPORT", "BUILD", "FORWARD", "DATA")
_RAISED = (
    "Exception('x')", "BaseException('x')", "Root('x')", "Odd()", "KeyboardInterrupt", "GeneratorExit", "SystemExit",
    "SystemExit('x')", "SystemExit(0)", "StopIteration", "StopAsyncIteration", "AssertionError", "KeyError('x')",
    "RecursionError('x')", "MemoryError('x')", "OSError(28, 'x')", "BrokenPipeError",
    "UnicodeEncodeError('a', 'b', 0, 1, 'c')", "ImportError('x')", "TimeoutError", "RuntimeError('x' * 10**6)",
    "RuntimeError('a\\nb\\nc')", "RuntimeError('\\x1b[2J')", "RuntimeError('\\ud800')", "RuntimeError('')",
    "ExceptionGroup('x', [ValueError('y')])", "UserWarning('x')", "InterruptedError(4, 'x')", "ConnectionResetError",
    "SyntaxError('x')", "torch.OutOfMemoryError('x')",
)  # fmt: skip
_DONE = (
    "print('x' * 10**6)", "sys.stderr.write('y' * 10**5)", "os.chdir('/')", "sys.stdout.close()",
    "sys.stderr.close()", "os.close(1)", "os.close(2)", "os.fork() or os._exit(0)",
    "torch.set_default_dtype(torch.float64)", "torch.set_default_device('meta')", "torch.manual_seed(5)",
    "torch.set_grad_enabled(False)", "exit()", "quit(3)", "os.environ.clear()", "sys.argv.clear()",
    "sys.modules.pop('torch', None)", "sys.setrecursionlimit(80)", "del builtins.print", "warnings.warn('x')",
    "warnings.simplefilter('error')", "threading.Thread(target=lambda: 1 / 0).start()", "sys.path.clear()",
    "sys.stdout = None", "torch.use_deterministic_algorithms(True)", "torch.set_num_threads(3)",
    "(lambda f: f(f))(lambda f: f(f))", "bytearray(10**13)", "int('9' * 5000)", "os.umask(0o777)",
    "contextlib.redirect_stdout(None).__enter__()",
)  # fmt: skip
_MUTE = ("os.close(2)", "sys.stderr.close()", "os.close(1)", "sys.stdout.close()")
"""Lines after which no message can be expected, or no document."""
_RETURNED = (
    "None", "5", "'x'", "[]", "()", "{}", "object()", "type", "torch.zeros(3)", "torch.zeros(0)", "x", "x[:0]",
    "x[..., 0]", "x.mul_(0)", "x.fill_(float('nan')), x", "nn.Linear(3, 3)", "nn.Linear", "nn.Sequential()",
    "nn.LazyLinear(3)", "lambda: 5", "torch.zeros(10**6, 10**6, device='meta')", "(None, None)", "((x, x), (x, x))",
    "((x, [1] * 60), None)", "((x, None), None)", "((x, labels - 1), None)", "((x, labels * 10**9), None)",
    "((x, labels + 0.5), None)", "((x * float('nan'), labels), None)", "((x.astype(object), labels), None)",
    "((x[:, :0], labels), None)", "((x[:3], labels), None)", "((iter(x), labels), None)",
)  # fmt: skip


def misbehaviour(known: References, random: Random) -> Iterator[Trial]:
    """Run a spec whose code raises, changes the process or returns another value: one line names file and line."""
    lines = [f"raise {error}" for error in _RAISED] + [*_DONE] + [f"return {value}" for value in _RETURNED]
    trials = [
        (line, point) for point in _POINTS for line in lines if point != "IMPORT" or not line.startswith("return")
    ]
    random.shuffle(trials)
    for line, point in trials:

        def judge(line: str = line, point: str = point) -> Verdict:
            return _judge(known, line, point)

        yield Trial(f"`{line}` at {point.lower()}", judge)


def _judge(known: References, line: str, point: str) -> Verdict:
    world = known.world
    world.restore("fresh")
    for name, code in (("net.py", _NETWORK), ("data.py", _DATA)):
        (world.folder / name).write_text(code.replace(f"# AT {point}", line))
    (world.folder / "own.yaml").write_text(_SPEC)
    for command in ("plan", "run"):
        ended = world.run(command, "own.yaml", "--json")
        if problem := _problem(ended, mute=line in _MUTE):
            return Verdict.of(ended, f"{command}: {problem}")
    return Verdict.of(ended)


def _problem(ended: Ended, *, mute: bool) -> str:
    if mute or ended.code == 130:  # own code may raise KeyboardInterrupt
        return "" if ended.code in (0, 1, 2, 3, 5, 130) else f"exit code {ended.code}"
    if problem := problem_of(ended, (1, 2, 3, 5)):
        return problem
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    if ended.code and not any(name in line for name in ("net.py", "data.py") for line in errors):
        return f"names no file of the user: {errors[:1]}"
    return "no JSON document" if ended.code == 0 and parsed(ended.out) is None else ""
