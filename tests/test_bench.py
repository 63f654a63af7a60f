"""`distreid bench train`: what it measures and what it says of `auto`."""

from __future__ import annotations

from distreid.actions.bench import bench_train


def test_train_measures_both_formats_in_both_layouts_and_says_which_auto_takes() -> None:
    figures = bench_train(height=32, width=16, batch=4)
    assert (figures["method"], figures["backbone"], figures["last_stride"], figures["input"]) == ("daam", "resnet18", 2, "32x16")
    names = ("fp32", "fp32_channels_last", "bf16", "bf16_channels_last")
    speed = {name: figures[f"{name}_images_per_second"] for name in names}
    assert min(speed.values()) > 0 and figures["augmentation_share"] > 0
    assert figures["speedup"] == speed["bf16_channels_last"] / speed["fp32"]
    auto = figures["auto"]
    taken = speed[auto["precision"] + ("_channels_last" if auto["channels_last"] else "")]
    assert auto["of_fastest"] == taken / max(speed.values()) and auto["reason"]
