"""`distreid demo`, on networks smaller than those it would draw itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from distreid.actions.demo import synthetic_settings
from distreid.cli import main
from distreid.config import config_from_dict
from distreid.data import ImageStore
from distreid.data.synthetic import draw_domain

EDAAN = [
    "edaan.epochs=1", "edaan.decay_epochs=0", "edaan.whole_epochs=0", "edaan.attention_epochs=1",
    "edaan.pictures_every=0", "edaan.network.width=4", "edaan.network.discriminator_width=4",
]  # fmt: skip


@pytest.mark.parametrize("method", ["daam", "edaan"])
def test_its_settings_are_valid_as_they_are(method: str) -> None:
    config = config_from_dict(synthetic_settings(Path("data"), 0, method) | {"output": "run"})
    assert config.method == method


@pytest.mark.slow
def test_edaan_ends_with_a_measured_translation_and_a_second_call_repeats_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, domain in enumerate(("day", "night")):
        folder = tmp_path / "run-data-3" / domain
        draw_domain(folder, domain=domain, identities=6, cameras=3, images=2, seed=number, masks=True)
    call = ["demo", "--method", "edaan", "--out", str(tmp_path / "run"), "--seed", "3", *EDAAN]
    main(call)
    said = capsys.readouterr().out
    images = ImageStore.open(tmp_path / "run" / "translated" / "images.arrow")
    source = ImageStore.open(tmp_path / "run-data-3" / "day.arrow")
    assert images.paths.tolist() == source.paths[source.splits == "train"].tolist()
    figures = {name.strip(): float(value) for name, value in re.findall(r"^([a-z ]+?) +(\d+\.\d+)$", said, re.MULTILINE)}
    assert figures.keys() >= {"foreground iou", "foreground changed", "background changed", "background distance after"}
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["seed"] == 3 and result["method"] == "edaan" and 0 < result["final"]["mAP"] <= 1
    main(call)
    assert said.splitlines()[-6:] == capsys.readouterr().out.splitlines()[-6:]
