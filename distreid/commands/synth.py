"""`distreid synth`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


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
    size: Literal["msmt17"] | None = None,
    fraction: float = 1.0,
) -> None:
    """Draw a camera network in Market-1501's layout, or in MSMT17's at its size.

    Args:
        out: Folder to make.
        identities: Training identities, and as many others for testing.
        cameras: Each sees most of the identities.
        images: Of an identity in each camera that sees it.
        domain: day, night or winter.
        seed: The same seed draws the same images.
        masks: Also write the true foreground masks.
        size: msmt17: as many images, identities and cameras, in its layout (126,441 images, some minutes), in place of the numbers
            above.
        fraction: Of --size: draw so large a part of it.
    """
    from distreid.common.errors import UserError
    from distreid.common.terminal import bar
    from distreid.data.synthetic import draw_domain, draw_msmt17

    if size and (identities, cameras, images) != (64, 4, 8):
        raise UserError(f"--size {size} has its own numbers: leave out --identities, --cameras and --images")
    if fraction != 1.0 and not size:
        raise UserError("--fraction is of --size msmt17: name it, or leave it out")
    with bar(f"drawing {domain}") as progress:
        if size:
            summary = draw_msmt17(out, domain=domain, fraction=fraction, seed=seed, masks=masks, progress=progress)
        else:
            summary = draw_domain(
                out, domain=domain, identities=identities, cameras=cameras, images=images, seed=seed, masks=masks, progress=progress
            )
    print(summary)
