"""The PyTorch reference step is the same mathematics as ours; skipped where PyTorch is not installed."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from lrfr_jax import image_ops, models
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.heads import HEADS
from lrfr_jax.objective.named_features import Names
from lrfr_jax.objective.terms import TERMS
from lrfr_jax.objective.terms.term import NamedTerm
from lrfr_jax.objective.total_loss import Objective, total_loss_gradient

torch = pytest.importorskip("torch", reason="PyTorch is optional: pip install torch")
torch_step = pytest.importorskip("lrfr_jax.benchmark.torch_step")


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "iresnet18", "mobilefacenet", "vit_p8s8", "vit_p12s8"])
def test_networks_have_our_parameters(backbone):
    size = 128 if backbone.startswith("vit") else 32
    shape = {"width": 0.25, "embedding_size": size, "dropout": 0.0}
    ours = models.create_backbone(backbone, dtype="float32", input=common.model_input().to_dict(), **shape)
    variables = jax.eval_shape(lambda: ours.init(jax.random.key(0), jnp.zeros((1, 112, 112, 3)), train=False))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    # PyTorch's last BatchNorm of the IResNets holds the scale that is fixed at 1.
    fixed = 32 if backbone.startswith("i") else 0
    network = torch_step.network(backbone, **shape)
    assert sum(parameter.numel() for parameter in network.parameters()) == count + fixed
    assert network(torch.zeros(2, 3, 112, 112)).shape == (2, size)


def test_views_are_our_degradation():
    images = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), np.uint8)
    hr, lr = torch_step.Views((14,), (1.0,))(torch.from_numpy(images).permute(0, 3, 1, 2))
    shown = np.rint(hr.permute(0, 2, 3, 1).numpy() * image_ops.HALF_RANGE + image_ops.HALF_RANGE)
    expected = image_ops.degrade(jnp.asarray(shown), jnp.full(4, 14), sizes=(14,), rounding="uint8")
    difference = np.abs(lr.permute(0, 2, 3, 1).numpy() - np.asarray(image_ops.normalize(expected))) * 127.5
    assert (difference > 0.5).mean() < 1e-3
    assert {tuple(image.ravel()) for image in shown} <= {
        tuple(turned.ravel()) for image in images.astype(float) for turned in (image, image[:, ::-1])
    }


def test_other_views_are_refused():
    assert torch_step._has_usual_views(common.augment("none"))
    assert torch_step._has_usual_views(common.augment("maug"))
    assert not torch_step._has_usual_views(common.augment("bt_m"))
    assert not torch_step._has_usual_views(common.augment("st_m2"))
    augment = common.augment("maug")
    augment.light.probability = 0.2
    assert not torch_step._has_usual_views(augment)


def test_the_loss_is_ours():
    random = np.random.default_rng(1)
    features, centers = (
        random.normal(size=(2, 6, 16)).astype(np.float32),
        random.normal(size=(9, 16)).astype(np.float32),
    )
    labels, numbers = np.arange(6), {"scale": 8.0, "margin": 0.2, "distance_weight": 3.0}
    tensors = [torch.from_numpy(view) for view in features]
    found = torch_step.loss_of(tensors, torch.from_numpy(centers), torch.from_numpy(labels), **numbers)
    term = TERMS["distance"](distance="logexp", p=1, reduction="paper")
    of = (("student", "hr", "feature"), ("student", "lr", "feature"))
    names = Names({}, Classifier(9, 1, 1, 1), HEADS["cosface"](scale=8.0, margin=0.2))
    objective = Objective(names, {"hr": 0.5, "lr": 0.5}, (NamedTerm("distance", term, of, 3.0, "lambda"),))
    _, parts, _ = total_loss_gradient(
        {(view, "feature"): jnp.asarray(feature) for view, feature in zip(("hr", "lr"), features, strict=True)},
        {"classifier": {"class_centers": jnp.asarray(centers)}},
        dict.fromkeys(("hr", "lr"), jnp.asarray(labels)),
        jax.random.key(0),
        {"head": {}, "terms": {}},
        {},
        objective=objective,
    )
    assert float(found) == pytest.approx(float(parts["loss"]), rel=1e-5)
