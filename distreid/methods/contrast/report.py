"""contrast's runs as the report tells them."""

from distreid.methods.spec import TRIPLET, LossTerm, ReportSpec, rounds_of

REPORT = ReportSpec(
    name="Contrast",
    losses=(
        LossTerm(
            "source",
            "Pre-training: the source's identities by a classifier. Rounds: source images against the classes of the memory that"
            " are the source's, or with contrast.against=all against all (Ge et al. 2020, Eq. 1).",
        ),
        LossTerm(
            "target",
            "Target images against the memory's clusters, or with contrast.against=all against all classes.",
        ),
        TRIPLET,
    ),
    losses_caption="In the rounds each term is its share of the mean over the images of a batch.",
    before="pre-training",
    stages=rounds_of,
    labelled=True,
    steps=("extract", "label", "memory", "train", "evaluate"),
    done="Adapted",
    final="adapted (final)",
)
