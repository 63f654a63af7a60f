"""The page: headline, key figures, the table of rounds, the figures, what was run."""

from collections.abc import Sequence
from html import escape
from typing import Any

from distreid.report import figures, gallery
from distreid.report.figures import STAGES, pretraining_seconds
from distreid.report.pictures import Pictures
from distreid.report.read import Record, Run
from distreid.report.style import STYLE
from distreid.report.words import details, duration, number, percent, plural, setting, table

# Nothing is loaded and nothing runs, whatever a data set's name may hold.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_FOOTER = "Made by distreid. The CSV links hold each figure's data unrounded, accuracies as fractions."
_AP_NAMES = {"hits": "precision at hits", "trapezoid": "the official Market-1501 code's trapezoid rule"}


def render(run: Run, defaults: Record | None = None, pictures: Pictures | None = None) -> str:
    """The run as one HTML document without a script and without an external request.

    defaults: the configuration's defaults, nested; settings that differ from them are then shown first.
    pictures: what needed the network and the data; None leaves those figures out.
    """
    shown = pictures or Pictures(round=0)
    model = f"round {shown.round}'s model" if shown.round else "the source model, before any round"
    notes = [f"Taken with {model}."] if pictures else []
    sections = [
        ("Accuracy", f"{_rounds(run)}<p class=note>{escape(protocol(run))}</p>", [figures.accuracy(run), figures.cmc(run)]),
        (
            "Pictures",
            _note([*notes, *shown.notes]),
            [
                gallery.translations(shown, run),
                gallery.rank_lists(shown),
                gallery.attention(shown),
                gallery.embedding(shown),
            ],
        ),
        ("Pseudo-labels", "", [*figures.labelling(run), figures.sizes(run), gallery.sheets(shown)]),
        ("Training", "", [figures.losses(run), figures.times(run), figures.rates(run)]),
        ("What was run", _environment(run, shown) + _configuration(run.config, defaults), []),
    ]
    kept = [(name, text, [made for made in drawn if made]) for name, text, drawn in sections]
    kept = [(name, text, drawn) for name, text, drawn in kept if text or drawn]
    links = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name, _, _ in kept)
    title = f"{run.source} → {run.target}"
    body = [
        f"<header><p class=kind>{escape(run.method.upper())} · seed {escape(str(run.seed))} · {escape(run.name)}</p>",
        f"<h1>{escape(title)}</h1><p class=headline>{escape(headline(run))}</p></header>",
        _tiles(run),
        f'<nav aria-label="Sections">{links}</nav>',
    ]
    for name, text, drawn in kept:
        grid = f"<div class=figures>{''.join(drawn)}</div>" if drawn else ""
        body.append(f'<section id="{_anchor(name)}"><h2>{escape(name)}</h2>{text}{grid}</section>')
    return document(f"{title} · {run.method.upper()}", "".join(body))


def document(title: str, body: str) -> str:
    """A whole page around its body, which is HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><main>{body}<footer>{_FOOTER}</footer></main></body></html>\n"
    )


def headline(run: Run) -> str:
    """The result in one sentence."""
    done = len(run.rounds)
    if run.finished:
        if run.final and run.method == "edaan":
            return f"mAP {percent(run.final['mAP'])} on the target."
        if run.final:
            return f"Adapted mAP {percent(run.final['mAP'])}{_gain(run, run.final)}."
        return f"Adapted in {plural(done, 'round')}. The target has no test set, so accuracy was not measured."
    if run.method == "edaan":
        return f"Unfinished: {plural(len(run.epochs), 'epoch')} done."
    planned = (run.config.get("adapt") or {}).get("rounds")
    stand = f"{done} of {plural(planned, 'round')} done" if isinstance(planned, int) else f"{plural(done, 'round')} done"
    if not run.pretrained:
        return "Unfinished: still pre-training on the source." if run.epochs else "Unfinished: nothing has been trained yet."
    if run.measured:
        last = run.measured[-1]
        return f"Unfinished, {stand}: mAP {percent(last['mAP'])} after round {last['round']}{_gain(run, last)} so far."
    if run.direct_transfer:
        return f"Unfinished, {stand}: direct transfer mAP {percent(run.direct_transfer['mAP'])}."
    return f"Unfinished, {stand}; the target's accuracy has not been measured."


def _gain(run: Run, metrics: Record) -> str:
    if not run.direct_transfer:
        return ""
    points = 100 * (metrics["mAP"] - run.direct_transfer["mAP"])
    return f", {points:+.1f} points over direct transfer" if points >= 0 else f", {-points:.1f} points under direct transfer"


def protocol(run: Run) -> str:
    """What the accuracies are, and on what they were measured."""
    direct = run.direct_transfer
    metrics: Record = direct or (run.measured[-1] if run.measured else None) or run.in_domain or {}
    if not metrics:
        why = "neither domain has a test set" if run.pretrained else "the run has not come that far"
        return f"Stages in seconds. No accuracy: {why}."
    kind = _AP_NAMES.get(metrics.get("ap", "hits"), str(metrics.get("ap")))
    parts = [f"mAP and CMC ranks in percent, stages in seconds; single query, no re-ranking. mAP is average precision by {kind}."]
    last = run.measured[-1] if run.measured else {}
    if "mAP_trapezoid" in last and metrics.get("ap") != "trapezoid":
        parts.append(f"By {_AP_NAMES['trapezoid']} round {last['round']} has mAP {percent(last['mAP_trapezoid'])}.")
    if run.final:
        parts.append("Final is the last round, never the best one.")
    if (direct or last) and "queries" in metrics:
        parts.append(f"Target test set: {number(metrics['queries'])} queries against {number(metrics['gallery'])} gallery images.")
        if metrics.get("queries_without_positive"):
            parts.append(f"{number(metrics['queries_without_positive'])} of the queries have no match there and are left out.")
    return " ".join(parts)


def _tiles(run: Run) -> str:
    """The figures that one looks for first."""
    shown = run.final or (run.measured[-1] if run.measured else None)
    tiles = []
    if shown:
        for name, key in (("mAP", "mAP"), ("Rank-1", "rank1")):
            was = f"direct transfer {percent(run.direct_transfer[key])}" if run.direct_transfer else "target test set"
            tiles.append((name, percent(shown[key]), was))
    elif run.direct_transfer:
        tiles.append(("direct transfer mAP", percent(run.direct_transfer["mAP"]), "target test set"))
    if run.in_domain:
        tiles.append(("source mAP", percent(run.in_domain["mAP"]), "in domain" + ", before adapting" * (run.method == "daam")))
    latest = run.labelled or (run.rounds[-1] if run.rounds else None)
    if latest and "clusters" in latest:
        tiles.append(("clusters", number(latest["clusters"]), f"{number(latest['outliers'])} outliers, round {latest['round']}"))
    seconds = pretraining_seconds(run) + sum(sum(r["seconds"].values()) for r in run.rounds)
    if seconds:
        tiles.append(("time", duration(seconds), "pre-training and finished rounds"))
    cells = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>" for name, value, note in tiles
    )
    return f"<dl class=tiles>{''.join(cells)}</dl>" if tiles else ""


def _rounds(run: Run) -> str:
    labels = run.method != "edaan"  # whose rounds are stages, without pseudo-labels
    stages = STAGES if labels else ("train", "evaluate")

    def row(name: str, metrics: Record, *, labelled: bool = False, timed: bool = False) -> list[str]:
        accuracy = [percent(metrics.get(key)) for key in ("mAP", "rank1", "rank5", "rank10")]
        labelling = [number(metrics["eps"], 4), number(metrics["clusters"]), number(metrics["outliers"])] if labelled else [""] * 3
        labelling = labelling if labels else []
        seconds = [_seconds(metrics["seconds"].get(stage)) for stage in stages] if timed else [""] * len(stages)
        return [name, *accuracy, *labelling, *seconds]  # a phone shows the first columns

    rows = [row("source, in domain", run.in_domain)] if run.in_domain else []
    if run.direct_transfer:
        rows.append(row("direct transfer", run.direct_transfer))
    rows += [
        row(f"round {r['round']}" if labels else f"stage {r['round']}, {r['stage']}", r, labelled=labels, timed=True)
        for r in run.rounds
    ]
    if run.labelled:
        rows.append(row(f"round {run.labelled['round']}, under way", run.labelled, labelled=True))
    if run.final:
        rows.append(row(run.final_name, run.final))
    if not rows:
        return "<p>No round has ended yet.</p>"
    head = ["", "mAP", "Rank-1", "Rank-5", "Rank-10", *(["eps", "clusters", "outliers"] if labels else []), *stages]
    return table(head, rows, kind="rounds final" if run.final else "rounds")


def _environment(run: Run, shown: Pictures) -> str:
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
    if not kept:
        rows.append(("software", "not recorded: the run began before distreid kept its versions and machine"))
    return table(["", ""], rows, kind="settings machine")


def _note(sentences: Sequence[str]) -> str:
    return f"<p class=note>{escape(' '.join(sentences))}</p>" if sentences else ""


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _seconds(value: float | None) -> str:
    return number(value, 0 if value is not None and value >= 100 else 1)


def _configuration(config: Record, defaults: Record | None) -> str:
    every = flat_settings(config)
    if defaults is None:
        rows = [(key, setting(value)) for key, value in every.items()]
        return details("All settings", table(["setting", "value"], rows, kind="settings"))
    usual = flat_settings(defaults)
    changed = [(key, setting(value), setting(usual.get(key))) for key, value in every.items() if usual.get(key) != value]
    first = table(["setting", "value", "default"], changed, kind="settings")
    rest = [(key, setting(value)) for key, value in every.items() if usual.get(key) == value]
    return details("Settings that differ from the defaults", first, opened=True) + details(
        "Settings at their defaults", table(["setting", "value"], rest, kind="settings")
    )


def flat_settings(tree: Record, prefix: str = "") -> dict[str, Any]:
    """{'adapt': {'epochs': 3}} -> {'adapt.epochs': 3}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flat_settings(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
