"""Batch normalisation over groups of a fixed number of images, so that accuracy does not depend on the number of workers."""

import functools
import sys
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distreid.common.errors import UserError


class GroupedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics come from consecutive groups of ``group`` images.

    A batch of B images, B a multiple of ``group``, is normalised group by group. Running statistics move towards the mean of
    the groups' statistics. Two workers with one group each therefore compute what one worker with two groups computes, once
    their running buffers are averaged (:meth:`distreid.training.ProcessGroup.average_buffers`), for the update is linear in them.
    The state dict is BatchNorm2d's own.

    Attributes:
        frozen: set by :func:`freeze_statistics`.
    """

    group: int = 0
    frozen: bool = False

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.training and self.frozen:
            known = self.running_mean, self.running_var, self.weight, self.bias
            return self.finish(F.batch_norm(x_BCHW, *known, training=False, eps=self.eps))
        if not self.training or len(x_BCHW) == self.group:
            return super().forward(x_BCHW)
        if self.group == 0 or len(x_BCHW) % self.group:
            raise ValueError(f"a training batch of {len(x_BCHW)} images is not a multiple of the group of {self.group}")
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        means, variances, outputs = [], [], []
        for group in x_BCHW.split(self.group):
            mean, variance = self.running_mean.clone(), self.running_var.clone()
            outputs.append(F.batch_norm(group, mean, variance, self.weight, self.bias, True, self.momentum, self.eps))
            means.append(mean)
            variances.append(variance)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.copy_(torch.stack(means).mean(0))
            self.running_var.copy_(torch.stack(variances).mean(0))
        return self.finish(torch.cat(outputs))

    def finish(self, x_BCHW: Tensor) -> Tensor:
        """What the layer does beside normalising: nothing."""
        return x_BCHW


def freeze_statistics(model: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
    """Of the BatchNorms that :func:`group_batchnorm` has grouped, let those whose scale is among ``parameters`` train with the
    statistics that they have, the others with each batch's. Scales and offsets are trained either way."""
    frozen = {id(p) for p in parameters}
    for module in model.modules():
        if isinstance(module, GroupedBatchNorm2d):
            module.frozen = id(module.weight) in frozen


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Of our own layers, before :func:`group_batchnorm`: the values of the ResNets that torchvision ships."""
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True)


def group_batchnorm(model: nn.Module, group: int) -> nn.Module:
    """Turn every BatchNorm2d of ``model``, also timm's with an activation, into one over groups of ``group`` images, in place.

    Raises:
        UserError: a layer takes statistics of the batch in a way that cannot be grouped, so that accuracy would depend on the
            number of workers.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and not isinstance(module, GroupedBatchNorm2d):
            kind = _grouped(type(module))  # type: ignore[arg-type]  # types are hashable
            if kind is None or module.momentum is None or module.running_mean is None:
                raise _ungroupable(name, module)
            module.__class__ = kind
        if isinstance(module, GroupedBatchNorm2d):
            module.group = group
        elif module._buffers.get("running_var") is not None and "Frozen" not in type(module).__name__:
            raise _ungroupable(name, module)  # SyncBatchNorm, BatchNorm1d, batch EvoNorm, InplaceABN, ...
    return model


@functools.cache
def _grouped(kind: type[nn.BatchNorm2d]) -> type[GroupedBatchNorm2d] | None:
    """The grouped kind of a BatchNorm2d; None for one whose own arithmetic is unknown."""
    if kind is nn.BatchNorm2d:
        return GroupedBatchNorm2d
    name, parents = f"Grouped{kind.__name__}", (GroupedBatchNorm2d, kind)
    if kind.forward is nn.BatchNorm2d.forward:
        return type(name, parents, {})
    timm = sys.modules.get("timm.layers")  # not imported where no backbone is timm's
    if timm is not None and kind is timm.BatchNormAct2d:
        return type(name, parents, {"finish": lambda self, x_BCHW: self.act(self.drop(x_BCHW))})
    return None


def _ungroupable(name: str, module: nn.Module) -> UserError:
    return UserError(
        f"model.backbone: its {type(module).__name__} ({name}) takes statistics of the whole batch and cannot take them of groups "
        "(model.batchnorm_group); choose another backbone"
    )
