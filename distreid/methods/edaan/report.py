"""EDAAN's runs as the report tells them; equations are those of Khatun et al."""

from collections.abc import Sequence

from distreid.methods.spec import LossTerm, PictureSpec, ReportSpec, Settings


def stages_of(variant: str) -> list[str]:
    """What each stage of `edaan.variant` trains: one end to end, two for daan and cyclegan, one for direct."""
    return {"edaan": ["joint"], "direct": ["reid"]}.get(variant, ["translation", "reid"])


def _stages(settings: Settings) -> Sequence[str]:
    return stages_of(str((settings.get("edaan") or {}).get("variant", "edaan")))


REPORT = ReportSpec(
    name="EDAAN",
    losses=(
        LossTerm("gan", "How far the translators are from deceiving the discriminators (Eq. 3)."),
        LossTerm("cycle", "Images against themselves after both translations, L1 (Eq. 4)."),
        LossTerm("attention", "An image's mask against that of its translation, L1 (Eq. 5)."),
        LossTerm("area", "Prior of ours, not the paper's: the masks' mean against edaan.area_prior."),
        LossTerm("binarity", "Prior of ours, not the paper's: how far the masks are from 0 and 1."),
        LossTerm("identity", "Cross entropy over the source's identities, in all views of its images (Eq. 8)."),
        LossTerm("metric", "Triplet loss of the embedding (Eq. 6).", given=("edaan.metric", "triplet")),
        LossTerm("metric", "Quartet loss of the embedding (Eq. 7)."),
        LossTerm("discriminator", "Real against translated images, as both discriminators see them (Eq. 3); minimised apart."),
    ),
    losses_caption="Each term is its share of the total, its weight included (Eq. 9).",
    round="stage",
    stages=_stages,
    grids=PictureSpec(
        "Translations over epochs",
        "Left half: source images, each with its translation to the target's style, the attention mask (white is kept, black is "
        "translated) and the reconstruction. Right half: the same for target images. Without attention the masks are black.",
    ),
)
