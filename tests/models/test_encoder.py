"""The parts of an encoder: GeM pooling, and a teacher that follows."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from distreid.models import Backbone, DAAMNet, GeM, domain_batchnorm, group_batchnorm


def network(*, teacher: bool = True, domains: bool = False) -> DAAMNet:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 16, 3, stride=4), nn.BatchNorm2d(16), nn.ReLU())
    model = DAAMNet(Backbone(body, 16), 5, clusters=3, attention="individual", pooling="gem", neck=True, teacher=teacher)
    group_batchnorm(model, 4)
    if domains:
        domain_batchnorm(model)
    return model


def test_gem_is_a_mean_of_powers_and_learns_its_exponent() -> None:
    x_Bchw = torch.rand(2, 3, 4, 2)
    for p in (1.0, 3.0):
        slow = [[float(np.mean(x.numpy().astype(np.float64) ** p) ** (1 / p)) for x in image] for image in x_Bchw]
        np.testing.assert_allclose(GeM(p)(x_Bchw).detach(), slow, rtol=1e-4)
    gem = GeM()
    gem(torch.relu(x_Bchw - 0.5)).sum().backward()
    assert gem.p.grad is not None and torch.isfinite(gem.p.grad).all() and gem.p.grad.abs() > 0


def test_the_teacher_is_a_running_mean_of_the_student() -> None:
    model, momentum = network(), 0.9
    assert model.teacher is not None
    slow = {name: value.double().numpy() for name, value in model.student().state_dict().items()}
    for _ in range(3):
        model.train()
        model(torch.randn(4, 3, 16, 8), torch.tensor([0, 0, 1, 1]))
        with torch.no_grad():
            for parameter in model.trained():
                parameter.add_(torch.randn_like(parameter))
        model.follow(momentum)
        for name, value in model.student().state_dict().items():
            fast = value.double().numpy()
            slow[name] = momentum * slow[name] + (1 - momentum) * fast if value.is_floating_point() else fast
    for name, value in model.teacher.state_dict().items():
        np.testing.assert_allclose(value, slow[name], rtol=1e-5, atol=1e-6, err_msg=name)
    x_BCHW = torch.randn(2, 3, 16, 8)
    torch.testing.assert_close(model.eval().features(x_BCHW), model.teacher(x_BCHW))
    assert not torch.allclose(model.features(x_BCHW), model.student()(x_BCHW))


def test_the_teacher_is_never_trained() -> None:
    model = network()
    assert model.teacher is not None
    trained, followed = {id(p) for p in model.trained()}, {id(p) for p in model.teacher.parameters()}
    assert not trained & followed and len(trained) + len(followed) == len(list(model.parameters()))
    assert {id(p) for p in model.trained_on_source()} < trained


def test_what_is_matched() -> None:
    plain = network(teacher=False)
    found = {name.split(".")[0] for name in plain.state_dict() if plain.matches_by(name)}
    assert found == {"backbone", "attention", "gem", "neck"}
    model = network(domains=True)
    names = [name for name in model.state_dict() if model.matches_by(name)]
    assert all(name.startswith("teacher.") and ".source." not in name for name in names)
    assert "teacher.neck.target.running_mean" in names and "teacher.gem.p" in names
