"""A Face Transformer of PyTorch's modules, saved by PyTorch, comes through `pretrained`; skipped without PyTorch."""

import functools

import jax
import numpy as np
import pytest

from lrfr_jax import image_ops, models, pretrained
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.models.vit import FaceTransformer

torch = pytest.importorskip("torch", reason="PyTorch is optional: pip install torch")
nn = torch.nn
DIM, DEPTH = 128, 4


class Named(nn.Module):
    """Modules by name."""

    def __init__(self, **modules):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class Half(Named):
    """`fn` with its norm before it: names of theirs are fn.norm and fn.fn."""

    def __init__(self, fn):
        super().__init__(fn=Named(norm=nn.LayerNorm(DIM), fn=fn))


def block():
    attention = Named(to_qkv=nn.Linear(DIM, 3 * DIM, bias=False), to_out=nn.Sequential(nn.Linear(DIM, DIM)))
    mlp = nn.Sequential(nn.Linear(DIM, 4 * DIM), nn.GELU(), nn.Dropout(), nn.Linear(4 * DIM, DIM), nn.Dropout())
    return nn.ModuleList([Half(attention), Half(Named(net=mlp))])


class Theirs(Named):
    def __init__(self):
        super().__init__(
            patch_to_embedding=nn.Linear(192, DIM),
            transformer=Named(layers=nn.ModuleList(block() for _ in range(DEPTH))),
            mlp_head=nn.Sequential(nn.LayerNorm(DIM)),
        )
        self.cls_token = nn.Parameter(torch.randn(1, 1, DIM))
        self.pos_embedding = nn.Parameter(torch.randn(1, 197, DIM))

    def forward(self, pixels):
        patches = pixels.reshape(-1, 3, 14, 8, 14, 8).permute(0, 2, 4, 3, 5, 1).reshape(-1, 196, 192)
        x = self.patch_to_embedding(patches)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embedding
        for attend, think in self.transformer.layers:
            y = attend.fn.fn.to_qkv(attend.fn.norm(x)).chunk(3, dim=-1)
            q, k, v = (part.reshape(*part.shape[:2], -1, 64).transpose(1, 2) for part in y)
            y = nn.functional.scaled_dot_product_attention(q, k, v, scale=DIM**-0.5)
            x = x + attend.fn.fn.to_out(y.transpose(1, 2).reshape(x.shape))
            x = x + think.fn.fn.net(think.fn.norm(x))
        return self.mlp_head(x[:, 0])


def test_weights_of_a_module_come_through(tmp_path, monkeypatch):
    monkeypatch.setitem(models.BACKBONES, "vit_p8s8", functools.partial(FaceTransformer, patch=8, depth=DEPTH))
    torch.manual_seed(0)
    net = Theirs().eval()
    torch.save(net.state_dict(), tmp_path / "net.pth")
    pretrained.main(["--source", str(tmp_path / "net.pth"), "--out", str(tmp_path / "out")])
    variables, metadata = checkpoint.load_backbone(tmp_path / "out")
    images = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    ours = models.create_backbone(**metadata["model"])
    found = jax.jit(functools.partial(ours.apply, train=False))(
        variables, image_ops.normalize(jax.numpy.asarray(images))
    )
    with torch.no_grad():
        wanted = net(torch.from_numpy(images).permute(0, 3, 1, 2).float()).numpy()
    lengths = np.linalg.norm(wanted, axis=1)
    np.testing.assert_allclose(np.linalg.norm(found - wanted, axis=1) / lengths, 0, atol=1e-5)
