"""Batch normalisation over groups of a fixed number of images, so that accuracy does not depend on the number of workers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distreid.errors import UserError


class GroupedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics come from consecutive groups of ``group`` images.

    A batch of B images, B a multiple of ``group``, is normalised group by group. Running statistics move towards the mean of
    the groups' statistics. Two workers with one group each therefore compute what one worker with two groups computes, once
    their running buffers are averaged (:meth:`distreid.training.ProcessGroup.average_buffers`), for the update is linear in them.
    The state dict is BatchNorm2d's own.
    """

    group: int = 0

    def forward(self, x_BCHW: Tensor) -> Tensor:
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
        return torch.cat(outputs)


def group_batchnorm(model: nn.Module, group: int) -> nn.Module:
    """Turn every BatchNorm2d of ``model`` into a :class:`GroupedBatchNorm2d` of ``group`` images, in place."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GroupedBatchNorm2d
        if isinstance(module, GroupedBatchNorm2d):
            module.group = group
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            # Its statistics would span whatever one worker holds, and accuracy would depend on the number of workers.
            raise UserError(f"model.backbone: its {type(module).__name__} is not plain BatchNorm2d; choose another backbone")
    return model
