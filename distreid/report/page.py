"""The page of a run: headline, key figures, the table of rounds, the figures, what was run."""

from typing import Any

from distreid.common.text import duration, number, percent, plural, protocol_name, setting
from distreid.methods.exhibits import Pictures
from distreid.methods.stopping import kept_model
from distreid.report import figures, gallery
from distreid.report.parts import Fold, Page, Section, Table, Tile
from distreid.report.read import Record, Run
from distreid.report.text import stopping_text

_AP_NAMES = {"hits": "precision at hits", "trapezoid": "the official Market-1501 code's trapezoid rule"}
_ACCURACIES = ("mAP", "rank1", "rank5", "rank10")


def run_page(run: Run, defaults: Record | None = None, pictures: Pictures | None = None) -> Page:
    """defaults: the configuration's defaults, nested; settings that differ from them are then shown first.

    pictures: what needed the network and the data; None leaves those figures out.
    """
    shown = pictures or Pictures(round=0)
    drawn = [
        *gallery.grids(shown, run),
        *gallery.rank_lists(shown),
        *gallery.attention(shown, run.spec.attention),
        *gallery.embedding(shown),
    ]
    labels = [*figures.labelling(run), *figures.sizes(run), *gallery.sheets(shown)]
    training = [*figures.losses(run), *figures.times(run), *figures.rates(run)]
    model = f"the model of {run.stage(shown.round)}" if shown.round else "the source model, before any round"
    notes = [f"Taken with {model}.", *shown.notes] if pictures else []
    sections = [
        Section("Accuracy", _rounds(run), _note(run, shown.protocol), [*figures.accuracy(run), *figures.cmc(run)]),
        Section("Pictures", note=" ".join(notes), figures=drawn),
        Section("Pseudo-labels", figures=labels),
        Section("Training", figures=training),
        Section("What was run", _environment(run, shown), folds=_configuration(run.config, defaults)),
    ]
    name, heading = run.spec.name, f"{run.source} → {run.target}"
    return Page(f"{heading} · {name}", f"{name} · seed {run.seed} · {run.name}", heading, headline(run), sections, _tiles(run))


def headline(run: Run) -> str:
    """The result in one sentence."""
    done, spec = len(run.rounds), run.spec
    if run.finished:
        if run.final:
            adapted = f"{spec.done} mAP {percent(run.final['mAP'])}{_gain(run, run.final)}."
            return adapted if run.direct_transfer else f"mAP {percent(run.final['mAP'])} on the target."
        return f"{spec.done} in {plural(done, spec.round)}. The target has no test set, so accuracy was not measured."
    if not run.epochs and not run.pretrained and not done:
        return "Unfinished: nothing has been trained yet."
    if spec.before and not run.pretrained:
        return f"Unfinished: still {spec.before} on the source."
    stand = f"{done} of {plural(run.planned, spec.round)} done" if run.planned else f"{plural(done, spec.round)} done"
    if not spec.before:
        stand += f", {plural(len(run.epochs), 'epoch')}"
    if run.measured:
        last = run.measured[-1]
        return f"Unfinished, {stand}: mAP {percent(last['mAP'])} after {run.stage(last['round'])}{_gain(run, last)} so far."
    if run.direct_transfer:
        return f"Unfinished, {stand}: direct transfer mAP {percent(run.direct_transfer['mAP'])}."
    return f"Unfinished, {stand}; the target's accuracy has not been measured."


def _gain(run: Run, metrics: Record) -> str:
    if not run.direct_transfer:
        return ""
    points = 100 * (metrics["mAP"] - run.direct_transfer["mAP"])
    return f", {points:+.1f} points over direct transfer" if points >= 0 else f", {-points:.1f} points under direct transfer"


def _note(run: Run, protocol: str) -> str:
    """What the accuracies are, and on what they were measured. protocol: for runs whose figures do not name it."""
    metrics = run.tested
    if not metrics:
        if run.pretrained or run.finished:
            return "Steps in seconds. No accuracy: neither domain has a test set."
        return f"No {run.spec.round} has ended yet, and nothing has been measured."
    tested = ", ".join(filter(None, (protocol_name(metrics) or protocol, "no re-ranking")))
    kind = _AP_NAMES.get(metrics.get("ap", "hits"), str(metrics.get("ap")))
    parts = [f"mAP and CMC ranks in percent, steps in seconds; {tested}. mAP is average precision by {kind}."]
    last = run.measured[-1] if run.measured else {}
    if "mAP_trapezoid" in last and metrics.get("ap") != "trapezoid":
        stage = run.stage(last["round"])
        parts.append(f"By {_AP_NAMES['trapezoid']} mAP after {stage} is {percent(last['mAP_trapezoid'])}.")
    if "reverse" in last:
        forth, back = "query images looked up in the gallery", "The other way round"
        parts.append(f"Shown: {forth}. {back}: mAP {percent(last['reverse']['mAP'])}, Rank-1 {percent(last['reverse']['rank1'])}.")
    if run.final:
        if run.stopping:
            parts.append(f"{stopping_text(run.stopping)}; no accuracy was looked at.")
        else:
            parts.append(f"Final is the last {run.spec.round}, never the best one.")
    if (run.direct_transfer or last) and "queries" in metrics:
        each = ", averaged over them" if "splits" in metrics else ""
        parts.append(
            f"Target test set: {number(metrics['queries'])} queries against {number(metrics['gallery'])} gallery images{each}."
        )
        if metrics.get("queries_without_positive"):
            parts.append(f"{number(metrics['queries_without_positive'])} of the queries have no match there and are left out.")
    return " ".join(parts)


def _tiles(run: Run) -> list[Tile]:
    """The figures that one looks for first."""
    shown = run.final or (run.measured[-1] if run.measured else None)
    tiles = []
    if shown:
        for name, key in (("mAP", "mAP"), ("Rank-1", "rank1")):
            was = f"direct transfer {percent(run.direct_transfer[key])}" if run.direct_transfer else "target test set"
            tiles.append(Tile(name, percent(shown[key]), was))
    elif run.direct_transfer:
        tiles.append(Tile("direct transfer mAP", percent(run.direct_transfer["mAP"]), "target test set"))
    if run.in_domain:
        when = "in domain, before adapting" if run.spec.before else "in domain"
        tiles.append(Tile("source mAP", percent(run.in_domain["mAP"]), when))
    latest = run.labelled or (run.rounds[-1] if run.rounds else None)
    if latest and "clusters" in latest:
        note = f"{number(latest['outliers'])} outliers, round {latest['round']}"
        tiles.append(Tile("clusters", number(latest["clusters"]), note))
    if run.seconds:
        begun = f"{run.spec.before} and " if run.spec.before else ""
        tiles.append(Tile("time", duration(run.seconds), f"{begun}finished {run.spec.round}s"))
    return tiles


def _rounds(run: Run) -> Table | None:
    """Accuracy, labels and seconds; None before anything has ended."""
    spec = run.spec

    def row(name: str, metrics: Record, *, labelled: bool = False, timed: bool = False) -> list[str]:
        accuracy = [percent(metrics.get(key)) for key in _ACCURACIES]
        labelling = [number(metrics["eps"], 4), number(metrics["clusters"]), number(metrics["outliers"])] if labelled else [""] * 3
        seconds = [_seconds(metrics["seconds"].get(step)) for step in spec.steps] if timed else [""] * len(spec.steps)
        return [name, *accuracy, *(labelling if spec.labelled else []), *seconds]  # a phone shows the first columns

    rows = [row("source, in domain", run.in_domain)] if run.in_domain else []
    if run.direct_transfer:
        rows.append(row("direct transfer", run.direct_transfer))
    rows += [row(run.stage(line["round"]), line, labelled="eps" in line, timed=True) for line in run.rounds]
    if run.labelled:
        rows.append(row(f"{run.stage(run.labelled['round'])}, under way", run.labelled, labelled=True))
    if run.final:
        last = run.rounds[-1]["round"] if run.rounds else 0
        rows.append(row(spec.final if run.kept == last else f"{spec.final}: {kept_model(run.kept)}", run.final))
    if not rows:
        return None
    head = ["", "mAP", "Rank-1", "Rank-5", "Rank-10", *(["eps", "clusters", "outliers"] if spec.labelled else []), *spec.steps]
    return Table(head, rows, "rounds final" if run.final else "rounds")


def _environment(run: Run, shown: Pictures) -> Table:
    """Data, versions and machine."""
    kept = run.environment
    versions, machine = kept.get("versions") or {}, kept.get("machine") or {}
    rows = list(shown.data)
    if kept:
        hardware = [str(machine.get("cpu", "")), plural(int(machine.get("cores") or 0), "core")]
        hardware.append(f"{(machine.get('memory_bytes') or 0) / 2**30:.0f} GiB memory")
        gpus = list(map(str, machine.get("gpus") or []))
        cuda = f" (CUDA {machine['cuda']})" if machine.get("cuda") else ""
        rows += [
            ("started", str(kept.get("started", "")).replace("T", " ").replace("+00:00", " UTC")),
            ("software", ", ".join(f"{name} {text}" for name, text in versions.items())),
            *([("commit", str(kept["commit"]))] if kept.get("commit") else []),
            ("machine", ", ".join([*hardware, str(machine.get("os", ""))])),
            ("GPUs", (", ".join(f"{gpus.count(name)} × {name}" for name in dict.fromkeys(gpus)) + cuda) if gpus else "none"),
        ]
    else:
        rows.append(("software", "not recorded: the run began before distreid kept its versions and machine"))
    return Table(["", ""], rows, "settings machine")


def _seconds(value: float | None) -> str:
    return number(value, 0 if value is not None and value >= 100 else 1)


def _configuration(config: Record, defaults: Record | None) -> list[Fold]:
    every = flat_settings(config)
    if defaults is None:
        return [Fold("All settings", _settings(every))]
    usual = flat_settings(defaults)
    changed = {key: value for key, value in every.items() if usual.get(key) != value}
    rows = [(key, setting(value), setting(usual.get(key))) for key, value in changed.items()]
    rest = _settings({key: value for key, value in every.items() if key not in changed})
    first = Table(["setting", "value", "default"], rows, "settings")
    return [Fold("Settings that differ from the defaults", first, opened=True), Fold("Settings at their defaults", rest)]


def _settings(flat: dict[str, Any]) -> Table:
    return Table(["setting", "value"], [(key, setting(value)) for key, value in flat.items()], "settings")


def flat_settings(tree: Record, prefix: str = "") -> dict[str, Any]:
    """{'adapt': {'epochs': 3}} -> {'adapt.epochs': 3}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flat_settings(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
