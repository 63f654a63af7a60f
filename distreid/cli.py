"""One command per verb. No logic here: each verb is one call into the house.

Exit codes: 0 done; 2 the user's mistake, said in one line on standard error; 1 anything else.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distreid import __version__
from distreid.errors import UserError


def main(arguments: list[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        options.verb(options)
    except UserError as error:
        sys.exit(_complain(str(error), 2))
    except KeyboardInterrupt:
        sys.exit(_complain("interrupted; a run that was under way continues with --resume", 1))
    except BrokenPipeError:
        sys.exit(1)


def _complain(message: str, code: int) -> int:
    print(f"\ndistreid: {message}" if sys.stderr.isatty() else f"distreid: {message}", file=sys.stderr, flush=True)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distreid", description="Adapt person re-identification models to an unlabelled camera network."
    )
    parser.add_argument("--version", action="version", version=f"distreid {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    def verb(name: str, function: Callable[[argparse.Namespace], None], summary: str) -> argparse.ArgumentParser:
        command = verbs.add_parser(name, help=summary, description=summary)
        command.set_defaults(verb=function)
        return command

    demo = verb("demo", _demo, "Draw two camera networks, adapt a model from one to the other on a local Ray, write a report.")
    demo.add_argument("--out", default="runs/demo", help="run directory (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("overrides", nargs="*", metavar="key=value", help="change the configuration")

    synth = verb("synth", _synth, "Draw a camera network in Market-1501's layout.")
    synth.add_argument("out", metavar="OUT", help="folder to make")
    synth.add_argument("--identities", type=int, default=64, help="training identities, and as many others for testing")
    synth.add_argument("--cameras", type=int, default=4)
    synth.add_argument("--images", type=int, default=8, help="images of an identity in each camera that sees it")
    synth.add_argument("--domain", default="day", help="day, night, winter (default: %(default)s)")
    synth.add_argument("--seed", type=int, default=0)
    synth.add_argument("--masks", action="store_true", help="also write the true foreground masks")

    pack = verb("pack", _pack, "Check every image of a data set and pack it into one Arrow file.")
    pack.add_argument("src", metavar="SRC", help="the data set's folder")
    pack.add_argument("out", metavar="OUT.arrow")
    pack.add_argument(
        "--format", required=True, help="market1501, dukemtmc, msmt17, cuhk03, prid2011, or folder (unlabelled images)"
    )
    pack.add_argument("--skip-bad", action="store_true", help="leave out images that cannot be decoded")

    info = verb("info", _info, "What a packed data set holds.")
    info.add_argument("file", metavar="FILE.arrow")
    info.add_argument("--sheet", metavar="OUT.png", help="also write a contact sheet")

    train = verb("train", _train, "Run a method: locally, or on the cluster that RAY_ADDRESS or a Ray job provides.")
    train.add_argument("config", metavar="CONFIG.yaml")
    train.add_argument("overrides", nargs="*", metavar="key=value")
    train.add_argument("--resume", action="store_true", help="continue the run in the output directory")

    evaluate = verb("evaluate", _evaluate, "Test a run or a checkpoint on a data set's query and gallery.")
    evaluate.add_argument("checkpoint", metavar="RUN_OR_CHECKPOINT")
    evaluate.add_argument("--data", help="packed file, or the data set's folder (default: the run's own target)")
    evaluate.add_argument("--format", default="market1501", help="when --data is a folder (default: %(default)s)")
    evaluate.add_argument("--flip", action="store_true", help="average the features of an image and its mirror image")
    evaluate.add_argument("--json", action="store_true")

    score = verb("score", _score, "CMC and mAP of anybody's features (arrays features [n,d], pids, camids).")
    score.add_argument("query", metavar="QUERY.npz")
    score.add_argument("gallery", metavar="GALLERY.npz")
    score.add_argument("--json", action="store_true")

    label = verb("label", _label, "Pseudo-labels of anybody's features.")
    label.add_argument("features", metavar="FEATURES.npy")
    label.add_argument("--out", required=True, metavar="LABELS.npz")
    label.add_argument("--p", type=float, default=1.6e-3, help="proportion of all pairs that gives eps (default: %(default)s)")
    label.add_argument("--min-samples", type=int, default=4)
    label.add_argument("--k1", type=int, default=30)
    label.add_argument("--k2", type=int, default=6)
    label.add_argument("--eps", type=float, help="fixed eps in place of --p")
    label.add_argument("--device", default="cpu", choices=["cpu", "cuda"])

    sweep = verb("sweep", _sweep, "Run many settings of an experiment with Ray Tune, or label one set of features in many ways.")
    sweep.add_argument("config", metavar="SWEEP.yaml", help="with --labels-only: FEATURES.npy, a run, or a configuration")
    sweep.add_argument("overrides", nargs="*", metavar="key=value")
    sweep.add_argument("--resume", action="store_true", help="continue the sweep in the output directory; finished trials are kept")
    sweep.add_argument(
        "--labels-only", action="store_true", help="a grid over p and min_samples on one set of features, in seconds"
    )
    only = sweep.add_argument_group("with --labels-only")
    only.add_argument("--p", type=float, nargs="+", help="default: 16 values around the configuration's own")
    only.add_argument("--min-samples", type=int, nargs="+", help="default: 2, 4, … 18")
    only.add_argument("--k1", type=int)
    only.add_argument("--k2", type=int)
    only.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    only.add_argument("--out", metavar="FOLDER", help="default: beside the features, or in the run")

    table = verb("table", _table, "A paper's table, its figures beside ours.")
    table.add_argument("name", metavar="NAME", help="daam-1 … daam-4, daam-figure-4 … daam-figure-6")
    table.add_argument("overrides", nargs="*", metavar="key=value", help="change the settings of all of our runs")
    table.add_argument("--run", action="store_true", help="run what is missing first; an interrupted table continues")
    table.add_argument("--drawn", action="store_true", help="ours on drawn data, small enough for two cores")
    table.add_argument("--seeds", type=int, nargs="+", default=[0], help="default: 0")
    table.add_argument("--data", default="data", metavar="FOLDER", help="of the packed data sets (default: %(default)s)")
    table.add_argument("--out", default="runs/tables", metavar="FOLDER", help="where our runs lie (default: %(default)s)")
    table.add_argument("--format", default="text", choices=["text", "markdown", "csv", "latex"])

    report = verb("report", _report, "Write a run's report.html.")
    report.add_argument("run", metavar="RUN")

    bench = verb("bench", _bench, "Measure this machine.")
    bench.add_argument("what", choices=["labels", "score", "train"])
    bench.add_argument("--n", type=int, default=12_936, help="labels: features; score: gallery images")
    bench.add_argument("--dim", type=int, default=2048)
    bench.add_argument("--json", action="store_true")
    return parser


def _demo(options: argparse.Namespace) -> None:
    from distreid.demo import demo

    demo(Path(options.out), seed=options.seed, overrides=options.overrides)


def _synth(options: argparse.Namespace) -> None:
    from distreid.data.drawn import draw_domain
    from distreid.terminal import bar

    with bar(f"drawing {options.domain}") as progress:
        summary = draw_domain(
            Path(options.out),
            domain=options.domain,
            identities=options.identities,
            cameras=options.cameras,
            images=options.images,
            seed=options.seed,
            masks=options.masks,
            progress=progress,
        )
    print(summary)


def _pack(options: argparse.Namespace) -> None:
    from distreid.data import ImageStore, describe, format_description, pack
    from distreid.terminal import bar

    with bar("packing") as progress:
        pack(options.src, options.out, format=options.format, skip_bad=options.skip_bad, progress=progress)
    print(format_description(describe(ImageStore.open(options.out))))


def _info(options: argparse.Namespace) -> None:
    from distreid.data import ImageStore, contact_sheet, describe, format_description

    store = ImageStore.open(options.file)
    print(format_description(describe(store)))
    if options.sheet:
        contact_sheet(store, Path(options.sheet))
        print(f"contact sheet: {options.sheet}")


def _train(options: argparse.Namespace) -> None:
    from distreid.config import load_config
    from distreid.launch import train

    train(load_config(options.config, options.overrides), resume=options.resume)


def _evaluate(options: argparse.Namespace) -> None:
    from distreid.launch import evaluate

    _print_metrics(evaluate(Path(options.checkpoint), options.data, options.format, flip=options.flip), options.json)


def _score(options: argparse.Namespace) -> None:
    from distreid.evaluation import load_npz, rank

    _print_metrics(rank(load_npz(options.query), load_npz(options.gallery)).as_dict(), options.json)


def _print_metrics(metrics: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(metrics))
        return
    from distreid.terminal import metrics_text

    print(metrics_text(metrics))


def _label(options: argparse.Namespace) -> None:
    from distreid.labels import load_features, make_pseudo_labels, save_labels

    labels = make_pseudo_labels(
        load_features(options.features),
        k1=options.k1,
        k2=options.k2,
        p=options.p,
        min_samples=options.min_samples,
        eps=options.eps,
        device=options.device,
    )
    save_labels(options.out, labels)
    outliers = int((labels.labels < 0).sum())
    print(f"{len(labels.labels):,} features: {len(labels.centers):,} clusters, {outliers:,} outliers, eps {labels.eps:.4f}")
    print(f"labels: {options.out}")


def _sweep(options: argparse.Namespace) -> None:
    if not options.labels_only:
        from distreid.sweeps.run import sweep

        sweep(Path(options.config), options.overrides, resume=options.resume)
        return
    from distreid.sweeps.labels import sweep_labels

    print(
        sweep_labels(
            Path(options.config),
            options.overrides,
            out=Path(options.out) if options.out else None,
            ps=options.p,
            min_samples=options.min_samples,
            k1=options.k1,
            k2=options.k2,
            device=options.device,
        )
    )


def _table(options: argparse.Namespace) -> None:
    from distreid.tables import table

    print(
        table(
            options.name,
            options.overrides,
            drawn=options.drawn,
            seeds=options.seeds,
            data=Path(options.data),
            out=Path(options.out),
            run=options.run,
            form=options.format,
        )
    )


def _report(options: argparse.Namespace) -> None:
    from distreid.launch import report

    print(report(Path(options.run)))


def _bench(options: argparse.Namespace) -> None:
    from distreid.bench import bench

    print(bench(options.what, n=options.n, dim=options.dim, as_json=options.json))
