"""Short names of layers, as people see them."""

import pytest

from fusioncam.layer_names import LONGEST, short_layer_name, short_layer_names


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("/features/features.18/features.18.2/Clip_output_0", "features.18.2/Clip"),
        ("/layer4/layer4.1/relu_1/Relu_output_0", "layer4.1/relu_1/Relu"),
        ("MobilenetV1/MobilenetV1/Conv2d_13/Relu6;MobilenetV1/Conv2d_13/add_fold;x", "MobilenetV1/Conv2d_13/Relu6"),
        (
            "/deit/encoder/layer.1/layernorm/LayerNormalization_output_0",
            "encoder/layer.1/layernorm/LayerNormalization",
        ),
        ("resnet50/conv5_block3_out/Relu:0", "resnet50/conv5_block3_out/Relu"),
        ("layer.1/layer.10/Relu", "layer.1/layer.10/Relu"),
        ("split_output_1", "split_output_1"),
        ("relu_6", "relu_6"),
        ("a" * 30 + "b" * 30, "a" * 24 + "…" + "b" * 23),
        ("/", "/"),
        ("", ""),
    ],
)
def test_repeated_parts_and_endings_of_exporters_go(name, short):
    assert short_layer_name(name) == short
    assert len(short) <= LONGEST


def test_layers_of_equal_short_names_keep_their_own():
    names = ["/a/Relu_output_0", "/a/Relu:0", "/b/Relu_output_0"]
    assert short_layer_names(names) == {names[0]: names[0], names[1]: names[1], names[2]: "b/Relu"}
