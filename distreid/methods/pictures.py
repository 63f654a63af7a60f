"""What a run's network sees, for its report: rank lists, attention or translations, an embedding, clusters. Labels are looked at.

Costs at most about one evaluation of the target: without a GPU, large test sets are sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from distreid.common.errors import UserError
from distreid.common.layout import round_number
from distreid.common.text import protocol_name
from distreid.config import Config
from distreid.data import ImageStore
from distreid.data.loader import View, plain_batches
from distreid.evaluation import Features, first_ranked, hit_ranks, per_query
from distreid.methods.clusters import score_clusters
from distreid.methods.exhibits import Attended, Cloud, Grid, Pictures, RankList
from distreid.methods.local import training_device
from distreid.methods.networks import load_model
from distreid.methods.registry import report_of
from distreid.methods.thumbnails import store_of, subsample, thumbnails
from distreid.models import DAAMNet, ReIDNetwork
from distreid.training import Precision, RunDirectory, load_checkpoint
from distreid.training.domains import DomainData, TestSet, open_domain
from distreid.training.features import extract

Progress = Callable[[int, int], None]
QUERIES, RANKED = 3, 10  # of each kind; images of a ranking
OVERLAYS = 4  # images of each domain
GRIDS = 4
PEOPLE, EACH = 12, 20  # identities of the embedding, images of each at most
CPU_IMAGES = 3000  # test images ranked without a GPU


def take_pictures(path: Path, *, progress: Progress | None = None) -> Pictures:
    """The pictures of a run's last finished round.

    Raises:
        UserError: no round has finished, or the target's data cannot be opened or are not what the run was trained on.
    """
    model, config, file = load_model(path)
    number, run = round_number(file.name) or 0, RunDirectory(path)
    target = open_domain(config.target, labelled=False, tested=config.evaluate.target)
    if load_checkpoint(file)["content"][1] != target.content:
        raise UserError(f"{config.target.data}: not the data that {path} was trained on")
    notes = []
    try:
        source: DomainData | None = open_domain(config.source, labelled=True)
    except UserError as error:
        source = None
        notes.append(f"Nothing of the source is shown ({error}).")
    extractor = FeatureExtractor(model, config)
    clusters, labels = score_clusters(run, target)
    pictures = Pictures(
        round=number,
        attended=[
            one for role, network in (("source", source), ("target", target)) if network for one in attend(extractor, role, network)
        ],
        grids=grids(path),
        data=[(role, str(network)) for role, network in (("source", source), ("target", target)) if network],
        **clusters,
    )
    if isinstance(model, DAAMNet) and model.attention is None:
        notes.append("This variant of the network has no attention module, so there are no overlays.")
    if target.test is not None:
        protocol = target.test.protocol
        tested = protocol_name({"protocol": protocol.name, "splits": len(protocol.test_pids), "cameras": target.test.cameras})
        pictures = replace(pictures, protocol=tested)
        try:
            chosen, among = rank_lists(extractor, target.test, progress)
            pictures = replace(pictures, rank_lists=chosen, ranked_among=among)
        except UserError as error:
            notes.append(f"There are no rank lists: {error}.")
    view, groups_N, kind = _to_embed(target, labels)
    if len(view) > 5:
        models = [("direct transfer", run.round_checkpoint(0))] if number and run.round_checkpoint(0).exists() else []
        clouds = [embed(FeatureExtractor(load_model(before)[0], config), name, view, groups_N) for name, before in models]
        clouds.append(embed(extractor, report_of(config.method).title(number) if number else "direct transfer", view, groups_N))
        pictures = replace(pictures, clouds=clouds, embedding_of=kind)
    return replace(pictures, notes=notes)


class FeatureExtractor:
    """A network with the run's way of using it."""

    def __init__(self, model: ReIDNetwork, config: Config) -> None:
        settings = config.runtime
        # Not where the run was trained, perhaps: a GPU that it demanded need not be here.
        self.device = training_device("no" if settings.gpu == "no" else "auto")
        self.precision = Precision.to_use(settings.precision, self.device, channels_last=settings.channels_last)
        self.precision.place(model)
        self.model, self.config = model, config

    def features(self, images: View, progress: Progress | None = None) -> np.ndarray:
        """float32 [n, c]."""
        return extract(
            self.model,
            images,
            slice(0, len(images)),
            height=self.config.input.height,
            width=self.config.input.width,
            batch=self.config.evaluate.batch_size,
            precision=self.precision,
            flip=self.config.evaluate.flip,
            progress=None if progress is None else lambda done: progress(done, len(images)),
        )

    def attention(self, images: View) -> tuple[np.ndarray, np.ndarray | None]:
        """The branches' shares of the activation at each place, float32 [n, h, w]; see :class:`distreid.report.Attended`."""
        model, settings = self.model.eval(), self.config.input
        assert isinstance(model, DAAMNet) and model.attention is not None
        batches = plain_batches(
            images, slice(0, len(images)), len(images), settings.height, settings.width,
            mean=model.mean, std=model.std, device=self.device,
        )  # fmt: skip
        with torch.inference_mode(), self.precision.autocast():
            f_Bchw = model.backbone(self.precision.layout(next(iter(batches))))
            weight_Bchw = f_Bchw.float().abs()  # not every backbone ends in a ReLU
            weight_Bchw = weight_Bchw / weight_Bchw.sum(1, keepdim=True).clamp_min(1e-12)
            a_Bchw = model.attention(f_Bchw).float()
            b_Bchw = 1 - a_Bchw if model.specific_attention is None else model.specific_attention(f_Bchw).float()
            shared, specific = ((part * weight_Bchw).sum(1).cpu().numpy() for part in (a_Bchw, b_Bchw))
        return shared, None if model.domain_head is None else specific


def attend(extractor: FeatureExtractor, role: str, network: DomainData) -> list[Attended]:
    """A few of a domain's training images, at even steps."""
    attends = isinstance(extractor.model, DAAMNet) and extractor.model.attention is not None
    if not attends or not isinstance(network.train.store, ImageStore):  # source.extra: images of two files
        return []
    index = subsample(np.arange(len(network.train)), OVERLAYS)
    view = View(network.train.store, network.train.rows[index])
    shared, specific = extractor.attention(view)
    return [
        Attended(role, crop, shared[at], None if specific is None else specific[at])
        for at, crop in enumerate(thumbnails(view, np.arange(len(view))))
    ]


def grids(path: Path) -> list[Grid]:
    """What a method drew after some epochs, at even steps, the first and the last among them."""
    files = sorted((path / "pictures").glob("epoch-*.png"))
    chosen = [files[at] for at in sorted({round(at) for at in np.linspace(0, len(files) - 1, GRIDS)})] if files else []
    return [Grid(int(file.stem.removeprefix("epoch-")), np.asarray(Image.open(file).convert("RGB"))) for file in chosen]


def rank_lists(
    extractor: FeatureExtractor, test: TestSet, progress: Progress | None = None
) -> tuple[list[RankList], tuple[int, int]]:
    """The queries with the best, median and worst AP, each of another person; gallery images ranked, and there are."""
    everything = len(test.images)
    query_index, gallery_index = sample(test, everything if extractor.device.type == "cuda" else CPU_IMAGES)
    index = np.concatenate([query_index, gallery_index])
    features_nD = extractor.features(View(test.images.store, test.images.rows[index]), progress)
    every = Features(features_nD, test.pids[index], test.camids[index])
    query, gallery = every.take(np.arange(len(query_index))), every.take(np.arange(len(query_index), len(index)))
    each = per_query(hit_ranks(query, gallery, device=extractor.device))
    found = np.flatnonzero(each.positives > 0)
    worst_first = found[np.argsort(each.ap_hits[found], kind="stable")]
    middle = worst_first[np.argsort(np.abs(np.arange(len(worst_first)) - len(worst_first) // 2), kind="stable")]
    chosen = []
    for kind, order in (("best", worst_first[::-1]), ("median", middle), ("worst", worst_first)):
        _, first = np.unique(query.pids[order], return_index=True)
        for q in order[np.sort(first)[:QUERIES]]:
            nearest, similarity = ranking(query.take(np.array([q])), gallery, RANKED)
            chosen.append(
                RankList(
                    kind=kind,
                    query=thumbnails(test.images, query_index[[q]])[0],
                    ap=float(each.ap_hits[q]),
                    positives=int(each.positives[q]),
                    first_hit=int(each.first_hit[q]),
                    ranked=list(zip(thumbnails(test.images, gallery_index[nearest]), similarity.tolist(), strict=True)),
                )
            )
    return chosen, (len(gallery_index), test.sides[1].stop - test.sides[1].start)


def ranking(query: Features, gallery: Features, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first gallery rows of one query by cosine, and their similarities; the protocol's images left out."""
    same_camera = (gallery.camids == query.camids) & (query.camids != -1)
    left_out = (gallery.pids == -1) | ((gallery.pids == query.pids) & same_camera)
    (ranked,) = first_ranked(query.features, gallery.features, left_out[None], count)
    return ranked


def sample(test: TestSet, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Queries and gallery images to rank, as indices of the test set: all, or about ``limit``, with every match of each query."""
    queries, gallery = (np.arange(len(test.images))[side] for side in test.sides)
    if len(test.images) <= limit:
        return queries, gallery
    queries = subsample(queries, limit // 10)
    wanted = np.isin(test.pids[gallery], test.pids[queries])
    others = subsample(gallery[~wanted], max(0, limit - len(queries) - int(wanted.sum())))
    return queries, np.sort(np.concatenate([gallery[wanted], others]))


def _to_embed(target: DomainData, labels_N: np.ndarray | None) -> tuple[View, np.ndarray, str]:
    """Test images of some identities seen by several cameras; without a test set, training images of some clusters."""
    if target.test is not None:
        images, groups, kind = target.test.images, target.test.pids, "identity"
        seen = {int(pid): np.unique(target.test.camids[groups == pid]) for pid in np.unique(groups[: target.test.queries])}
        usable = [pid for pid, cameras in seen.items() if len(cameras) > 1] or list(seen)
    elif labels_N is not None:
        images, groups, kind = target.train, labels_N, "cluster"
        usable = np.unique(labels_N[labels_N >= 0]).tolist()
    else:
        return View(target.train.store, np.zeros(0, np.int64)), np.zeros(0, np.int64), ""
    chosen = subsample(np.array(usable), PEOPLE)
    index = np.concatenate([subsample(np.flatnonzero(groups == group), EACH) for group in chosen])
    return View(images.store, images.rows[index]), groups[index], kind


def embed(extractor: FeatureExtractor, name: str, view: View, groups_N: np.ndarray) -> Cloud:
    """t-SNE (van der Maaten & Hinton 2008) of L2-normalised features."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    features_ND = extractor.features(view)
    features_ND /= np.maximum(np.linalg.norm(features_ND, axis=1, keepdims=True), 1e-12)
    perplexity = min(20.0, (len(features_ND) - 1) / 3)
    with threadpool_limits(1):  # a few hundred points: more threads only wait for each other
        tsne = TSNE(
            init="pca", perplexity=perplexity, early_exaggeration=12.0, learning_rate="auto", metric="euclidean",
            method="barnes_hut", angle=0.5, random_state=0,
        )  # fmt: skip
        xy_N2 = tsne.fit_transform(features_ND)
    return Cloud(name, xy_N2, groups_N, store_of(view).camids[view.rows])
