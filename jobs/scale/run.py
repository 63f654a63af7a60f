"""`make scale`: one round at MSMT17's size on this machine, and a page with the time and memory of each of its stages.

    python jobs/scale/run.py [--fraction 0.05] [--out runs/scale]

Draws MSMT17's counts of people, packs them, trains jobs/scale/msmt17.yaml and runs jobs/scale/all.yaml, each by the command that a
user would give. What a command has made already is not made again. A smaller --fraction draws so large a part.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]  # before an installed distreid

from stages import ROLES, Stage, Watched  # noqa: E402

from distreid.training.environment import environment  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SOURCE = 64  # identities of the small labelled source
MEMORY = (
    "Memory in MB: the largest resident size of one process, shared pages included; together: private pages of all processes, and "
    "shared ones once."
)
# Stages of a training command that are its work; the rest is what a distributed run adds.
WORK = ("pre-training", "training", "features", "ranking")


def commands(out: Path, fraction: float) -> dict[str, list[str]]:
    """What is run, by title, as arguments of distreid; in the order of what they need."""
    drawn = [] if fraction == 1 else ["--fraction", str(fraction)]
    identities = max(8, round(fraction * SOURCE))
    files = {name: str(out / f"{name}.arrow") for name in ("day", "msmt17", "all")}

    def train(name: str, *more: str) -> list[str]:
        data = [f"output={out / name}", f"source.data={files['day']}", f"target.data={files[name]}"]
        if fraction < 1:
            data += ["labels.k1=10", "labels.k2=3"]
        return ["train", str(ROOT / f"jobs/scale/{name}.yaml"), *data, *more]

    return {
        "draw the source": ["synth", str(out / "day"), "--identities", str(identities)],
        "draw MSMT17's counts": ["synth", str(out / "night"), "--domain", "night", "--seed", "1", "--size", "msmt17", *drawn],
        "pack the source": ["pack", str(out / "day"), files["day"], "--format", "market1501"],
        "pack with identities": ["pack", str(out / "night"), files["msmt17"], "--format", "msmt17"],
        "pack all as a target": ["pack", str(out / "night"), files["all"], "--format", "folder"],
        "train msmt17.yaml": train("msmt17"),
        "run all.yaml": train("all", f"pretrain.checkpoint={out / 'msmt17'}"),
    }


def output_of(words: list[str]) -> Path:
    """The file or folder that a command makes."""
    if words[0] == "train":
        return Path(next(word.partition("=")[2] for word in words if word.startswith("output=")))
    return Path(words[1 if words[0] == "synth" else 2])


def run(title: str, words: list[str]) -> list[Stage]:
    """One command in processes of its own, and its stages. SystemExit where it fails."""
    print(f"{title}: distreid {' '.join(words)}", flush=True)
    process = subprocess.Popen([sys.executable, "-m", "distreid", *words], cwd=ROOT)
    watched = Watched(process.pid, output_of(words) / "progress.json" if words[0] == "train" else None, first=words[0])
    while process.poll() is None:
        watched.look()
        watched.wait()
    if process.returncode:
        sys.exit(f"{title} ended with {process.returncode}")
    return watched.end()


def spent(stages: list[Stage]) -> list[tuple[float, float, str]]:
    """All seconds of a training command and those of its work, by the clock and of CPU time."""
    work = [stage for stage in stages if stage.title.startswith(WORK)]
    clock = sum(stage.seconds for stage in stages), sum(stage.seconds for stage in work), ""
    return [clock, (sum(stage.cpu for stage in stages), sum(stage.cpu for stage in work), " of CPU time")]


def page(done: dict[str, list[Stage]], results: dict[str, Any], fraction: float) -> str:
    """Tables in Markdown: one of the machine's facts, one of a line for each stage."""
    machine = environment()["machine"]
    size = "All" if fraction == 1 else f"{fraction:g}"
    here = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB"
    lines = ["# A round at MSMT17's size", "", f"{size} of it on {here}. {MEMORY}", ""]
    lines += [
        f"| command | stage | seconds | CPU s | {' | '.join(ROLES)} | together |",
        "|---|---|---|---|" + "---|" * (len(ROLES) + 1),
    ]
    for title, stages in done.items():
        for stage in stages:
            memory = [f"{stage.peak[role] / 1e6:,.0f}" if role in stage.peak else "" for role in ROLES]
            cells = [title, stage.title, f"{stage.seconds:.1f}", f"{stage.cpu:.1f}", *memory, f"{stage.together / 1e6:,.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for title, result in results.items():
        took = [f"{whole:.0f} s{of}, {100 * (1 - work / whole):.1f} %" for whole, work, of in spent(done[title])]
        lines.append(f"{title}: {'; '.join(took)} of them outside features, training and ranking.")
        for line in result.get("rounds", []):
            seconds = line["seconds"]
            others = sum(value for name, value in seconds.items() if name not in ("extract", "train", "evaluate"))
            each = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
            lines.append(
                f"Round {line['round']}: {line['clusters']:,} clusters, {line['outliers']:,} images outside; {each}; "
                f"{100 * others / sum(seconds.values()):.1f} % of them outside extract, train and evaluate."
            )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    given = parser.parse_args()
    out, results = given.out.resolve(), dict[str, Any]()
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "stages.json"
    done = (
        {title: [Stage(**one) for one in stages] for title, stages in json.loads(kept.read_text()).items()} if kept.exists() else {}
    )
    for title, words in commands(out, given.fraction).items():
        place = output_of(words)
        if title in done or (place.exists() and words[0] != "train"):
            print(f"{title}: {place} is there", flush=True)
        else:
            done[title] = run(title, words)
        if words[0] == "train":
            results[title] = json.loads((place / "result.json").read_text(encoding="utf-8"))
        kept.write_text(json.dumps({title: [asdict(stage) for stage in stages] for title, stages in done.items()}))
        (out / "scale.md").write_text(page(done, results, given.fraction), encoding="utf-8")
    print((out / "scale.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
