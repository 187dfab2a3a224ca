"""The oracle of gradients: torch, differentiated as the file is."""

import torch


def test_what_training_detaches_has_its_gradient(part):
    x = torch.arange(9.0).requires_grad_()
    with part("zoo.autograd").Tape() as tape:
        product = x * x.detach()
    assert product is tape.seen[id(product)]
    (gradient,) = torch.autograd.grad(product.sum(), x)
    torch.testing.assert_close(gradient, 2 * x.detach())
