"""Ends of models, written as text: operators from the logits `z` to the output `y`."""

SUM = "ReduceSum <keepdims = 1>"
DIVIDED = f"s = {SUM} (e, class_axis) y = Div (e, s)"
GREATEST = "m = ReduceMax <keepdims = 1> (z, class_axis)"
QUANTISED = "w = QuantizeLinear (z, n0_1, half_of_bytes)"
SOFTMAX = {
    "softmax": "y = Softmax <axis = 1> (z)",
    "log_softmax": "y = LogSoftmax <axis = 1> (z)",
    "exp_of_log_softmax": "l = LogSoftmax <axis = 1> (z) y = Exp (l)",
    "written_out": f"e = Exp (z) {DIVIDED}",
    "less_the_greatest": f"{GREATEST} d = Sub (z, m) e = Exp (d) {DIVIDED}",
    "by_reciprocal": f"e = Exp (z) s = {SUM} (e, class_axis) r = Reciprocal (s) y = Mul (r, e)",
    "by_log_sum_exp": "m = ReduceLogSumExp <keepdims = 1> (z, class_axis) d = Sub (z, m) y = Exp (d)",
    "log_by_log_sum_exp": "m = ReduceLogSumExp <keepdims = 1> (z, class_axis) y = Sub (z, m)",
    "softmax_less_the_greatest": f"{GREATEST} d = Sub (z, m) y = Softmax <axis = 1> (d)",
    "clipped": "p = Softmax <axis = 1> (z) y = Clip (p, tiny, almost_1)",
    "less_log": "l = LogSoftmax <axis = 1> (z) y = Neg (l)",
    "log_of_clipped": "p = Softmax <axis = 1> (z) q = Clip (p, tiny, almost_1) y = Log (q)",
    "log": "p = Softmax <axis = 1> (z) y = Log (p)",
    "percent": "p = Softmax <axis = 1> (z) y = Mul (p, n100)",
    "percent_clipped": "p = Softmax <axis = 1> (z) q = Mul (n100, p) y = Clip (q, n0, n100)",
    "percent_written_out": f"e = Exp (z) s = {SUM} (e, class_axis) f = Mul (e, n100) y = Div (f, s)",
    "rounded": "p = Softmax <axis = 1> (z) q = Mul (p, n100) r = Round (q) y = Div (r, n100)",
    "quantised": "p = Softmax <axis = 1> (z) y = QuantizeLinear (p, step, zero_point)",
    "quantised_and_back": "p = Softmax <axis = 1> (z) q = QuantizeLinear (p, step, zero_point) "
    "y = DequantizeLinear (q, step, zero_point)",
    "quantised_operator": f"{QUANTISED} q = com.microsoft.QLinearSoftmax <axis = 1, opset = 13> "
    "(w, n0_1, half_of_bytes, step, zero_point) y = DequantizeLinear (q, step, zero_point)",
    "temperature": "t = Div (z, n3) y = Softmax <axis = 1> (t)",
    "channels_last": "u = Unsqueeze (z, two_axes) p = Softmax <axis = 3> (u) y = Squeeze (p, two_axes)",
    "of_a_dummy_axis": "u = Unsqueeze (z, class_axis) p = Softmax <axis = 2> (u) "
    "y = ReduceMean <keepdims = 0> (p, class_axis)",
    "transposed": "t = Transpose <perm = [1, 0]> (z) p = Softmax <axis = 0> (t) y = Transpose <perm = [1, 0]> (p)",
    "normalised_sigmoids": f"e = Sigmoid (z) {DIVIDED}",
    "normalised_softplus": f"f = Softplus (z) e = Add (f, n1) {DIVIDED}",
}
SIGMOID = {
    "sigmoid": "y = Sigmoid (z)",
    "sigmoid_percent": "p = Sigmoid (z) y = Mul (p, n100)",
    "sigmoid_clipped": "p = Sigmoid (z) y = Clip (p, tiny, almost_1)",
    "sigmoid_written_out": "n = Neg (z) e = Exp (n) d = Add (n1, e) y = Div (n1, d)",
    "quantised_sigmoid": f"{QUANTISED} q = com.microsoft.QLinearSigmoid (w, n0_1, half_of_bytes, step, zero_point) "
    "y = DequantizeLinear (q, step, zero_point)",
    "sigmoid_by_tanh": "h = Mul (z, n0_5) t = Tanh (h) u = Add (t, n1) y = Mul (u, n0_5)",
    "log_sigmoid": "p = Sigmoid (z) y = Log (p)",
    "hard_sigmoid": "y = HardSigmoid (z)",
    "hard_sigmoid_of_another_slope": "y = HardSigmoid <alpha = 0.1, beta = 0.4> (z)",
    "hard_sigmoid_written_out": "a = Add (z, n3) b = Clip (a, n0, n6) y = Div (b, n6)",
    "hard_sigmoid_percent": "p = HardSigmoid (z) y = Mul (p, n100)",
}
AGAINST = {
    "one_less_sigmoid": "p = Sigmoid (z) y = Sub (n1, p)",
    "one_less_sigmoid_percent": "p = Sigmoid (z) q = Sub (n1, p) y = Mul (n100, q)",
}
TWO_SOFTMAXES = "a = Softmax <axis = 1> (z) w = Sin (z) b = Softmax <axis = 1> (w)"
TWO_SIGMOIDS = "a = Sigmoid (z) w = Sin (z) b = Sigmoid (w)"
OUT_OF_REACH = {
    "mean": ("softmax", f"{TWO_SOFTMAXES} y = Mean (a, b)"),
    "half_the_sum": ("softmax", f"{TWO_SOFTMAXES} s = Add (a, b) y = Div (s, n2)"),
    "mean_in_percent": ("softmax", f"{TWO_SOFTMAXES} s = Mean (a, b) y = Mul (s, n100)"),
    "log_of_mean": ("softmax", f"{TWO_SOFTMAXES} s = Mean (a, b) y = Log (s)"),
    "smoothed": ("softmax", "a = Softmax <axis = 1> (z) m = Mul (a, n0_5) y = Add (m, n0_1)"),
    "another_order": ("softmax", "a = Softmax <axis = 1> (z) y = Gather <axis = 1> (a, order)"),
    "groups": ("softmax", "a = Softmax <axis = 1> (z) y = MatMul (a, groups)"),
    "squares": ("softmax", f"e = Mul (z, z) {DIVIDED}"),
    "some": ("sigmoid", "a = Softmax <axis = 1> (z) y = Slice (a, from_1, to_4, class_axis)"),
    "cut": ("sigmoid", "a = Softmax <axis = 1> (z) y = Clip (a, tiny, n0_7)"),
    "zero_below_a_limit": (
        "sigmoid",
        "a = Softmax <axis = 1> (z) g = Greater (a, n0_1) f = Cast <to = 1> (g) y = Mul (a, f)",
    ),
    "zero_below_a_low_limit": (
        "sigmoid",
        "a = Softmax <axis = 1> (z) g = Greater (a, tiny) n = Mul (a, n0) y = Where (g, a, n)",
    ),
    "mean_of_sigmoids": ("sigmoid", f"{TWO_SIGMOIDS} s = Add (a, b) y = Div (s, n2)"),
    "product_of_sigmoids": ("sigmoid", f"{TWO_SIGMOIDS} y = Mul (a, b)"),
    "either_of_sigmoids": ("sigmoid", f"{TWO_SIGMOIDS} y = Max (a, b)"),
}
LOGITS = {
    "bare": "y = Identity (z)",
    "scaled": "y = Mul (z, n100)",
    "positive": "y = Softplus (z)",
    "logit_of_sigmoid": "p = Sigmoid (z) q = Sub (n1, p) o = Div (p, q) y = Log (o)",
}
