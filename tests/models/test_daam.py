import pytest
import torch
from torch import nn

from distreid.common.errors import UserError
from distreid.config import config_from_dict
from distreid.methods.networks import build_model
from distreid.models import DAAMNet, DomainAdaptiveAttention, build_backbone

VARIANTS = [("none", False), ("none", True), ("shared", False), ("individual", True), ("shared", True)]


@pytest.fixture(params=VARIANTS, ids=["plain", "DSH+DSP", "DSH+attention", "IA", "full"])
def net(request: pytest.FixtureRequest) -> DAAMNet:
    torch.manual_seed(0)
    attention, branch = request.param
    return DAAMNet(build_backbone("resnet18", "none", 1), 7, attention=attention, domain_branch=branch)


def test_every_variant_gives_the_three_classifiers_outputs_and_gradients(net: DAAMNet) -> None:
    net.new_target_head(5, seed=1)
    domain = torch.tensor([0, 1, 1, 0, 1, 0])
    output = net(torch.randn(6, 3, 128, 64), domain)
    assert output.source_logits_SN.shape == (3, 7)
    assert output.target_logits_TK is not None and output.target_logits_TK.shape == (3, 5)
    assert (output.domain_logits_B2 is None) == (net.domain_head is None)
    total = output.source_logits_SN.sum() + output.target_logits_TK.sum()
    if output.domain_logits_B2 is not None:
        assert output.domain_logits_B2.shape == (6, 2)
        total = total + output.domain_logits_B2.sum()
    total.backward()
    # DDP waits for every gradient: none may be missing.
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []


def test_logits_follow_the_batch_order(net: DAAMNet) -> None:
    net.eval()
    net.new_target_head(4, seed=1)
    x, domain = torch.randn(4, 3, 128, 64), torch.tensor([1, 0, 1, 0])
    output = net(x, domain)
    features = net.features(x)
    torch.testing.assert_close(output.source_logits_SN, net.source_head(features[[1, 3]]))
    torch.testing.assert_close(output.target_logits_TK, net.target_head(features[[0, 2]]))


def test_shared_and_specific_maps_are_equations_1_and_2() -> None:
    torch.manual_seed(0)
    net = DAAMNet(build_backbone("resnet18", "none"), 7).eval()
    x = torch.randn(2, 3, 128, 64)
    shared, specific = net.split(x)
    f = net.backbone(x)
    a = net.attention(f)
    torch.testing.assert_close(shared, a * f)
    torch.testing.assert_close(specific, f - a * f)
    torch.testing.assert_close(net.features(x), (a * f).mean((2, 3)))


def test_individual_attention_has_two_modules_and_none_sees_the_plain_map() -> None:
    backbone = build_backbone("resnet18", "none").eval()
    x = torch.randn(2, 3, 128, 64)
    individual = DAAMNet(backbone, 7, attention="individual").eval()
    assert individual.specific_attention is not None
    torch.testing.assert_close(individual.split(x)[1], individual.specific_attention(backbone(x)) * backbone(x))
    plain = DAAMNet(backbone, 7, attention="none")
    assert torch.equal(*plain.split(x))


@pytest.mark.parametrize("start", ["random", "neutral"])
@pytest.mark.parametrize("attention", ["shared", "individual"])
def test_a_neutral_attention_starts_at_one_half_and_moves(start: str, attention: str) -> None:
    how = ["model.backbone=resnet18", "model.weights=none", f"model.attention={attention}", f"model.attention_start={start}"]
    torch.manual_seed(0)
    net = build_model(config_from_dict({"output": "run", "source": {"data": "a"}, "target": {"data": "b"}}, how), 7)
    modules = [module for module in net.modules() if isinstance(module, DomainAdaptiveAttention)]
    assert len(modules) == (2 if attention == "individual" else 1)
    f, a_half = torch.randn(32, 512, 4, 2), torch.full((32, 512, 4, 2), 0.5)
    for module in modules:
        assert torch.equal(module(f), a_half) == (start == "neutral")
        optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
        for _ in range(2):
            optimizer.zero_grad()
            (module(f) * f).pow(2).mean().backward()
            optimizer.step()
        assert all(parameter.grad.abs().max() > 0 for parameter in module.parameters() if parameter.dim() > 1)
        assert not torch.equal(module(f), a_half)


def test_attention_is_the_papers_stages() -> None:
    module = DomainAdaptiveAttention(64)
    spatial, squeeze, expand = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert (spatial.kernel_size, spatial.stride, spatial.groups) == ((3, 3), (2, 2), 64)
    assert (squeeze.in_channels, squeeze.out_channels, squeeze.kernel_size) == (64, 4, (1, 1))
    assert (expand.in_channels, expand.out_channels) == (4, 64)
    a = module(torch.randn(3, 64, 7, 5) * 5)
    assert a.shape == (3, 64, 7, 5) and a.min() > 0 and a.max() < 1


def test_bfloat16_gradients_are_those_of_float64_on_the_smallest_map() -> None:
    torch.manual_seed(0)
    exact = nn.Conv2d(512, 512, 3, stride=2, padding=1, groups=512, bias=False).double()
    for _ in range(20):
        junk = [
            torch.full((512 * 9 * k,), float("nan"), dtype=dtype) for k in range(1, 8) for dtype in (torch.float32, torch.bfloat16)
        ]
        del junk  # memory that nobody initialises is now NaN
        module = DomainAdaptiveAttention(512)
        convolution = module.spatial[0]
        assert isinstance(convolution, nn.Conv2d)
        convolution.load_state_dict(exact.state_dict())
        f_Bchw = torch.randn(16, 512, 2, 1).contiguous(memory_format=torch.channels_last)
        captured: list[torch.Tensor] = []
        convolution.register_forward_hook(lambda _, __, output, kept=captured: kept.append(output))
        with torch.autocast("cpu", torch.bfloat16):
            module(f_Bchw)
        (gradient,) = torch.autograd.grad(captured[0].float().square().sum(), convolution.weight)
        (expected,) = torch.autograd.grad(exact(f_Bchw.double()).square().sum(), exact.weight)
        assert (gradient - expected).abs().max() <= 0.02 * expected.abs().max()


def test_target_head_depends_on_its_seed_alone() -> None:
    net = DAAMNet(build_backbone("resnet18", "none"), 7)
    net.new_target_head(5, seed=3)
    first = net.target_head.weight.clone()
    torch.randn(100)
    net.new_target_head(5, seed=3)
    assert torch.equal(first, net.target_head.weight)
    net.new_target_head(5, seed=4)
    assert not torch.equal(first, net.target_head.weight)


@pytest.mark.slow
def test_last_stride_doubles_the_map_of_every_kind_of_block() -> None:
    x = torch.zeros(1, 3, 128, 64)
    for name, channels in (("resnet18", 512), ("resnet50", 2048)):
        assert build_backbone(name, "none", 2)(x).shape == (1, channels, 4, 2)
        assert build_backbone(name, "none", 1)(x).shape == (1, channels, 8, 4)


def test_a_timm_backbone_yields_its_last_feature_map() -> None:
    backbone = build_backbone("timm/resnet10t", "none")
    assert backbone(torch.zeros(2, 3, 128, 64)).shape == (2, backbone.channels, 4, 2)
    with pytest.raises(UserError, match="timm cannot build it"):
        build_backbone("timm/resnet_of_nobody", "none")


def test_weights_from_a_file(tmp_path) -> None:
    import torchvision

    torch.manual_seed(1)
    net = torchvision.models.resnet18()
    torch.save(net.state_dict(), tmp_path / "w.pt")
    backbone = build_backbone("resnet18", str(tmp_path / "w.pt"))
    assert torch.equal(backbone.body[0].weight, net.conv1.weight)
    with pytest.raises(UserError, match="does not fit"):
        build_backbone("resnet34", str(tmp_path / "w.pt"))


@pytest.mark.parametrize(
    ("name", "weights", "expected"),
    [("resnet19", "none", "resnet18"), ("resnet18", "nowhere.pt", "no such file"), ("vgg16", "none", "model.backbone=vgg16")],
)
def test_bad_backbones_are_named(name: str, weights: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        build_backbone(name, weights)


def test_pickled_objects_are_refused_as_weights(tmp_path) -> None:
    class Trap:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"conv1.weight": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(UserError, match="safely"):
        build_backbone("resnet18", str(tmp_path / "trap.pt"))
