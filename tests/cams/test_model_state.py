"""A model that is explained gets back the modes that its modules had."""

import pytest
import torch
from torch import nn

from sftgan.cams import model_state
from sftgan.cams.model_state import evaluation_mode, last_map


def mixed() -> nn.Module:
    """In training mode, with a batch norm that is frozen."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    net[1].eval()
    return net


def modes(net: nn.Module) -> list[bool]:
    return [module.training for module in net.modules()]


def test_last_map_leaves_a_frozen_batch_norm_frozen():
    net = mixed()
    before, statistics = modes(net), net[1].running_mean.clone()
    assert last_map(net, 16, 3) == 14
    assert modes(net) == before and torch.equal(net[1].running_mean, statistics)
    assert last_map(net, 2, 3) == 0 and modes(net) == before
    assert all(not module._forward_hooks for module in net.modules())


def test_an_interrupt_while_the_mode_is_set_leaves_no_trace(monkeypatch):
    net = mixed()
    before = modes(net)

    def interrupted():
        nn.Module.eval(net)
        raise KeyboardInterrupt

    monkeypatch.setattr(net, "eval", interrupted)
    with pytest.raises(KeyboardInterrupt), evaluation_mode(net):
        pass
    assert modes(net) == before and not model_state._EVALUATED
