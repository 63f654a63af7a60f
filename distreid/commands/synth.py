"""`distreid synth`."""

from __future__ import annotations

from pathlib import Path


def synth(
    out: Path,
    /,
    *,
    identities: int = 64,
    cameras: int = 4,
    images: int = 8,
    domain: str = "day",
    seed: int = 0,
    masks: bool = False,
) -> None:
    """Draw a camera network in Market-1501's layout.

    Args:
        out: Folder to make.
        identities: Training identities, and as many others for testing.
        cameras: Each sees most of the identities.
        images: Of an identity in each camera that sees it.
        domain: day, night or winter.
        seed: The same seed draws the same images.
        masks: Also write the true foreground masks.
    """
    from distreid.common.terminal import bar
    from distreid.data.synthetic import draw_domain

    with bar(f"drawing {domain}") as progress:
        summary = draw_domain(
            out, domain=domain, identities=identities, cameras=cameras, images=images, seed=seed, masks=masks, progress=progress
        )
    print(summary)
