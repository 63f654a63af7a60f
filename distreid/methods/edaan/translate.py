"""A data set in another domain's style, by a trained EDAAN."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from distreid.common.errors import UserError
from distreid.config import Config
from distreid.data import ImageStore, derive
from distreid.data.loader import View, plain_batches
from distreid.methods.edaan.grids import to_pixels
from distreid.models import EDAAN
from distreid.training import Precision
from distreid.training.memory import usual_batch


def translate(
    model: EDAAN,
    config: Config,
    store: ImageStore,
    out: Path,
    *,
    reverse: bool = False,
    splits: tuple[str, ...] = ("train",),
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, Path | None]:
    """Write out/images.arrow and, of a model with attention, out/masks.arrow (grey PNG, 255 is foreground, kept as it was).

    Both have a row for every image of ``splits``, with its pid, camid and split, in the model's input size.

    Args:
        reverse: from the target's style to the source's, with F of Eq. 2 in place of G of Eq. 1.

    Raises:
        UserError: the model holds no translator, or the data set no image of these splits.
    """
    translator = model.target if reverse else model.source
    if translator is None:
        raise UserError("this checkpoint holds no translator: it was trained with edaan.variant=direct")
    rows = np.flatnonzero(np.isin(store.splits, splits))
    if not len(rows):
        raise UserError(f"{store.shown}: holds no image of {' or '.join(splits)} to translate")
    settings = config.input
    precision = Precision.to_use(config.runtime.precision, torch.device(device), channels_last=config.runtime.channels_last)
    precision.place(model.eval())
    masks: list[bytes] = []

    def images() -> Iterator[bytes]:
        done, part = 0, slice(0, len(rows))
        with torch.inference_mode(), precision.autocast():
            for x_BCHW in plain_batches(
                View(store, rows), part, usual_batch(config.evaluate.batch_size, torch.device(device).type),
                settings.height, settings.width, mean=model.mean, std=model.std, device=device,
            ):  # fmt: skip
                translation = translator(precision.layout(x_BCHW))
                if translation.mask_B1HW is not None:
                    masks.extend(png(pixels[:, :, 0]) for pixels in to_pixels(2 * translation.mask_B1HW - 1))
                yield from (png(pixels) for pixels in to_pixels(translation.image_BCHW))
                done += len(x_BCHW)
                if progress is not None:
                    progress(done, len(rows))

    style = Path(config.source.data if reverse else config.target.data).stem
    size = {"height": settings.height, "width": settings.width}
    derive(store, rows, images(), out / "images.arrow", **size, note=f"translated to the style of {style} by EDAAN")
    if not masks:
        return out / "images.arrow", None
    derive(store, rows, masks, out / "masks.arrow", **size, note="attention masks of EDAAN: white is kept, black translated")
    return out / "images.arrow", out / "masks.arrow"


def png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W] or [H, W, 3] as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
