"""DAAM's runs as the report tells them; equations are those of Huang et al., AAAI 2020."""

from distreid.methods.spec import TRIPLET, LossTerm, PictureSpec, ReportSpec, rounds_of

REPORT = ReportSpec(
    name="DAAM",
    losses=(
        LossTerm("source", "Cross entropy over the source's identities (Eq. 3); pre-training smooths the labels."),
        LossTerm("target", "Cross entropy with each target image's pseudo-identity (hard labels).", given=("loss.target", "hard")),
        LossTerm("target", "Cross entropy with smoothed pseudo-identities (LSR).", given=("loss.target", "lsr")),
        LossTerm("target", "Cross entropy with soft labels, weighted by the distances to the cluster centres (Eq. 5)."),
        LossTerm("domain", "Source or target, told from the domain-specific features (Eq. 6)."),
        TRIPLET,
    ),
    losses_caption="Pre-training sees the source identities alone; in the rounds each term is its share of the total (Eq. 7).",
    before="pre-training",
    stages=rounds_of,
    labelled=True,
    steps=("extract", "label", "train", "evaluate"),
    done="Adapted",
    final="adapted (final)",
    attention=PictureSpec(
        "Attention",
        "A is what the network passes to its domain-shared branch; 1 − A, or A′ of a second module, what it passes to its "
        "domain-specific one: the mean over the channels, weighted by their activation. The warmer, the larger the share.",
    ),
)
