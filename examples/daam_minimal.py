"""DAAM's Algorithm 1 in one screen: the library as a library, without Ray, configuration or run directory.

    python examples/daam_minimal.py

Draws a day and a night camera network, trains on the day's labels, clusters the night's images, trains on the clusters, and
prints the mAP before and after: about a minute on two cores. `distreid train` does the same with checkpoints, workers and a page.
"""

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

HEIGHT, WIDTH, BATCH, INSTANCES, SEED = 64, 32, 32, 4, 0  # INSTANCES: images of one person, or of one cluster, in a batch
LOSS = LossConfig()  # the paper's: soft labels, epsilon = 0.9


def draw(folder: Path, domain: str, identities: int, seed: int, *, labelled: bool) -> DomainData:
    """A camera network in Market-1501's layout, packed into one Arrow file."""
    draw_domain(folder / domain, domain=domain, identities=identities, cameras=3, images=4, seed=seed)
    pack(folder / domain, folder / f"{domain}.arrow", format="market1501")
    return open_domain(DomainConfig(data=str(folder / f"{domain}.arrow")), labelled=labelled)


def mean_average_precision(model: DAAMNet, domain: DomainData) -> float:
    """The market protocol: a query's own images in its own camera do not count."""
    test, features_ND = domain.test, extract(model, domain.test.images, height=HEIGHT, width=WIDTH)
    query, gallery = (Features(features_ND[side], test.pids[side], test.camids[side]) for side in test.sides)
    return 100 * rank(query, gallery).mAP


def train(
    model: DAAMNet, domains: list[DomainData], plans: list[BatchPlan], loss: Callable[[Batch], torch.Tensor], rate: float
) -> None:
    """AdamW over the batches of some epochs, a plan each."""
    augmentation = Augmentation(HEIGHT, WIDTH, flip=0.5, pad=4, erase=0.5, mean=model.mean, std=model.std)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, sum(map(len, plans)))
    model.train()
    for epoch, plan in enumerate(plans):
        for batch in training_batches([domain.train for domain in domains], plan, augmentation, [SEED, epoch]):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
            schedule.step()


def pretrain(model: DAAMNet, source: DomainData, epochs: int) -> None:
    """Line 1 of Algorithm 1: Eq. 3 on the source."""

    def loss(batch: Batch) -> torch.Tensor:
        output = model(batch.images_BCHW, torch.tensor(batch.domain_B))
        return source_identity_loss(output.source_logits_SN, torch.tensor(source.labels[batch.index_B]), smoothing=0.1)

    stream = PKStream(source.labels, INSTANCES, [SEED, 0])
    train(model, [source], [plan_one(stream, epoch, BATCH) for epoch in range(epochs)], loss, 2e-3)


def adapt(model: DAAMNet, source: DomainData, target: DomainData, number: int, epochs: int) -> None:
    """Lines 3 to 6: features, pseudo-labels, a head for the clusters, and Eq. 7 on batches that are half source, half target."""
    features_ND = extract(model, target.train, height=HEIGHT, width=WIDTH)
    pseudo = make_pseudo_labels(features_ND, k1=12, k2=3, p=0.03, features="raw")
    centers_KD = torch.tensor(pseudo.centers)
    clustered = np.flatnonzero(pseudo.labels >= 0)  # outliers sit the round out
    print(f"round {number}: {pseudo.num_clusters} clusters of {len(clustered)} images; {len(features_ND) - len(clustered)} in none")
    model.new_target_head(pseudo.num_clusters, seed=number)

    def loss(batch: Batch) -> torch.Tensor:
        index_T, sides = clustered[batch.index_B[batch.domain_B == TARGET]], batch.sides
        source_S = torch.tensor(source.labels[batch.index_B[batch.domain_B == SOURCE]])
        target_T, features_TD = torch.tensor(pseudo.labels[index_T]), torch.tensor(features_ND[index_T])
        weights_TK = soft_labels(features_TD, centers_KD, target_T, LOSS, normalized=pseudo.normalized)  # Eq. 4
        output = model(batch.images_BCHW, (sides.source_S, sides.target_T))
        return total(total_loss(output, sides.domain_B, Identities(source_S, target_T, weights_TK), LOSS))  # Eq. 7

    streams = [PKStream(labels_N, INSTANCES, [SEED, number]) for labels_N in (source.labels, pseudo.labels[clustered])]
    train(model, [source, target], [plan_mixed(*streams, epoch, BATCH, group=BATCH) for epoch in range(epochs)], loss, 1e-3)


def main(identities: int = 32, epochs: int = 10, rounds: int = 2, round_epochs: int = 4) -> None:
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as folder:
        source = draw(Path(folder), "day", identities, SEED, labelled=True)
        target = draw(Path(folder), "night", identities, SEED + 1, labelled=False)
        backbone = build_backbone("resnet18", weights="none", size=(HEIGHT, WIDTH))
        model = DAAMNet(backbone, source.identities, attention_start="neutral", neck=True)
        pretrain(model, source, epochs)
        before = mean_average_precision(model, target)
        for number in range(1, rounds + 1):
            adapt(model, source, target, number, round_epochs)
        print(f"mAP on the target: {before:.1f} before adapting, {mean_average_precision(model, target):.1f} after")


if __name__ == "__main__":
    main()
