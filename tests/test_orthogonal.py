"""The orthogonal classifier against its equations written out."""

import math

import pytest
import scipy.optimize
import torch

from stylegan2_adamix.orthogonal import OrthogonalClassifier


@pytest.mark.parametrize("absolute", [False, True])
def test_logits_are_cosines_with_the_class_vectors(absolute):
    """Eq. 7, a sample and a class at a time; the vectors are orthonormal to float32."""
    torch.manual_seed(0)
    classifier = OrthogonalClassifier(7, 4, absolute, scale=20).double()
    features = torch.randn(5, 7, dtype=torch.float64)
    logits = classifier(features)
    for i in range(5):
        for k in range(4):
            v, w = features[i].tolist(), classifier.weight[k].tolist()
            norms = math.sqrt(sum(x * x for x in v)) * math.sqrt(sum(x * x for x in w))
            cosine = sum(a * b for a, b in zip(v, w)) / norms
            assert logits[i, k].item() == pytest.approx(20 * (abs(cosine) if absolute else cosine), abs=1e-5)


def test_class_vectors_are_orthonormal_fixed_and_stored_with_the_network():
    classifier = OrthogonalClassifier(16, 10)
    torch.testing.assert_close(classifier.weight @ classifier.weight.t(), torch.eye(10), rtol=0, atol=1e-5)  # Eq. 9
    assert list(classifier.parameters()) == [] and list(classifier.state_dict()) == ["weight"]
    features = torch.randn(3, 16, requires_grad=True)
    classifier(features).square().sum().backward()
    assert features.grad.abs().sum() > 0


def test_the_cross_entropy_has_the_minimum_that_the_docstring_states():
    """SciPy's best features reach it. Features along the class's vector, with all other logits 0, give 1.46."""
    classifier, classes = OrthogonalClassifier(32, 10).double(), torch.arange(1)

    def loss(features):
        features = torch.tensor(features)[None]
        return torch.nn.functional.cross_entropy(classifier(features), classes).item()

    best = scipy.optimize.minimize(loss, classifier.weight[0].numpy() + 0.01).fun
    assert best == pytest.approx(math.log(1 + 9 / math.exp(math.sqrt(10 / 9))), abs=1e-5)
    assert best == pytest.approx(1.42, abs=0.005) and loss(classifier.weight[0].numpy()) == pytest.approx(
        1.46, abs=0.005
    )


def test_equal_seeds_give_equal_vectors():
    first, second = (OrthogonalClassifier(8, 3, generator=torch.Generator().manual_seed(5)).weight for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("arguments", [(4, 5), (4, 0), (4, 2, False, 0), (4, 2, False, -1)])
def test_invalid_arguments_are_refused(arguments):
    with pytest.raises(ValueError):
        OrthogonalClassifier(*arguments)
