"""A table's head and lines as text, Markdown, CSV or LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from distreid.common.text import text_table

Format = Callable[[list[str], list[list[str]], Sequence[str]], str]  # (head, lines, [title, note])


def _text(head: list[str], lines: list[list[str]], notes: Sequence[str]) -> str:
    title, note = notes
    groups = list(dict.fromkeys(cell.rsplit(" ", 1)[0] for cell in head[1:]))
    letters = {group: chr(ord("A") + number) for number, group in enumerate(groups)}
    short = ["", *(f"{letters[cell.rsplit(' ', 1)[0]]} {cell.rsplit(' ', 1)[1]}" for cell in head[1:])]
    legend = "   ".join(f"{letter}: {group}" for group, letter in letters.items())
    return "\n".join([title, legend, "", text_table(short, lines), note])


def _markdown(head: list[str], lines: list[list[str]], notes: Sequence[str]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join([f"**{notes[0]}**", "", *("| " + " | ".join(line) + " |" for line in [head, rule, *lines]), "", notes[1]])


def _csv(head: list[str], lines: list[list[str]], notes: Sequence[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([["row", *head[1:]], *lines])
    return stream.getvalue().rstrip("\n")


def _latex(head: list[str], lines: list[list[str]], notes: Sequence[str]) -> str:
    def row(cells: Sequence[str]) -> str:
        signs = {"→": r"$\rightarrow$", "±": r"$\pm$", "–": "--", "%": r"\%", "_": r"\_", "&": r"\&"}
        return " & ".join("".join(signs.get(letter, letter) for letter in cell) for cell in cells) + r" \\"

    body = [row(head), r"\midrule", *map(row, lines)]
    return "\n".join(
        [
            f"% {notes[0]}. {notes[1]}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


FORMATS: dict[str, Format] = {"text": _text, "markdown": _markdown, "csv": _csv, "latex": _latex}
