"""What PyTorch users do with an export: `load_state_dict`, strictly, into a network of arcface_torch's names."""

import itertools

import numpy as np
import pytest
import safetensors.numpy

from lrfr_jax.exports.formats import FORMATS
from tests.exports import networks

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")


class Block(torch.nn.Module):
    def __init__(self, channels, out, stride):
        super().__init__()
        conv, norm = torch.nn.Conv2d, torch.nn.BatchNorm2d
        self.bn1, self.conv1 = norm(channels), conv(channels, out, 3, 1, 1, bias=False)
        self.bn2, self.prelu = norm(out), torch.nn.PReLU(out)
        self.conv2, self.bn3 = conv(out, out, 3, stride, 1, bias=False), norm(out)
        shortcut = torch.nn.Sequential(conv(channels, out, 1, stride, bias=False), norm(out))
        self.downsample = shortcut if stride > 1 else None

    def forward(self, x):
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (self.downsample(x) if self.downsample else x)


class IResNet18(torch.nn.Module):
    def __init__(self, channels, size):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, channels, 3, 1, 1, bias=False)
        self.bn1, self.prelu = torch.nn.BatchNorm2d(channels), torch.nn.PReLU(channels)
        sizes = [channels, *(channels * 2**stage for stage in range(4))]
        for stage, (before, out) in enumerate(itertools.pairwise(sizes), 1):
            self.add_module(f"layer{stage}", torch.nn.Sequential(Block(before, out, 2), Block(out, out, 1)))
        self.bn2, self.fc = torch.nn.BatchNorm2d(sizes[-1]), torch.nn.Linear(sizes[-1] * 49, size)
        self.features = torch.nn.BatchNorm1d(size)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.bn2(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        return self.features(self.fc(x.flatten(1)))


@pytest.mark.parametrize("convention", [{}, {"order": "bgr", "scale": 128.0}])
def test_iresnet_in_torch(convention):
    model = networks.arguments("iresnet18", **convention)
    variables, pixels = networks.variables_of(model), networks.images(3)
    content = FORMATS["safetensors"].serialize(variables, model, "insightface_torch_iresnet")
    net = IResNet18(8, 24)
    net.load_state_dict({name: torch.tensor(array) for name, array in safetensors.numpy.load(content).items()})
    with torch.no_grad():
        found = net.eval()(torch.tensor(pixels.transpose(0, 3, 1, 2))).numpy()
    networks.assert_same(found, networks.features(model, variables, pixels))
    assert np.isfinite(found).all()
