"""ONNX files of others become our backbones: PyTorch's exporters, MXNet's manner, our own export."""

import functools

import numpy as np
import onnx
import onnxruntime
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.exports import matching, onnx_file, onnx_graph, onnx_variants
from lrfr_jax.models import create_backbone
from lrfr_jax.weights.conversion import shapes_of
from tests.exports import networks, torch_onnx


def imported(path, **how):
    how = {"backbone": None, "convention": {}} | how
    return matching.fit(onnx_graph.read_graph(path), source=path, **how)


def run_there(path, pixels):
    """What onnxruntime computes for normalized RGB images."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pixels.transpose(0, 3, 1, 2)})[0]


def exported(found, path):
    """Our own export of an imported model: its operations are traced anew, from our variables."""
    path.write_bytes(onnx_file.serialize(create_backbone(**found.model), found.variables))
    return str(path)


@pytest.mark.parametrize("name", torch_onnx.NAMES)
def test_files_of_pytorch(name, tmp_path):
    path, pixels = str(tmp_path / "net.onnx"), networks.images(3)
    onnx.save_model(torch_onnx.filled(name), path)
    found = imported(path)
    assert found.model["backbone"] == name.rpartition("_")[0]
    assert found.model | {"backbone": ""} == networks.arguments("", embedding_size=16) | {"dropout": 0.0}
    theirs = run_there(path, pixels)
    networks.assert_same(run_there(exported(found, tmp_path / "ours.onnx"), pixels), theirs)
    if name in ("iresnet18_script", "mobilefacenet_scale2_dynamo"):  # a compilation of each would take longer
        networks.assert_same(networks.features(found.model, found.variables, pixels), theirs)


def test_folded_statistics_are_none_and_others_stay(tmp_path):
    model = torch_onnx.filled("iresnet18_script")
    onnx.save_model(model, tmp_path / "net.onnx")
    found = imported(tmp_path / "net.onnx")
    stages = found.variables["batch_stats"]["stage1"]["block0"]
    np.testing.assert_allclose(stages["bn2"]["var"], 1 - 1e-5)
    assert not stages["bn2"]["mean"].any()
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    first = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    for name, ours in zip(("mean", "var"), first.input[3:], strict=True):
        np.testing.assert_allclose(stages["bn1"][name], tensors[ours], rtol=1e-6)
    bias = next(tensors[node.input[2]] for node in model.graph.node if node.op_type == "Conv")
    np.testing.assert_array_equal(found.variables["params"]["stem_bn"]["bias"], bias)


@functools.cache
def _own(backbone, convention):
    model = networks.arguments(backbone, embedding_size=16, **dict(convention))
    return onnx_file.serialize(create_backbone(**model), networks.variables_of(model))


def own(tmp_path, backbone="mobilefacenet", **convention):
    """An export of ours to change, and the features of three images."""
    content = _own(backbone, tuple(convention.items()))
    (tmp_path / "own.onnx").write_bytes(content)
    return onnx.load_model_from_string(content), run_there(str(tmp_path / "own.onnx"), networks.images(3))


def assert_imported(model, features, tmp_path, *, how=None, **saving):
    onnx.save_model(model, tmp_path / "changed.onnx", **saving)
    found = imported(tmp_path / "changed.onnx", **(how or {}))
    networks.assert_same(run_there(exported(found, tmp_path / "again.onnx"), networks.images(3)), features)
    return found


def test_our_own_export_of_other_colors(tmp_path):
    """They are in its kernels: what it wants itself is normalized RGB."""
    model, features = own(tmp_path, order="bgr", scale=128.0, columns=96)
    with pytest.raises(UserError, match="Slice"):
        assert_imported(model, features, tmp_path)
    model, features = own(tmp_path, order="bgr")
    assert assert_imported(model, features, tmp_path).model["input"] == networks.PLAIN


def as_mxnet(model):
    """As InsightFace's MXNet networks were written: raw pixels, slopes without axes, dropout, a product with a sum."""
    helper, tensors = onnx.helper, {tensor.name: tensor for tensor in model.graph.initializer}
    constants = {"minus": np.float32(127.5), "times": np.float32(0.0078125)}
    for name, value in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    front = [helper.make_node("Sub", ["images", "minus"], ["_minusscalar0"])]
    front.append(helper.make_node("Mul", ["_minusscalar0", "times"], ["_mulscalar0"]))
    nodes = []
    for node in model.graph.node:
        inputs = ["_mulscalar0" if name == "images" else name for name in node.input]
        if node.op_type == "PRelu":
            slope = tensors[inputs[1]]
            slope.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(slope).reshape(-1), inputs[1]))
        if node.op_type == "Gemm":
            matrix = tensors[inputs[1]]
            turned = np.ascontiguousarray(onnx.numpy_helper.to_array(matrix).T)
            matrix.CopyFrom(onnx.numpy_helper.from_array(turned, inputs[1]))
            nodes.append(helper.make_node("Dropout", inputs[:1], ["dropped", "mask"]))
            nodes.append(helper.make_node("MatMul", ["dropped", inputs[1]], ["pre_fc1"]))
            nodes.append(helper.make_node("Add", ["pre_fc1", inputs[2]], node.output))
            continue
        del node.input[:]
        node.input.extend(inputs)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend([*front, *nodes])
    model.opset_import[0].version = 9
    return model


def test_the_manner_of_mxnet(tmp_path):
    model, features = own(tmp_path)
    onnx.save_model(as_mxnet(model), tmp_path / "mxnet.onnx")
    found = imported(tmp_path / "mxnet.onnx")
    assert found.model["input"] == networks.PLAIN | {"scale": 128.0}
    pixels = networks.images(3)
    path = tmp_path / "again.onnx"
    net = create_backbone(**found.model | {"input": networks.PLAIN})
    path.write_bytes(onnx_file.serialize(net, found.variables))  # of images that are normalized as it wants them
    networks.assert_same(run_there(str(path), pixels), features)
    with pytest.raises(UserError, match="says its own scale: leave --scale out"):
        imported(tmp_path / "mxnet.onnx", convention={"scale": 127.5})
    assert imported(tmp_path / "mxnet.onnx", convention={"order": "bgr"}).model["input"]["order"] == "bgr"


def test_half_precision_and_casts(tmp_path):
    model, features = own(tmp_path)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    cast = onnx.helper.make_node("Cast", ["images"], ["half"], to=onnx.TensorProto.FLOAT16)
    model.graph.node[0].input[0] = "half"
    nodes = [cast, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save_model(model, tmp_path / "half.onnx")
    found = imported(tmp_path / "half.onnx")
    ours = run_there(exported(found, tmp_path / "again.onnx"), networks.images(3))
    distance = np.linalg.norm(ours - features, axis=1) / np.linalg.norm(features, axis=1)
    assert 1e-6 < distance.max() < 1e-2


def test_weights_of_eight_bits(tmp_path):
    """Read back, they are what the runtime multiplies: the levels times their scales."""
    model, features = own(tmp_path)
    (tmp_path / "levels.onnx").write_bytes(onnx_variants.with_int8_weights(model.SerializeToString()))
    found = imported(tmp_path / "levels.onnx")
    pixels = networks.images(3)
    theirs = run_there(str(tmp_path / "levels.onnx"), pixels)
    networks.assert_same(run_there(exported(found, tmp_path / "again.onnx"), pixels), theirs)
    distance = np.linalg.norm(theirs - features, axis=1) / np.linalg.norm(features, axis=1)
    assert 1e-4 < distance.max() < 0.1


def test_weights_beside_the_file(tmp_path):
    model, features = own(tmp_path)
    beside = {"save_as_external_data": True, "location": "weights.data", "size_threshold": 0}
    assert_imported(model, features, tmp_path, **beside)
    (tmp_path / "weights.data").rename(tmp_path / "elsewhere.data")
    with pytest.raises(UserError, match="which is not beside it"):
        imported(tmp_path / "changed.onnx")
    (tmp_path / "weights.data").write_bytes((tmp_path / "elsewhere.data").read_bytes()[:-8])
    with pytest.raises(UserError, match="beyond the end of weights"):
        imported(tmp_path / "changed.onnx")


@pytest.mark.parametrize("location", ["/etc/hostname", "../secret", "", "link"])
def test_nothing_outside_of_the_folder_is_read(location, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(64))
    (folder / "link").symlink_to(tmp_path / "secret")
    model, _ = own(tmp_path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="outside of its folder"):
        imported(folder / "net.onnx")


def with_node(model, operator, *, domain="", outputs=("other",), **settings):
    made = onnx.helper.make_node(
        operator, [model.graph.node[3].output[0]], outputs, "strange", domain=domain, **settings
    )
    model.graph.node.insert(4, made)


def _loop(model):
    body = onnx.helper.make_graph([], "body", [], [])
    with_node(model, "Loop", body=body)


def _custom(model):
    with_node(model, "Warp", domain="com.example")


def _unknown(model):
    with_node(model, "LSTM")


def _two_outputs(model):
    model.graph.output.add(name=model.graph.node[3].output[0])


def _two_inputs(model):
    model.graph.input.add(name="more")


def _open_size(model):
    side = model.graph.input[0].type.tensor_type.shape.dim[2]
    side.Clear()
    side.dim_param = "height"


def _channels_last(model):
    for side, length in zip(model.graph.input[0].type.tensor_type.shape.dim[1:], (112, 112, 3), strict=True):
        side.dim_value = length


def _other_stride(model):
    attribute = next(a for a in model.graph.node[2].attribute if a.name == "strides")
    attribute.ints[:] = [2, 2]


def _fewer_blocks(model):
    model.graph.output[0].name = model.graph.node[8].output[0]


def _dilated(model):
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("dilations", [2, 2]))


def _empty(model):
    del model.graph.node[:]


def _read_before_it_is_made(model):
    model.graph.node[2].input[0] = "nothing"


def _not_finite(model):
    tensor = model.graph.initializer[0]
    tensor.raw_data = np.full(tuple(tensor.dims), np.nan, np.float32).tobytes()


def _of_text(model):
    model.graph.initializer.append(onnx.helper.make_tensor("words", onnx.TensorProto.STRING, [1], [b"a"]))


def _cut_tensor(model):
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]


WRONG = {
    _loop: "has the node strange, Loop, a loop or branch",
    _custom: "has the node strange, Warp of com.example, which is no operator of ONNX",
    _unknown: "has the node strange, LSTM, which no network here has",
    _two_outputs: "has 2 outputs",
    _two_inputs: "has 2 inputs instead of one",
    _open_size: r"takes images of shape \[0, 3, 0, 112\]",
    _channels_last: r"takes images of shape \[0, 112, 112, 3\]",
    _other_stride: "stride 2, padding 1, 8 groups, where mobilefacenet has stem_depthwise, a convolution",
    _fewer_blocks: "has no convolution and product as iresnet18 or",
    _dilated: "has the node .*, Conv, of bad settings or shapes",
    _empty: "it has no nodes",
    _read_before_it_is_made: "which reads .'nothing'.: no node before it gives that",
    _not_finite: "not finite",
    _of_text: "holds words of another type than floats and integers",
    _cut_tensor: "a shape that does not fit",
}


@pytest.mark.parametrize("change", WRONG, ids=lambda change: change.__name__)
def test_one_sentence_about_what_is_wrong(change, tmp_path):
    model, _ = own(tmp_path)
    change(model)
    (tmp_path / "wrong.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=WRONG[change]) as raised:
        imported(tmp_path / "wrong.onnx")
    assert str(raised.value).startswith(str(tmp_path / "wrong.onnx"))
    assert "\n" not in str(raised.value)


def test_another_network_than_the_one_that_was_named(tmp_path):
    own(tmp_path)
    with pytest.raises(UserError, match="where iresnet18 has stem_conv, a convolution of 8 x 3 x 3 x 3, stride 1"):
        imported(tmp_path / "own.onnx", backbone="iresnet18")


@pytest.mark.parametrize("backbone", matching.NETWORKS)
def test_how_many_convolutions_each_network_has(backbone):
    shapes = shapes_of(networks.arguments(backbone))
    known = matching.NETWORKS[backbone]
    assert sum(len(shape) == 4 for shape in shapes.values()) == known.convolutions
    assert shapes["params", "stem_conv", "kernel"][-1] == known.stem * 0.125
