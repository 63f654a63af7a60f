"""What commands print: the same characters everywhere, and styles at a terminal alone. The terminal is a real pseudo-terminal."""

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distreid.common.claim import Claim
from distreid.common.progress import Progress
from distreid.common.terminal import TerminalReporter, marked
from distreid.common.text import text_table
from distreid.report.text import result_table

RESULT = {
    "method": "daam",
    "direct_transfer": {"mAP": 0.25, "rank1": 0.5, "protocol": "single_query"},
    "rounds": [
        {
            "round": 1,
            "eps": 0.5,
            "clusters": 1234,
            "outliers": 7,
            "mAP": 0.5,
            "rank1": 0.625,
            "protocol": "single_query",
            "seconds": {"train": 61.2},
        },
        {"round": 2, "eps": 0.25, "clusters": 8, "outliers": 0, "seconds": {"train": 1}},
    ],
    "final": {"mAP": 0.5, "rank1": 0.625},
}
TABLE = """\
                   eps  clusters  outliers   mAP  Rank-1  seconds
─────────────────────────────────────────────────────────────────
direct transfer                             25.0    50.0
round 1          0.500     1,234         7  50.0    62.5       61
round 2          0.250         8         0     –       –        1
─────────────────────────────────────────────────────────────────
adapted (final)                             50.0    62.5
+25.0 mAP points over direct transfer
mAP and Rank-1 in percent, single query, no re-ranking"""


def test_a_runs_table() -> None:
    assert result_table(RESULT) == TABLE


def test_head_rules_last_line_and_gain_are_marked() -> None:
    text = marked(f"some words\n\n{TABLE}")
    assert text.plain == f"some words\n\n{TABLE}"
    styles = {text.plain[span.start : span.end]: span.style for span in text.spans}
    lines = TABLE.split("\n")
    assert styles[lines[0]] == styles[lines[6]] == "bold" and styles[lines[1]] == "dim"
    assert styles["+25.0 mAP points"] == "bold green" and styles["–"] == "dim"
    assert not {lines[2], lines[3], "some words"} & styles.keys()


def test_a_decline_is_red_and_a_hyphen_is_no_missing_figure() -> None:
    styles = [span.style for span in marked("-3.0 mAP points over direct transfer\nfrom 1–2 and well-known").spans]
    assert styles == ["bold red"]


def test_columns_to_the_left_and_right() -> None:
    assert text_table(["run", "n"], [["a", "1"], ["long", "200"]]) == "run     n\n─────────\na       1\nlong  200"
    assert text_table(["run", "n"], [["a", "1"], ["b", "200"]], left={0, 1}, rule=False) == "run  n\na    1\nb    200"


def printed_at_a_terminal(code: str, **environment: str) -> str:
    """What a process prints on a pseudo-terminal."""
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "CI")}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=env | {"TERM": "xterm-256color"} | environment
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
        if not part:
            break
        seen += part
    os.close(ours)
    assert process.wait() == 0, seen
    return seen.decode().replace("\r\n", "\n")


SHOW = f"from distreid.common.terminal import show; show({TABLE!r})"


@pytest.mark.parametrize("columns", ["40", "120"])
def test_at_a_terminal_styles_and_the_same_characters(columns: str) -> None:
    seen = printed_at_a_terminal(SHOW, COLUMNS=columns)
    assert "\x1b[1m" in seen and re.sub(r"\x1b\[[0-9;]*m", "", seen) == TABLE + "\n"


def test_no_color_takes_the_colours() -> None:
    seen = printed_at_a_terminal(SHOW, NO_COLOR="1")
    assert "\x1b[32m" not in seen and "\x1b[1;32m" not in seen


def test_plain_where_there_is_no_terminal() -> None:
    assert subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True).stdout == TABLE + "\n"


@pytest.mark.slow
def test_a_step_of_unknown_length_says_in_a_log_that_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("distreid.common.terminal.LINE_EVERY", 0.2)
    claim, said = Claim(tmp_path), ""
    claim.take()
    with Progress(claim, TerminalReporter()) as reporter:
        reporter.stage("features of the target", 100)
        time.sleep(2.5)  # no step: it has a length, and would say how far it is
        reporter.stage("pseudo-labels", 0)
        deadline = time.monotonic() + 60
        while said.count("so far") < 2 and time.monotonic() < deadline:
            said += capsys.readouterr().err
            time.sleep(0.1)
    claim.release()
    seconds = [int(number) for number in re.findall(r"^  pseudo-labels: (\d+) s so far$", said, re.MULTILINE)]
    assert len(seconds) >= 2 and seconds == sorted(seconds) and "target: " not in said.replace("features of the target: 2.5 s", "")
