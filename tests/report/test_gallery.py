"""Pictures from arrays that a test can know: frames, words, colours, data."""

import io
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distreid.methods.exhibits import Attended, Cloud, Cluster, Crop, Pictures, RankList
from distreid.report import write_report
from distreid.report.charts import scatter
from distreid.report.html import chart_svg
from distreid.report.images import heat, overlay, picture
from tests.report.document import Node, figure, parse, read
from tests.report.pages import check_page, csv_of, titles
from tests.report.runs import whole_run

BAD = "<script>&\"'.jpg"


def crop(pid: int, camid: int = 1, grey: int = 100) -> Crop:
    return Crop(np.full((16, 8, 3), grey, np.uint8), BAD, pid, camid)


def drawn_pictures(known: bool = True) -> Pictures:
    ranked = [(crop(7, 2), 0.9), (crop(3, 2), 0.8), (crop(7, 3), 0.7)]
    maps = np.linspace(0.4, 0.6, 8).reshape(4, 2).astype(np.float32)
    score, identities, pid = (0.75, 2, 7) if known else (0.75, None, -1)
    return Pictures(
        round=3,
        rank_lists=[RankList("worst", crop(7), 0.5, 2, 1, ranked)],
        ranked_among=(120, 300),
        attended=[Attended("target", crop(7), maps, 1 - maps), Attended("source", crop(8), maps, 1 - maps)],
        clouds=[Cloud("round 3", np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]]), np.array([7, 7, 3]), np.array([1, 2, 2]))],
        labels_round=3,
        known=known,
        clusters=[
            Cluster(4, 6, 1.0 if known else 0.9, 1 if known else None, 3 if known else -1, [crop(3)]),
            Cluster(2, 5, 0.8, identities, pid),
            Cluster(0, 4, score, identities, pid, [crop(7), crop(3)]),
        ],
        data=[("target", BAD)],
        notes=[f"Nothing of {BAD}."],
    )


def kinds(node: Node) -> list[str | None]:
    return [item.attributes["class"] for item in node.all("li")]


def test_every_picture_is_on_the_page_and_escaped(tmp_path: Path) -> None:
    page = read(write_report(whole_run(tmp_path / "r"), pictures=drawn_pictures()))
    check_page(page)
    assert titles(page) >= {"Rank lists", "Attention", "Embedding", "Clusters"}
    assert f"Taken with the model of round 3. Nothing of {BAD}." in page.text
    for image in page.all("img"):
        kind, _, content = (image.attributes["src"] or "").partition(",")
        assert kind == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(b64decode(content))).size == (8, 16)


def test_rank_lists_frame_what_matches(tmp_path: Path) -> None:
    page = read(write_report(whole_run(tmp_path / "r"), pictures=drawn_pictures()))
    ranks = figure(page, "Rank lists")
    assert kinds(ranks) == ["query", "hit", "miss", "hit"]
    assert [item.one("span").text for item in ranks.all("li")] == ["query", "1 ✓", "2 ✗", "3 ✓"]
    assert ranks.all("img")[2].attributes["alt"] == "rank 2, wrong: identity 3, camera 2, cosine similarity 0.800"
    assert "AP 50.0, first match at rank 1, 2 matches in the gallery" in ranks.text
    assert "a sample of 120 of the 300 gallery images" in ranks.text
    assert csv_of(ranks)[2] == ["worst", BAD, "7", "1", "0.5", "2", BAD, "3", "2", "0", "0.8"]


def test_overlays_come_in_threes_with_their_values(tmp_path: Path) -> None:
    attention = figure(read(write_report(whole_run(tmp_path / "r"), pictures=drawn_pictures())), "Attention")
    assert [item.one("span").text for item in attention.all("li")] == ["target", "A", "1 − A", "source", "A", "1 − A"]
    assert "4 × 2 places" in attention.text and "0.400 (blue) to 0.600 (red)" in attention.text
    rows = csv_of(attention)
    assert len(rows) == 1 + 2 * 8
    assert rows[8][2:4] == ["3", "1"]
    assert [float(value) for value in rows[8][4:]] == pytest.approx([0.6, 0.4])


def test_warm_is_much_and_the_map_stays_in_its_place() -> None:
    map_hw = np.array([[0.0, 0.0], [0.0, 1.0]])
    out = overlay(np.full((40, 20, 3), 128, np.uint8), map_hw, 0.0, 1.0).astype(int)
    assert out.shape == (40, 20, 3)
    assert out[-1, -1, 0] > out[-1, -1, 2] + 50, "red in the lower right corner"
    assert out[0, 0, 2] > out[0, 0, 0] + 20, "blue elsewhere"
    assert heat(np.array([-1.0, 2.0])).tolist() == heat(np.array([0.0, 1.0])).tolist()


def test_an_image_survives_its_way_into_the_page() -> None:
    pixels = np.zeros((32, 16, 3), np.uint8)
    pixels[:16, :, 0] = 250
    image = picture(pixels, BAD)
    assert (image.width, image.height, image.alternative) == (16, 32, BAD)
    back = np.asarray(Image.open(io.BytesIO(b64decode(image.source.partition(",")[2]))))
    assert np.abs(back.astype(int) - pixels).mean() < 6


@pytest.mark.parametrize("known", [True, False])
def test_clusters_are_judged_by_what_is_known(tmp_path: Path, known: bool) -> None:
    clusters = figure(read(write_report(whole_run(tmp_path / "r"), pictures=drawn_pictures(known))), "Clusters")
    strips = [node.text for node in clusters.all("p")]
    if known:
        assert strips == [
            "purest cluster 4: 6 images, 1 identity, purity 100.0 %", "most mixed cluster 0: 4 images, 2 identities, purity 75.0 %",
        ]  # fmt: skip
        assert kinds(clusters) == ["hit", "hit", "miss"]
        assert "1 of 3 clusters hold one identity only; 86.7 % of the clustered images" in clusters.text
        assert "training never saw them" in clusters.text
    else:
        assert strips == ["tightest cluster 4: 6 images, silhouette 0.90", "loosest cluster 0: 4 images, silhouette 0.75"]
        assert kinds(clusters) == ["plain"] * 3
        assert "identities are unknown" in clusters.text
    assert [row[0] for row in csv_of(clusters)] == ["cluster", "0", "2", "4"]


def test_points_keep_their_shape_and_group() -> None:
    xy = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    svg = parse(chart_svg(scatter("s", "Title", "Words", xy, ["a", "b", "a"], ["a", "b"]))).one("svg")
    marks = [node for node in svg.walk() if "cat-" in (node.attributes.get("class") or "") and node.all("title")]
    assert [(node.tag, node.attributes["class"], node.text) for node in marks] == [
        ("circle", "mark cat-0", "a"), ("path", "mark cat-1", "b"), ("circle", "mark cat-0", "a"),
    ]  # fmt: skip
    first, third = marks[0].attributes, marks[2].attributes
    assert first["cx"] == third["cx"]
    across = 400 - 2 * 12
    assert float(third["cy"] or "") - float(first["cy"] or "") == pytest.approx(across / 2, abs=0.2), "one scale for both axes"


def test_one_point_can_be_drawn() -> None:
    assert "nan" not in chart_svg(scatter("s", "T", "W", np.zeros((1, 2)), ["a"], ["a"]))
