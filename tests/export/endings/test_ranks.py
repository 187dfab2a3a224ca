"""Outputs whose places are ranks are refused as what they are."""

import pytest

from fusioncam.errors import ModelError
from fusioncam.export import export_model, inspect_model
from fusioncam.export.canonical import canonicalize

BEST = "p = Softmax <axis = 1> (z) v, v_index = TopK <axis = 1> (p, three_best)"
RANKS = {
    "topk": (BEST.replace("v, v", "y, v"), "TopK", "ranks"),
    "softmax_of_topk": ("v, v_index = TopK (z, three_best) y = Softmax <axis = 1> (v)", "TopK", "ranks"),
    "normalised_topk": (f"{BEST} s = ReduceSum <keepdims = 1> (v, class_axis) y = Div (v, s)", "TopK", "ranks"),
    "gathered": (f"{BEST} y = GatherElements <axis = 1> (z, v_index)", "TopK", "ranks"),
    "best_of_topk": (f"{BEST} y = Gather <axis = 1> (v, class_axis)", "TopK", "ranks"),
    "sorted": ("v, v_index = TopK (z, k) s = Sigmoid (v) y = Mul (s, n100)", "TopK", "ranks"),
    "numbers": ("y = ArgMax <axis = 1> (z)", "ArgMax", "class numbers"),
    "numbers_as_floats": ("a = ArgMax <axis = 1> (z) y = Cast <to = 1> (a)", "ArgMax", "class numbers"),
    "hardmax": ("y = Hardmax <axis = 1> (z)", "Hardmax", "a mark at the best class"),
    "best_probability": (
        "p = Softmax <axis = 1> (z) y = ReduceMax <keepdims = 1> (p, class_axis)",
        "ReduceMax",
        "how sure",
    ),
}


@pytest.mark.parametrize("name", RANKS)
@pytest.mark.parametrize("gradient", [True, False])
def test_they_are_refused(name, gradient, ending, tmp_path):
    text, kind, what = RANKS[name]
    source = ending(text.replace("k)", "three_best)"))
    with pytest.raises(
        ModelError, match=f"^the model ends in {kind}: it gives .*{what}.*; cut the graph before it"
    ) as e:
        export_model(source, tmp_path / "e.fcam", gradient=gradient)
    assert "--no-gradient" not in str(e.value)
    assert "--layer" not in str(e.value)
    with pytest.raises(ModelError, match=f"ends in {kind}"):
        inspect_model(source)


def test_another_output_that_holds_the_scores_is_taken_or_offered(ending):
    source = ending(BEST, outputs=("v", "v_index", "p"))
    assert canonicalize(source).reading.name == "p"
    for output in ("v", "v_index"):
        with pytest.raises(ModelError, match=r"ends in TopK: .*; take another output with --scores: p \("):
            canonicalize(source, output=output)


HARMLESS = {
    "threshold": "v, v_index = TopK (z, three_best) t = ReduceMin <keepdims = 1> (v, class_axis) "
    "m = GreaterOrEqual (z, t) n = Mul (z, n0_1) y = Where (m, z, n)",
    "put_back": "v, v_index = TopK (z, three_best) e = Mul (z, n0) y = ScatterElements <axis = 1> (e, v_index, v)",
    "less_the_best": "v, v_index = TopK (z, from_1) y = Sub (z, v)",
}


@pytest.mark.parametrize("name", HARMLESS)
def test_ranks_within_a_model_are_not_its_outputs(name, ending):
    classifier = canonicalize(ending(HARMLESS[name]))
    assert (classifier.classes, classifier.ending) == (5, "logits")
