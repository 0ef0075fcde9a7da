"""A dense layer with gains on its weight and bias; forward and derivatives apply the gains within their products."""

import torch


def linear(x, w, bias=None, weight_gain=1, bias_gain=1):
    """x [N, in] times w [out, in] times `weight_gain`, plus `bias` [out] times `bias_gain`: [N, out]."""
    if bias is None:
        return _Product.apply(x, w.t(), weight_gain)
    return _Linear.apply(x, w, bias, weight_gain, bias_gain)


class _Product(torch.autograd.Function):
    """gain * a @ b. Its derivatives have the same form, with the factors in another order."""

    @staticmethod
    def forward(ctx, a, b, gain):
        ctx.save_for_backward(a, b)
        ctx.gain = gain
        return torch.addmm(a.new_empty([]), a, b, beta=0, alpha=gain)

    @staticmethod
    def backward(ctx, gradient):
        a, b = ctx.saved_tensors
        for_a, for_b, _ = ctx.needs_input_grad
        return (
            _Product.apply(gradient, b.t(), ctx.gain) if for_a else None,
            _Product.apply(a.t(), gradient, ctx.gain) if for_b else None,
            None,
        )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, bias, weight_gain, bias_gain):
        ctx.save_for_backward(x, w)
        ctx.gains = weight_gain, bias_gain
        return torch.addmm(bias, x, w.t(), alpha=weight_gain, beta=bias_gain)

    @staticmethod
    def backward(ctx, gradient):
        x, w = ctx.saved_tensors
        weight_gain, bias_gain = ctx.gains
        for_x, for_w, for_bias, *_ = ctx.needs_input_grad
        return (
            _Product.apply(gradient, w, weight_gain) if for_x else None,
            _Product.apply(gradient.t(), x, weight_gain) if for_w else None,
            gradient.sum(dim=0) * bias_gain if for_bias else None,
            None,
            None,
        )
