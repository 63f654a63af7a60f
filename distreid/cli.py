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
from distreid.config import Config
from distreid.errors import Stopped, UserError
from distreid.labels.settings import LabelSettings, label_settings
from distreid.layout import model_files, page_files
from distreid.methods.registry import SPECS
from distreid.mirror import on_this_machine


def main(arguments: list[str] | None = None) -> None:
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse takes key=value only before an option.
    if not hasattr(options, "overrides") or any(text.startswith("-") or "=" not in text for text in rest):
        options = parser.parse_args(arguments)
    else:
        options.overrides += rest
    try:
        options.verb(options)
    except UserError as error:
        sys.exit(_complain(str(error), 143 if isinstance(error, Stopped) else 2))
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

    demo = verb("demo", _demo, "Draw two camera networks, adapt a model from one to the other, write a report.")
    demo.add_argument("--method", choices=list(SPECS), default=Config().method, help="default: %(default)s")
    demo.add_argument("--out", help="run directory (default: runs/demo, of another method than the default one runs/demo-METHOD)")
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
        "--format",
        required=True,
        help="market1501, dukemtmc, msmt17, cuhk03, cuhk03-detected, prid2011, or folder (unlabelled images)",
    )
    pack.add_argument("--skip-bad", action="store_true", help="leave out images that cannot be decoded")

    info = verb("info", _info, "What a packed data set holds.")
    info.add_argument("file", metavar="FILE.arrow")
    info.add_argument("--sheet", metavar="OUT.png", help="also write a contact sheet")

    plan = verb("plan", _plan, "Time and memory of a round on machines to come, from what bench measured on one like them.")
    plan.add_argument("config", metavar="CONFIG.yaml")
    plan.add_argument("overrides", nargs="*", metavar="key=value")
    plan.add_argument("--nodes", type=int, default=1)
    plan.add_argument("--gpus", type=int, default=1, help="of each node; one worker for each (default: %(default)s)")
    plan.add_argument("--images", type=int, help="target images (default: those of the packed target)")
    plan.add_argument("--queries", type=int, help="test images (default: those of the packed target, or none)")
    plan.add_argument("--gallery", type=int)
    plan.add_argument(
        "--bench", action="append", default=[], metavar="FILE.json", help="output of distreid bench --json; repeatable"
    )

    train = verb("train", _train, "Run a method: locally, or on the cluster that RAY_ADDRESS or a Ray job provides.")
    train.add_argument("config", metavar="CONFIG.yaml")
    train.add_argument("overrides", nargs="*", metavar="key=value")
    train.add_argument("--resume", action="store_true", help="continue the run in the output directory")

    evaluate = verb("evaluate", _evaluate, "Test a run or a checkpoint by the data set's protocol.")
    evaluate.add_argument("checkpoint", metavar="RUN_OR_CHECKPOINT")
    evaluate.add_argument("--data", help="packed file, or the data set's folder (default: the run's own target)")
    evaluate.add_argument("--format", default="market1501", help="when --data is a folder (default: %(default)s)")
    evaluate.add_argument("--flip", action="store_true", help="average the features of an image and its mirror image")
    _add_scoring(evaluate)

    score = verb("score", _score, "CMC and mAP of anybody's features (arrays features [n,d], pids, camids).")
    score.add_argument("query", metavar="QUERY.npz")
    score.add_argument("gallery", metavar="GALLERY.npz")
    score.add_argument(
        "--protocol",
        choices=["single_query", "single_shot", "cross_camera"],
        help="single_shot as for CUHK03, cross_camera as for PRID2011; the identities of each split in QUERY.npz as test_pids "
        "[splits, identities] (default: QUERY.npz's protocol, if it has one, or single_query)",
    )
    score.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    _add_scoring(score)

    usual = LabelSettings()
    label = verb("label", _label, "Pseudo-labels of anybody's features.")
    label.add_argument("features", metavar="FEATURES.npy")
    label.add_argument("--out", required=True, metavar="LABELS.npz|.csv|.parquet")
    label.add_argument("--p", type=float, default=usual.p, help="proportion of all pairs that gives eps (default: %(default)s)")
    label.add_argument("--min-samples", type=int, default=usual.min_samples)
    label.add_argument("--k1", type=int, default=usual.k1)
    label.add_argument("--k2", type=int, default=usual.k2)
    label.add_argument("--eps", type=float, help="fixed eps in place of --p")
    label.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    label.add_argument(
        "--camids", metavar="CAMIDS.npy", help="cameras [N] (.npy, or array camids of an .npz): camera-aware distances (CA-Jaccard)"
    )
    label.add_argument(
        "--neighbours", default="exact", choices=["exact", "ivf", "hnsw"], help="ivf, hnsw: approximate, by faiss (default: exact)"
    )

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
    table.add_argument("name", metavar="NAME", help="daam-1 … daam-4, daam-figure-4 … daam-figure-6, edaan-1 … edaan-5")
    table.add_argument("overrides", nargs="*", metavar="key=value", help="change the settings of all of our runs")
    table.add_argument("--run", action="store_true", help="run what is missing first; an interrupted table continues")
    table.add_argument("--drawn", action="store_true", help="ours on drawn data, small enough for two cores")
    table.add_argument("--seeds", type=int, nargs="+", default=[0], help="default: 0")
    table.add_argument("--data", default="data", metavar="FOLDER", help="of the packed data sets (default: %(default)s)")
    table.add_argument("--out", default="runs/tables", metavar="FOLDER", help="where our runs lie (default: %(default)s)")
    table.add_argument("--format", default="text", choices=["text", "markdown", "csv", "latex"])

    export = verb("export", _export, "Write the matching network for other programs: safetensors or ONNX, checked against PyTorch.")
    export.add_argument("checkpoint", metavar="RUN_OR_CHECKPOINT")
    export.add_argument("out", metavar="OUT.safetensors|OUT.onnx")

    embed = verb("embed", _embed, "Features of any folder or packed set, for `distreid score` and `distreid label`.")
    embed.add_argument("checkpoint", metavar="RUN_OR_CHECKPOINT")
    embed.add_argument("--data", required=True, metavar="FOLDER_OR_ARROW")
    embed.add_argument("--out", required=True, metavar="FEATURES.npz", help=".npz: with pids, camids, paths; .npy: features alone")
    embed.add_argument("--format", default="folder", help="how to read a folder: see `distreid pack --help` (default: %(default)s)")
    embed.add_argument("--split", help="only this one: train, query, gallery or spare")
    embed.add_argument("--flip", action="store_true", help="average the features of an image and its mirror image")

    report = verb("report", _report, "Write a run's report.html; of several runs, one page that compares them.")
    report.add_argument("runs", metavar="RUN", nargs="+")
    report.add_argument("--out", metavar="PAGE.html", help="(default: RUN/report.html, or comparison.html beside the first run)")

    status = verb("status", _status, "Where a run stands: its step, the time left, the figures so far.")
    status.add_argument("run", metavar="RUN")

    runs = verb("runs", _runs, "List the runs in a folder.")
    runs.add_argument("folder", metavar="FOLDER", nargs="?", default="runs", help="default: %(default)s")
    translate = verb("translate", _translate, "Put a data set into another domain's style with a trained translator.")
    translate.add_argument("checkpoint", metavar="RUN_OR_CHECKPOINT")
    translate.add_argument("out", metavar="OUT", help="folder for images.arrow and masks.arrow")
    translate.add_argument("--data", help="packed file, or the data set's folder (default: the run's own source)")
    translate.add_argument("--format", default="market1501", help="when --data is a folder (default: %(default)s)")
    translate.add_argument("--reverse", action="store_true", help="from the target's style to the source's")
    translate.add_argument("--splits", nargs="+", default=["train"], metavar="SPLIT", help="train, query, gallery (default: train)")
    translate.add_argument("--truth", metavar="MASKS", help="folder of true foreground masks (synth --masks): measure what changed")
    translate.add_argument("--target-truth", metavar="MASKS", help="the other domain's, to compare the backgrounds' colours")

    bench = verb("bench", _bench, "Measure this machine.")
    bench.add_argument("what", choices=["labels", "score", "train", "round"])
    bench.add_argument("--n", type=int, default=12_936, help="labels, round: features; score: gallery images")
    bench.add_argument("--dim", type=int, default=2048)
    bench.add_argument("--p", type=float, default=usual.p, help="labels: see `distreid label` (default: %(default)s)")
    bench.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="labels: the engine (default: %(default)s)")
    bench.add_argument("--neighbours", default="exact", choices=["exact", "ivf", "hnsw"], help="labels: see `distreid label`")
    bench.add_argument("--images-per-identity", type=int, default=20, help="labels: of the drawn features (default: %(default)s)")
    bench.add_argument("--oracle", action="store_true", help="labels: the dense N x N form beside it (n up to 4,000)")
    bench.add_argument("--json", action="store_true")
    return parser


def _add_scoring(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rerank", action="store_true", help="k-reciprocal re-ranking, in which queries see each other")
    command.add_argument("--per-query", metavar="FILE.parquet", type=Path, help="also write every query's own figures")
    command.add_argument("--json", action="store_true")


def _demo(options: argparse.Namespace) -> None:
    from distreid.demo import demo

    out = options.out or ("runs/demo" if options.method == Config().method else f"runs/demo-{options.method}")
    demo(Path(out), method=options.method, seed=options.seed, overrides=options.overrides)


def _synth(options: argparse.Namespace) -> None:
    from distreid.data.synthetic import draw_domain
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


def _plan(options: argparse.Namespace) -> None:
    from distreid.config import load_config
    from distreid.plan import plan, read_figures, size_of

    workers = options.nodes * options.gpus
    config = load_config(options.config, [*options.overrides, f"runtime.workers={workers}"])
    size = size_of(config, options.nodes, options.gpus, options.images, options.queries, options.gallery)
    print(plan(config, size, read_figures([Path(file) for file in options.bench])))


def _train(options: argparse.Namespace) -> None:
    from distreid.config import load_config
    from distreid.launch import train

    train(load_config(options.config, options.overrides), resume=options.resume)


def _evaluate(options: argparse.Namespace) -> None:
    from distreid.accuracy import evaluate

    metrics = evaluate(
        on_this_machine(options.checkpoint, model_files),
        options.data,
        options.format,
        flip=options.flip,
        rerank=options.rerank,
        per_query=options.per_query,
    )
    _print_metrics(metrics, options.json)


def _score(options: argparse.Namespace) -> None:
    from distreid.accuracy import score

    metrics = score(
        Path(options.query),
        Path(options.gallery),
        protocol=options.protocol,
        rerank=options.rerank,
        per_query=options.per_query,
        device=options.device,
    )
    _print_metrics(metrics, options.json)


def _print_metrics(metrics: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(metrics))
        return
    from distreid.terminal import metrics_text

    print(metrics_text(metrics))


def _label(options: argparse.Namespace) -> None:
    from distreid.label import check_out, write_labels
    from distreid.labels import load_camids, load_features, make_pseudo_labels
    from distreid.terminal import labels_text

    settings = label_settings(**{name: getattr(options, name) for name in ("k1", "k2", "p", "min_samples", "neighbours")})
    check_out(Path(options.out))
    labels = make_pseudo_labels(
        load_features(options.features),
        settings,
        camids=load_camids(options.camids) if options.camids else None,
        eps=options.eps,
        device=options.device,
    )
    write_labels(Path(options.out), labels, Path(options.features))
    print(labels_text(labels))
    print(f"labels: {options.out}")


def _export(options: argparse.Namespace) -> None:
    from distreid.export import export

    done = export(on_this_machine(options.checkpoint, model_files), Path(options.out))
    print(f"{done.path}: {done.size / 1e6:,.1f} MB, images -> {done.channels} features, of {done.checkpoint}")
    print(f"checked: features differ from PyTorch's by {done.difference:.0e} of the largest")


def _embed(options: argparse.Namespace) -> None:
    from distreid.embed import embed

    done = embed(
        on_this_machine(options.checkpoint, model_files),
        options.data,
        Path(options.out),
        format=options.format,
        split=options.split,
        flip=options.flip,
    )
    splits = ", ".join(f"{count:,} {name}" for name, count in done.splits.items())
    print(f"{done.path}: {done.images:,} images ({splits}), {done.channels} features each, by {done.checkpoint}")


def _translate(options: argparse.Namespace) -> None:
    from distreid.terminal import translation_text
    from distreid.translation import translate

    done = translate(
        on_this_machine(options.checkpoint, model_files),
        options.data,
        options.format,
        Path(options.out),
        reverse=options.reverse,
        splits=options.splits,
        ground_truth=Path(options.truth) if options.truth else None,
        target_ground_truth=Path(options.target_truth) if options.target_truth else None,
    )
    print(translation_text(*done))


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

    print(report([on_this_machine(run, page_files) for run in options.runs], Path(options.out) if options.out else None))


def _status(options: argparse.Namespace) -> None:
    from distreid.status import status

    print(status(options.run))


def _runs(options: argparse.Namespace) -> None:
    from distreid.status import runs

    print(runs(Path(options.folder)))


def _bench(options: argparse.Namespace) -> None:
    from distreid.bench import bench

    if options.images_per_identity < 1:
        raise UserError(f"--images-per-identity {options.images_per_identity} must be greater than 0")
    settings = label_settings(p=options.p, device=options.device, neighbours=options.neighbours)
    how = {"settings": settings, "oracle": options.oracle, "images_per_identity": options.images_per_identity}
    print(bench(options.what, n=options.n, dim=options.dim, as_json=options.json, labels=how))
