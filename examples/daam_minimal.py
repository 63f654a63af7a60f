"""DAAM's Algorithm 1 in one screen: the library as a library, without Ray, configuration or run directory.

    python examples/daam_minimal.py

Draws a day and a night camera network, trains on the day's labels, clusters the night's images, trains on the clusters, and
prints the mAP before and after: about a minute on two cores. `distreid train` does the same with checkpoints, workers and a page.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from distreid.config import DomainConfig, LossConfig
from distreid.data import pack
from distreid.data.loader import Augmentation, Batch, training_batches
from distreid.data.sampling import SOURCE, TARGET, BatchPlan, PKStream, plan_mixed, plan_one
from distreid.data.synthetic import draw_domain
from distreid.evaluation import Features, rank
from distreid.labels import make_pseudo_labels
from distreid.methods.daam.losses import Identities, soft_labels, source_identity_loss, total_loss
from distreid.models import DAAMNet, build_backbone
from distreid.training.domains import DomainData, open_domain
from distreid.training.features import extract
from distreid.training.stage import total

SIZE = {"height": 64, "width": 32}
BATCH, INSTANCES = 32, 4  # images of a batch; images of one person, or of one cluster, in it
LOSS = LossConfig()  # the paper's: soft labels, epsilon = 0.9


def open_network(folder: Path, domain: str, identities: int, seed: int, *, labelled: bool) -> DomainData:
    """Draw a camera network in Market-1501's layout, pack it into one Arrow file and open that."""
    draw_domain(folder / domain, domain=domain, identities=identities, cameras=3, images=4, seed=seed)
    pack(folder / domain, folder / f"{domain}.arrow", format="market1501")
    return open_domain(DomainConfig(data=str(folder / f"{domain}.arrow")), labelled=labelled)


def mean_average_precision(model: DAAMNet, domain: DomainData) -> float:
    """The market protocol: a query's own image in its own camera does not count."""
    test, features_ND = domain.test, extract(model, domain.test.images, **SIZE)
    query, gallery = (Features(features_ND[side], test.pids[side], test.camids[side]) for side in test.sides)
    return rank(query, gallery).mAP


def train(
    model: DAAMNet,
    domains: list[DomainData],
    plans: list[BatchPlan],
    loss: Callable[[Batch], torch.Tensor],
    rate: float,
    seed: int,
) -> None:
    """AdamW over the batches of some epochs."""
    augmentation = Augmentation(**SIZE, flip=0.5, pad=4, erase=0.5, mean=model.mean, std=model.std)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, sum(map(len, plans)))
    model.train()
    for epoch, plan in enumerate(plans):
        for batch in training_batches([domain.train for domain in domains], plan, augmentation, [seed, epoch]):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
            schedule.step()


def pretrain(model: DAAMNet, source: DomainData, epochs: int, seed: int) -> None:
    """Line 1 of Algorithm 1: Eq. 3 on the source."""
    stream = PKStream(source.labels, INSTANCES, [seed, 0])

    def loss(batch: Batch) -> torch.Tensor:
        output = model(batch.images_BCHW, torch.tensor(batch.domain_B))
        return source_identity_loss(output.source_logits_SN, torch.tensor(source.labels[batch.index_B]), smoothing=0.1)

    train(model, [source], [plan_one(stream, epoch, BATCH) for epoch in range(epochs)], loss, 2e-3, seed)


def adapt(model: DAAMNet, source: DomainData, target: DomainData, number: int, epochs: int, seed: int) -> None:
    """Lines 3 to 6: features, pseudo-labels, a head for the clusters, and Eq. 7 on batches that are half source, half target."""
    features_ND = extract(model, target.train, **SIZE)
    pseudo = make_pseudo_labels(features_ND, k1=12, k2=3, p=0.03, features="raw")
    centers_KD = torch.tensor(pseudo.centers)
    print(f"round {number}: {pseudo.num_clusters} clusters, {(pseudo.labels < 0).sum()} of {len(features_ND)} images in none")
    model.new_target_head(pseudo.num_clusters, seed=number)
    clustered = np.flatnonzero(pseudo.labels >= 0)  # outliers sit the round out
    streams = [
        PKStream(labels_N, INSTANCES, [seed, number, which])
        for which, labels_N in enumerate((source.labels, pseudo.labels[clustered]))
    ]

    def loss(batch: Batch) -> torch.Tensor:
        index_T = clustered[batch.index_B[batch.domain_B == TARGET]]
        source_S = torch.tensor(source.labels[batch.index_B[batch.domain_B == SOURCE]])
        target_T, features_TD = torch.tensor(pseudo.labels[index_T]), torch.tensor(features_ND[index_T])
        weights_TK = soft_labels(features_TD, centers_KD, target_T, LOSS, normalized=pseudo.normalized)  # Eq. 4
        who = Identities(source_S, target_T, weights_TK)
        output = model(batch.images_BCHW, (batch.sides.source_S, batch.sides.target_T))
        return total(total_loss(output, batch.sides.domain_B, who, LOSS))  # Eq. 7

    plans = [plan_mixed(*streams, epoch, BATCH, group=BATCH) for epoch in range(epochs)]
    train(model, [source, target], plans, loss, 1e-3, seed + number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("identities", 32), ("epochs", 10), ("rounds", 2), ("round-epochs", 4), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        source = open_network(Path(folder), "day", options.identities, options.seed, labelled=True)
        target = open_network(Path(folder), "night", options.identities, options.seed + 1, labelled=False)
        backbone = build_backbone("resnet18", weights="none", size=(SIZE["height"], SIZE["width"]))
        model = DAAMNet(backbone, source.identities, attention_start="neutral", neck=True)
        pretrain(model, source, options.epochs, options.seed)
        before = mean_average_precision(model, target)
        for number in range(1, options.rounds + 1):
            adapt(model, source, target, number, options.round_epochs, options.seed)
        after = mean_average_precision(model, target)
    print(f"mAP on the target: {100 * before:.1f} before adapting, {100 * after:.1f} after")


if __name__ == "__main__":
    main()
