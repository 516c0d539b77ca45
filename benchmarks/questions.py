"""Questions of the benchmark page: each gives an answer and a table computed from rows of results."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cells import Difference, cells, differences, mean_at, of_method, spread
from channels import PEER, gains, ranked
from plots import NAMES
from records import Row, latest, read, select

ONE_SHOT = ("igq", "erk", "er", "snip", "synflow", "grasp", "npb", "prospr", "force", "iterative_snip")
LABELS = {
    "dense": "dense network", "irp": "IRP", "snip": "SNIP", "synflow": "SynFlow", "igq": "IGQ", "erk": "ERK",
    "learned": "learned quotas", "learned@50": "search 50 %, learned quotas", "igq+50": "IGQ, trained 50 % longer",
    "search_igq@50": "search 50 %, IGQ", "search_erk@50": "search 50 %, ERK", "irp_quotas": "IRP's quotas",
    "search_igq@150": "search 150 %, IGQ", "learned@600": "search 600 %, learned quotas", "mask_search": "mask search",
}  # fmt: skip
TARGETS = [("vgg", 0.9), ("vgg", 0.98), ("vgg", 0.99), ("resnet20", 0.9), ("resnet20", 0.98), ("resnet20", 0.99),
           ("vgg_last_five", 0.98)]  # fmt: skip
OTHER_CLASSES = "Other classes: the last five of CIFAR-10; the scorer learned from the first five."


@dataclass(frozen=True)
class Question:
    """A question, its answer in one sentence, a table, its source rows and its plots."""

    title: str
    answer: str
    columns: list[str]
    table: list[list[str]]
    sources: list[Row]
    plots: tuple[str, ...] = ()


def accuracy() -> Question:
    """Compare methods by accuracy and cost."""
    rows = {network: [row for row in cells() if row["network"] == network] for network in ("vgg", "resnet20")}
    costs = {"dense": "–", "learned@600": "6", "irp": "6", "search_igq@150": "1.5", "search_igq@50": "0.5", "igq": "0",
             "erk": "0"}  # fmt: skip
    targets = [("vgg", 0.98), ("vgg", 0.99), ("resnet20", 0.98), ("resnet20", 0.99)]
    table = [
        [LABELS[method], cost, *(_accuracy(rows[n], method, 0.0 if method == "dense" else s) for n, s in targets)]
        for method, cost in costs.items()
    ]
    vgg = rows["vgg"]
    best = max(ONE_SHOT, key=lambda name: _validation(vgg, name, 0.98))
    at = {name: mean_at(vgg, name, 0.98) for name in ("search_igq@50", "irp", best)}
    answer = (
        f"A mask search of half a dense training, counted in multiply-adds, has {at['search_igq@50']:.1f} % on the VGG "
        f"at 0.98; the best one-shot baseline without a scorer ({LABELS[best]}) has {at[best]:.1f} %, and IRP, at "
        f"twelve times the cost, {at['irp']:.1f} %."
    )
    names = {"vgg": "VGG", "resnet20": "ResNet-20"}
    titles = (f"{names[network]} {sparsity}" for network, sparsity in targets)
    columns = ["method", "cost in dense trainings", *titles]
    sources = _used(rows, [*costs], [("vgg", 0.0), ("resnet20", 0.0), *targets])
    figures = ("accuracy_against_cost.svg", "plots/methods.svg")
    return Question("Which method is most accurate for its cost?", answer, columns, table, sources, figures)


def choice_of_weights() -> Question:
    """Compare masks with their own quotas, filled at random."""
    checks = {"shuffle": "shuffled within layers", "reinitialize": "other initial weights", "invert": "lowest scores",
              "random_labels": "permuted labels"}  # fmt: skip
    by_method = {row["method"]: row for row in select(read("sanity"), network="vgg", sparsity=0.98)}
    rows = [by_method[method] for method in ("irp", "mask_search", "snip", "synflow")]
    table, gains = [], {}
    for row in rows:
        values = {check["check"]: check["test_accuracy"] for check in row["checks"]}
        gains[row["method"]] = row["test_accuracy"] - values["shuffle"]
        parts = f" ({row['parts']} microbatch)" if "parts" in row else ""
        label = f"{LABELS[row['method']]}{parts}, {NAMES[row['network']]}"
        table.append([label, f"{row['test_accuracy']:.1f}", *(_number(values[check]) for check in checks)])
    scored = {row["method"]: row["test_accuracy"] for row in select(read("resnet20"), sparsity=0.98)}
    label, shuffled = "learned scorer, top weights, ResNet-20 (10,000 images, 10 epochs)", scored["learned.shuffle"]
    table.append([label, f"{scored['learned']:.1f}", f"{shuffled:.1f}", "–", "–", "–"])
    answer = (
        f"IRP and the mask search do, by {gains['irp']:.1f} and {gains['mask_search']:.1f} points; SNIP, SynFlow and "
        f"the weights that a learned scorer ranks highest do not (sparsity 0.98, one seed)."
    )
    sources = [*rows, *select(read("resnet20"), sparsity=0.98)]
    columns = ["method", "unaltered", *checks.values()]
    return Question("Do masks beat their own layer quotas, filled at random?", answer, columns, table, sources)


def quotas() -> Question:
    """Compare learned quotas with fixed ones on networks that the scorer never saw."""
    gain = _difference("vgg", "learned", "igq", 0.98)
    agreement = {(row["learned_from"], row["network"]): row["percent"] for row in read("quotas")}
    answer = (
        f"Its quotas do between networks that learn well (agreement with IRP's: {agreement['resnet20', 'vgg']:.0f} % "
        f"on the VGG, IGQ {agreement['nothing: igq', 'vgg']:.0f} %); a poor source does harm (ResNet-8 and MobileNet: "
        f"{agreement['resnet8 and mobilenet', 'vgg']:.0f} %). Their accuracy is level with IGQ: {gain} points on the "
        f"VGG at 0.98 ({_p(gain)}). {OTHER_CLASSES}"
    )
    table, sources = _transfer(["learned", "igq", "erk", "irp_quotas"])
    columns = ["quotas, filled at random", *_target_names()]
    title = "Does a scorer transfer to a network that it never saw?"
    return Question(title, answer, columns, table, [*sources, *read("quotas")])


def searches() -> Question:
    """Compare searches in learned and fixed quotas, and longer training."""
    gain = _difference("vgg", "learned@50", "search_igq@50", 0.98)
    longer = _difference("vgg", "learned@50", "igq+50", 0.98)
    answer = (
        f"Yes, and it needs no scorer: learned quotas differ from IGQ by {gain} points on the VGG at 0.98 "
        f"({_p(gain)}); the search is {longer} points above IGQ trained as much longer ({_p(longer)}). {OTHER_CLASSES}"
    )
    table, sources = _transfer(["search_igq@50", "search_erk@50", "learned@50", "igq+50"])
    columns = ["method", *_target_names()]
    figures = ("plots/transfer.svg",)
    return Question("Does a mask search transfer?", answer, columns, table, sources, figures)


def training() -> Question:
    """Compare training with a standard PyTorch loop."""
    rows = select(read("training"), measure="throughput")
    rows = latest(({**row, "processor": _processor(row)} for row in rows), "network", "precision", "processor")
    epyc = select(rows, processor="AMD EPYC")
    xeon = select(rows, processor="Intel Xeon", network="resnet20", precision="float32")
    kernels = select(read("training"), measure="sparse kernels", network="resnet20", threads=1, sparsity=0.98)[-1:]
    shown = [row for row in epyc if row["network"] == "resnet20" or row["precision"] == "bfloat16"]
    table = [
        [f"{NAMES[row['network']]}, {row['precision']}, {row['processor']}", f"{row['standard_images_per_second']:,}",
         f"{row['images_per_second']:,}", f"{row['speedup']:.2f}×", f"{100 * row['share_of_matrix_product']:.0f} %"]
        for row in [*shown, *xeon]
    ]  # fmt: skip
    table += [
        [f"{NAMES[row['network']]}, sparse kernels, sparsity 0.98, 1 thread",
         f"{row['standard_images_per_second']:,}", f"{row['sparse_images_per_second']:,}",
         f"{row['over_standard']:.2f}×", "–"]
        for row in kernels
    ]  # fmt: skip
    best = select(epyc, precision="bfloat16")
    gains = " and ".join(f"{row['speedup']:.1f}" for row in best)
    loops = [spread(_seeds(loop), ".2f", ".2f") for loop in ("standard loop", "autosparse, bfloat16")]
    answer = (
        f"ResNet-20 and ResNet-18 train {gains} times as fast on a CPU with fast bfloat16, at equal accuracy "
        f"(ResNet-20, 10,000 images: {loops[1]} against {loops[0]}); torch.compile adds nothing there."
    )
    columns = ["network", "standard loop, images/s", "autosparse, images/s", "speed-up", "share of matrix product"]
    title = "How fast is training against a standard PyTorch loop?"
    others = [row for row in read("training") if row["measure"] in ("accuracy", "compiled")]
    sources = [*shown, *xeon, *kernels, *others]
    return Question(title, answer, columns, table, sources, ("plots/training.svg",))


def overhead() -> Question:
    """Report the cost of autosparse itself."""
    row = read("overhead")[-1]
    answer = (
        f"{row['rest_milliseconds_per_step']:.0f} ms a step, {100 * row['rest_share']:.1f} % of the digits run "
        f"({row['steps']} steps); a second run with nothing to do takes {row['rerun_seconds']:.1f} s."
    )
    columns = ["total", "steps", "imports", "first probe of the machine", "plan, store, report", "second run"]
    names = ("seconds", "step_seconds", "import_seconds", "probe_seconds", "rest_seconds", "rerun_seconds")
    table = [[f"{row[name]:.1f} s" for name in names]]
    return Question("What does autosparse itself cost?", answer, columns, table, [row])


def prediction() -> Question:
    """Compare predicted with actual time and memory."""
    table, ratios, sources = [], {}, []
    rows = read("prediction")
    for spec in dict.fromkeys(row["spec"] for row in rows):
        for kind, count in (("after calibration", 3), ("after one run", 1)):
            same = select(rows, spec=spec, kind=kind)[-count:]
            first, sources = same[0], [*sources, *same]
            name = f"{spec}, reduced" if "dataset.images_per_class=100" in first["overrides"] else spec
            predicted = first["predicted"]
            seconds = statistics.median(row["actual"]["seconds"] for row in same)
            peak = statistics.median(row["actual"]["peak_bytes"] for row in same)
            ratios.setdefault(kind, []).append(predicted["seconds"] / seconds)
            table.append([
                f"{name}, {kind}", f"{predicted['seconds']:.0f} s", f"{seconds:.0f} s", f"{ratios[kind][-1]:.2f}",
                f"{predicted['peak_bytes'] / 2**20:,.0f} MiB", f"{peak / 2**20:,.0f} MiB",
                f"{predicted['peak_bytes'] / peak:.2f}",
            ])  # fmt: skip
    texts = [" and ".join(f"{ratio:.2f}" for ratio in ratios[kind]) for kind in ratios]
    answer = f"Predicted over actual time is {texts[0]} after calibration, {texts[1]} after one run."
    columns = ["spec", "predicted", "actual, median", "ratio", "predicted peak", "actual peak", "ratio"]
    return Question("How well do plans predict?", answer, columns, table, sources, ("plots/prediction.svg",))


def exported() -> Question:
    """Compare exported models with dense PyTorch."""
    rows = select(read("emission"), measure="exported model", network="resnet18", sparsity=0.99)
    rows = latest(rows, "method", "format")
    by = {(row["method"], row["format"]): row for row in rows}
    table = [
        [form] + [
            "–" if by[method, form][name] is None else f"{by[method, form][name]:.{1 if name == 'smaller' else 2}f}×"
            for method in ("snip", "learned") for name in ("smaller", "speedup_1", "speedup_32")
        ]
        for form in ("compact", "shrunk", "onnx", "sparse")
    ]  # fmt: skip
    low, high = sorted(by[method, "sparse"]["speedup_1"] for method in ("snip", "learned"))
    perceptron = select(read("emission"), measure="perceptron", units=4096, format="sparse")[0]
    answer = (
        f"Format `sparse` is smaller and {low:.1f} to {high:.1f} times as fast as dense PyTorch (ResNet-18 at 0.99, "
        f"one image; a perceptron of 4,096 units: {perceptron['speedup_1']:.0f} times); zeros alone gain only bytes."
    )
    if any("runtime" not in row for row in by.values()):
        answer += " The dense network ran in PyTorch: speed-ups of `onnx` include onnxruntime's gain over it."
    columns = ["format"] + [f"{masks}: {name}" for masks in ("SNIP", "learned quotas")
                            for name in ("smaller", "1 image", "32 images")]  # fmt: skip
    figures = ("plots/exported.svg",)
    return Question("What do exported models gain?", answer, columns, table, [*rows, perceptron], figures)


def scale() -> Question:
    """Report costs of large networks, large plans and several machines."""
    snip = select(read("scale"), criterion="snip")[-1]
    growth = latest(select(read("growth"), measure="weights", series="magnitude"), "series")[0]
    disk = {row["source"]: row for row in select(read("streaming"), measure="peak memory")}
    runs = {(row["backend"], row["workers"]): row for row in select(read("cluster"), measure="backend")}
    schedule = {row["workers"]: row for row in read("scheduling")}
    kills = latest(select(read("cluster"), measure="node failure"), "run")
    same = sum(row["exit_code"] == 0 and row["same_bytes"] for row in kills)
    size, seconds = growth["points"][-1]
    one, two = runs["local", 1], runs["local", 2]
    table = [
        ["SNIP on ResNet-50, 224 px, 8 images", f"{snip['seconds']:.1f} s, {snip['peak_mib']:,} MiB",
         f"{snip['over_model_and_activations']:.1f} × model and activations"],
        [f"magnitude, {size / 1e6:.0f} M weights", f"{seconds:.1f} s",
         f"seconds grow as weights^{growth['exponent']:.2f}"],
        [f"training on {disk['disk']['data_gib']} GiB of images from disk", f"peak {disk['disk']['peak_gib']} GiB",
         f"{disk['memory']['peak_gib']} GiB from memory"],
        [f"digits, {two['steps']} steps, 2 workers", f"{two['run_seconds']:.1f} s",
         f"{one['run_seconds'] / two['run_seconds']:.2f}× faster than one worker"],
        [f"{schedule[32]['steps']:,} steps on 32 workers", f"{schedule[32]['seconds']:.0f} s",
         f"{100 * schedule[32]['over_tighter_bound'] - 100:.1f} % above the lower bound"],
        [f"{len(kills)} runs on a cluster, one node failure each", f"{same} exit with code 0",
         "bytes identical to one machine"],
    ]  # fmt: skip
    answer = (
        f"One-shot masks of {size / 1e6:.0f} million weights take seconds on one thread, and {same} of {len(kills)} "
        f"cluster runs survive a node failure with identical bytes."
    )
    sources = [snip, growth, *disk.values(), one, two, schedule[32], *kills]
    return Question("Does it scale?", answer, ["case", "cost", "compared with"], table, sources, ("plots/scale.svg",))


def zoo() -> Question:
    """Count foreign networks that pass every step."""
    rows = latest(read("zoo"), "family", "name")
    results = [(f"{step} of {row['name']}", end["result"]) for row in rows for step, end in row["steps"].items()]
    failed = [name for name, result in results if result != "ok"]
    table = []
    for family in dict.fromkeys(row["family"] for row in rows):
        steps = [row["steps"] for row in select(rows, family=family)]
        warned = sum(bool(row.get("warnings")) for row in select(rows, family=family))
        groups = (("default",), ("snip",), ("synflow",), ("erk",), ("hold", "save"), ("shrunk", "onnx", "pt2"))
        table.append([family, str(len(steps)), *(_passes(steps, group) for group in groups), str(warned)])
    answer = f"Of {len(results):,} steps on {len(rows)} networks, {len(failed)} fail: {' and '.join(failed)}."
    columns = ["library", "networks", "default", "SNIP", "SynFlow", "ERK", "hold, save", "exports", "with warnings"]
    return Question("Does it work on foreign networks?", answer, columns, table, rows)


def agreement() -> Question:
    """Compare scores and masks with the authors' code."""
    rows = select(read("agreement"), measure="agreement")
    methods: dict[tuple[str, ...], list[str]] = {}
    for row in latest(rows, "method", "quantity", "compared_with"):
        quantity = "scores" if "score" in row["quantity"] else "mask"
        values = (_agreement(row, precision) for precision in ("float32", "float64"))
        methods.setdefault((row["compared_with"], quantity, *values), []).append(row["method"])
    table = [[" and ".join(names), *values] for values, names in methods.items()]
    paths = select(read("agreement"), measure="effective paths and nodes", sparsity=0.98)
    logs = {row["method"]: row["log_paths"] for row in paths}
    answer = (
        f"On ResNet-20 with {rows[0]['images']} images, scores agree to float64 rounding, and masks of several rounds "
        f"are identical at the authors' counts per round; so are masks of twenty updates of RigL and SET. `npb` keeps "
        f"more paths than its authors' solver (log #paths {logs['npb']} against {logs['NPB, authors']} at 0.98; one "
        f"network and seed, `spread` chosen on it)."
    )
    columns = ["method", "authors' code", "quantity", "float32", "float64"]
    return Question("Does it agree with the authors' code?", answer, columns, table, [*rows, *paths])


def channels() -> Question:
    """Compare whole channels, chosen at initialization, with a smaller width and random channels."""
    shown = ("dense", "search, free", "snip", "synflow", "L2", PEER, "random", "width")
    rows = {network: select(read("channels"), network=network) for network in ("vgg", "resnet20")}
    targets = [(network, share) for network in rows for share in ("30%", "10%")]
    found = {
        (name, network, share): [row for row in select(rows[network], method=name) if row["share"] in (share, "100%")]
        for name in shown for network, share in targets
    }  # fmt: skip
    table = [
        [f"{name} channels" if name == "random" else name,
         *(_spread(found[name, network, share]) for network, share in targets)]
        for name in shown
    ]  # fmt: skip
    tested = [gain for network in rows for gain in gains(rows[network]) if gain.p is not None]
    better = [gain for gain in tested if gain.p is not None and gain.p < 0.05 and gain.mean > 0]
    best = next(name for name in ranked(rows["vgg"], "10%") if name != "dense")
    at = {gain.share: gain for gain in gains(rows["vgg"]) if gain.method == best}
    answer = (
        f"{'Some do' if better else 'Not shown'}: in {len(better)} of {len(tested)} comparisons a method is "
        f"significantly better than the better control, random channels in equal shares or a smaller `width`. On "
        f"the VGG the best on validation at 10 % of the multiply-adds, `{best}`, gains {at['30%'].mean:+.1f} points "
        f"at 30 % and {at['10%'].mean:+.1f} at 10 %."
    )
    names = {"vgg": "VGG", "resnet20": "ResNet-20"}
    columns = ["method", *(f"{names[network]}, {share} of macs" for network, share in targets)]
    sources = [row for rows in found.values() for row in rows]
    return Question("Do channels chosen at initialization beat a smaller width?", answer, columns, table, sources)


def faster() -> Question:
    """Compare units of pruning, formats and runtimes."""
    rows = latest(select(read("faster"), network="torchvision:resnet18"), "unit", "format")
    formats = [*dict.fromkeys(row["format"] for row in rows)]
    by = {(row["unit"], row["format"]): row for row in rows}
    units = [*dict.fromkeys(row["unit"] for row in rows)]
    table = [[unit, *(_times(by.get((unit, format))) for format in formats)] for unit in units]
    instructions = "with" if "VNNI" in rows[-1]["machine"] else "without"
    answer = (
        "ResNet-18 at 224 pixels, speed-up over dense float32 PyTorch for a batch of 1 / 32 images, on a processor "
        f"{instructions} VNNI, its instructions for int8."
    )
    runtimes = {row["format"]: row["runtime"] for row in rows}
    columns = ["unit", *(f"`{format}` ({runtimes[format]})" for format in formats)]
    return Question("What makes a model faster?", answer, columns, table, rows)


def latency() -> Question:
    """Compare predicted and measured latencies of networks without some channels."""
    rows = latest(read("latency"), "network", "batch", "threads", "macs_share", "multiple")
    rows = [row for row in rows if row["multiple"] in ("auto", 16)]
    cases = [*dict.fromkeys((row["network"], row["batch"]) for row in rows)]
    table = []
    for network, batch in cases:
        here = select(rows, network=network, batch=batch)
        values = [_speedups(select(here, threads=n, macs_share=s)) for s in (0.3, 0.1) for n in (1, 2)]
        table.append([network.partition(":")[2] or network, str(batch), *values])
    off = max(abs(1 - row["predicted_over_measured"]) for row in rows)
    answer = (
        "Speed-ups over the dense network in onnxruntime, multiples `auto` / 16. Predictions of the latency table "
        f"differ from measurements by at most {100 * off:.0f} %."
    )
    columns = ["network", "batch"] + [f"{share} of macs, {n} thread{'s' * (n > 1)}" for share in ("30 %", "10 %")
                                      for n in (1, 2)]  # fmt: skip
    return Question("How fast are networks without some channels?", answer, columns, table, rows)


QUESTIONS: tuple[Callable[[], Question], ...] = (
    accuracy, choice_of_weights, quotas, searches, channels, latency, training, overhead, prediction, exported,
    scale, zoo, agreement,
)  # fmt: skip


def _spread(rows: list[Row]) -> str:
    return spread([row["test_accuracy"] for row in rows]) if rows else "–"


def _times(row: Row | None) -> str:
    return "–" if row is None else f"{row['over_pytorch_1']:.1f} / {row['over_pytorch_32']:.1f}"


def _speedups(rows: list[Row]) -> str:
    by = {row["multiple"]: f"{row['speedup']:.1f}" for row in rows}
    return " / ".join(by.get(multiple, "–") for multiple in ("auto", 16)) if rows else "–"


def _accuracy(rows: list[Row], method: str, sparsity: float) -> str:
    values = [row["test_accuracy"] for row in of_method(rows, method, sparsity)]
    return spread(values) if values else "–"


def _validation(rows: list[Row], method: str, sparsity: float) -> float:
    values = [row["validation_accuracy"] for row in of_method(rows, method, sparsity)]
    return statistics.fmean(values) if values else 0.0


def _transfer(methods: list[str]) -> tuple[list[list[str]], list[Row]]:
    every = cells()
    of = {network: [row for row in every if row["network"] == network] for network, _ in TARGETS}
    table = [
        [LABELS[method], *(_accuracy(of[network], method, sparsity) for network, sparsity in TARGETS)]
        for method in methods
    ]
    return table, _used(of, methods, TARGETS)


def _used(rows: Mapping[str, list[Row]], methods: list[str], targets: list[tuple[str, float]]) -> list[Row]:
    names = [(name, *target) for target in targets for name in methods]
    return [row for name, network, sparsity in names for row in of_method(rows[network], name, sparsity)]


def _target_names() -> list[str]:
    names = {"vgg": "VGG", "resnet20": "ResNet-20", "vgg_last_five": "VGG, other classes"}
    return [f"{names[network]} {sparsity}" for network, sparsity in TARGETS]


def _difference(network: str, method: str, other: str, sparsity: float) -> Difference:
    tests = differences(row for row in cells() if row["network"] == network)
    return next(test for test in tests if (test.method, test.other, test.sparsity) == (method, other, sparsity))


def _p(test: Difference) -> str:
    if test.p is None:
        return "no test"
    return f"corrected p {test.p:.2g}{', not significant' if test.p > 0.05 else ''}"


def _processor(row: Row) -> str:
    return str(row["machine"]).split(",")[0]


def _seeds(loop: str) -> list[float]:
    rows = latest(select(read("training"), measure="accuracy", loop=loop), "seed")
    return [row["test_accuracy"] for row in rows]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _passes(steps: list[Row], names: tuple[str, ...]) -> str:
    results = [step[name]["result"] for step in steps for name in names if name in step]
    tried = [result for result in results if not result.startswith("skipped: ")]
    return f"{tried.count('ok')}/{len(tried)}" if tried else "–"


def _agreement(row: Row, precision: str) -> str:
    if (value := row.get(precision)) is None:
        return "–"
    return f"{value:.1e}" if "score" in row["quantity"] else f"{100 * value:.0f} % in common"
