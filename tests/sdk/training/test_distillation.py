import copy

import numpy as np
import pytest
import torch
from torch import nn

from edgeopt.errors import DataError, PassError
from edgeopt.training._feature_pairs import layers_of, paired, regressor
from edgeopt.training._outputs import Target, demand_same_outputs, survey
from edgeopt.training.distillation import (
    Distillation,
    Weights,
    attention_difference,
    hint,
    output_difference,
    soft_targets,
)
from edgeopt.training.engine import train
from edgeopt.training.options import TrainingOptions
from edgeopt.training.samples import Samples
from edgeopt_runner.protocol.samples import write_samples
from support.trained import module_of, trained
from support.training import digits, fresh, small, top1


def test_soft_targets_are_the_divergence_of_softened_distributions_times_t_squared():
    student, teacher = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[0.0, 3.0, -1.0]])
    p, q = (np.exp(x / 4) / np.exp(x / 4).sum() for x in (teacher[0].numpy(), student[0].numpy()))
    assert float(soft_targets(student, teacher, 4.0)) == pytest.approx(16 * (p * np.log(p / q)).sum(), rel=1e-5)
    assert float(soft_targets(teacher, teacher, 4.0)) == pytest.approx(0, abs=1e-6)


def test_the_gradient_keeps_its_size_at_any_temperature():
    """Hinton, Vinyals, Dean 2015, eq. 4: at high temperature and zero-mean scores it is (z - v) / N, times T² / T²."""
    teacher = torch.tensor([[0.3, -0.1, -0.2]])
    for temperature in (100.0, 1000.0):
        student = torch.zeros(1, 3, requires_grad=True)
        soft_targets(student, teacher, temperature).backward()
        assert student.grad[0].tolist() == pytest.approx((-teacher[0] / 3).tolist(), rel=1e-2)


def test_classes_may_be_along_any_axis():
    student, teacher = torch.randn(2, 5, 3, 3), torch.randn(2, 5, 3, 3)
    last = soft_targets(student.movedim(1, -1), teacher.movedim(1, -1), 2.0, axis=-1)
    assert float(soft_targets(student, teacher, 2.0)) == pytest.approx(float(last), rel=1e-5)


def test_probabilities_are_as_good_as_the_scores_behind_them():
    student, teacher = torch.randn(8, 10), torch.randn(8, 10)
    scores = output_difference(Target("scores"), student, teacher, 3.0)
    behind = output_difference(Target("probabilities"), student.softmax(1), teacher.softmax(1), 3.0)
    assert float(behind) == pytest.approx(float(scores), rel=1e-4)


def test_attention_is_where_the_channels_are_strong_whatever_their_number_and_scale():
    teacher = torch.rand(2, 8, 4, 4)
    twice = torch.cat([teacher, teacher], 1) * 5
    assert float(attention_difference(twice, teacher)) == pytest.approx(0, abs=1e-6)
    apart = torch.zeros(1, 1, 2, 1), torch.zeros(1, 1, 2, 1)
    apart[0][..., 0, 0] = apart[1][..., 1, 0] = 1
    assert float(attention_difference(*apart)) == pytest.approx(2)


def test_hints_are_in_parts_of_the_teachers_mean_square():
    teacher = torch.randn(4, 8, 3, 3)
    assert float(hint(torch.zeros_like(teacher), teacher)) == pytest.approx(1)
    assert float(hint(torch.zeros_like(teacher), teacher * 100)) == pytest.approx(1)


def test_survey_takes_scores_for_what_they_are_where_labels_are_classes(tmp_path):
    teacher = module_of("residual")
    assert [target.kind for target in survey(teacher, digits(), "auto")] == ["scores"]
    unlabelled = Samples(trained("residual").calibration, ["image"])
    assert [target.kind for target in survey(teacher, unlabelled, "auto")] == ["values"]
    assert [target.kind for target in survey(teacher, unlabelled, "classes")] == ["scores"]
    assert [target.kind for target in survey(nn.Sequential(teacher, nn.Softmax(1)), unlabelled, "auto")] == [
        "probabilities"
    ]


def test_survey_refuses_what_nobody_can_learn_from(tmp_path):
    class Chosen(nn.Module):
        def forward(self, image):
            return image.flatten(1).argmax(1)

    class Infinite(nn.Module):
        def forward(self, image):
            return image.flatten(1) / 0

    with pytest.raises(PassError, match="no real outputs"):
        survey(Chosen(), digits(), "auto")
    with pytest.raises(PassError, match="not finite"):
        survey(Infinite(), digits(), "auto")


def test_a_teacher_that_takes_one_batch_size_is_asked_one_by_one():
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, image):
            return self.linear(image.reshape(1, 64))

    teacher = One().requires_grad_(False)
    (target,) = survey(teacher, digits(40), "values")
    single = torch.cat([teacher(digits(40).batch([index])[0][0]) for index in range(40)])
    assert target.spread == pytest.approx(float(single.var(unbiased=False)), rel=1e-4)


def test_different_outputs_are_one_error_that_names_both():
    inputs = (torch.zeros(2, 1, 8, 8),)
    teacher, student = small(), small()
    student.head = nn.Linear(32, 7)
    with pytest.raises(PassError, match=r"teacher float32\[2, 10\], the student float32\[2, 7\]"):
        demand_same_outputs(teacher, student, inputs)


def _narrow():
    network = small(1)
    network.stem[0], network.stem[1] = nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4)
    network.body[2] = nn.Linear(64, 32)
    return network.eval()


def test_layers_are_paired_by_name_the_last_of_each_size():
    inputs = (torch.zeros(2, 1, 8, 8),)
    pairs = paired(small(), _narrow(), inputs, "auto")
    assert [(pair.teacher, pair.student_channels, pair.teacher_channels) for pair in pairs] == [
        ("stem.2", 4, 8),
        ("body.4", 32, 32),
    ]
    assert [pair.positions for pair in pairs] == [16, 1]


def test_layers_with_other_names_are_paired_by_size():
    teacher = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))
    student = nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU6()), nn.Flatten(1), nn.Linear(64, 10))
    teacher.layer_names = {"0": "a", "1": "b", "3": "c"}
    student.layer_names = {"0.0": "x", "0.1": "y", "2": "z"}
    (pair,) = paired(teacher, student, (torch.zeros(2, 1, 8, 8),), "auto")
    assert (pair.teacher, pair.student) == ("1", "0.1")
    (named,) = paired(teacher, student, (torch.zeros(2, 1, 8, 8),), "a=x")
    assert (named.teacher, named.student) == ("0", "0.0")


def test_a_layer_that_is_not_there_or_does_not_fit_is_named():
    inputs = (torch.zeros(2, 1, 8, 8),)
    with pytest.raises(PassError, match=r"the teacher has no layer 'stem.9'. It has: stem.0, stem.1"):
        paired(small(), small(), inputs, "stem.9")
    with pytest.raises(PassError, match=r"stem.0 \[2, 8, 4, 4\] and head \[2, 10\], of teacher and student, differ"):
        paired(small(), small(), inputs, "stem.0=head")
    with pytest.raises(PassError, match="no layers with feature maps of one size"):
        paired(
            nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten()),
            nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
            inputs,
            "auto",
        )


def test_the_channels_of_tokens_are_last():
    shapes = {layer.name: layer.axis for layer in layers_of(module_of("transformer"), (torch.zeros(2, 1, 8, 8),))}
    assert shapes["layers.0.mlp.0"] == 2


def test_a_regressor_maps_widths_wherever_they_are():
    (pair, _) = paired(small(), _narrow(), (torch.zeros(2, 1, 8, 8),), "auto")
    assert regressor(pair)(torch.zeros(3, 4, 4, 4)).shape == (3, 8, 4, 4)


def _distillation(teacher, student, weights, **pairs):
    return Distillation(teacher, survey(teacher, digits(), "auto"), weights, **pairs)


def test_features_and_attention_reach_the_student_and_regressors_train_along():
    inputs, labels = digits(32).batch(range(32))
    teacher, student = small(), _narrow()
    pairs = paired(teacher, student, inputs, "auto")
    torch.manual_seed(0)
    plain = _distillation(teacher, student, Weights(labels=0))(student, inputs, labels)
    loss = _distillation(teacher, student, Weights(labels=0), features=pairs, attention=pairs)
    value = loss(student, inputs, labels)
    assert float(value.detach()) > float(plain.detach())
    (value - plain).backward()
    assert float(student.stem[0].weight.grad.abs().sum()) > 0
    assert [parameter.shape for parameter in loss.parameters()] == [(8, 4), (8,)]
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in loss.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_labels_have_the_share_that_they_are_given():
    inputs, labels = digits(32).batch(range(32))
    teacher, student = module_of("residual"), fresh("residual")
    with torch.no_grad():
        soft, mixed, hard = (
            float(_distillation(teacher, student, Weights(labels=share))(student, inputs, labels))
            for share in (0.0, 0.25, 1.0)
        )
        assert hard == pytest.approx(float(nn.functional.cross_entropy(student(*inputs), labels)), rel=1e-5)
    assert mixed == pytest.approx(0.75 * soft + 0.25 * hard, rel=1e-5)


def test_the_users_loss_gets_the_students_outputs(tmp_path):
    (tmp_path / "own.py").write_text("def loss(outputs, labels):\n    return (outputs[:, 0] * 2).mean()\n")
    inputs, labels = digits(8).batch(range(8))
    student = fresh("residual")
    loss = Distillation(
        module_of("residual"), (Target("scores"),), Weights(labels=1.0), user_loss=f"{tmp_path / 'own.py'}:loss"
    )
    with torch.no_grad():
        assert float(loss(student, inputs, labels)) == pytest.approx(float(student(*inputs)[:, 0].mean() * 2))


def test_a_student_learns_without_labels(tmp_path):
    images = digits().batch(range(len(digits())))[0][0].numpy()
    write_samples(str(tmp_path / "unlabelled.npz"), {"input:image": images[:, None]})
    unlabelled = Samples(tmp_path / "unlabelled.npz", ["image"])
    teacher, student = module_of("residual"), small(1)
    loss = Distillation(teacher, survey(teacher, unlabelled, "auto"), Weights())
    before = top1(student)
    report = train(student, unlabelled, loss, TrainingOptions(epochs=8, learning_rate=1e-2), seed=0)
    assert before < 0.3
    assert top1(student) > 0.9
    assert report.losses[-1] < report.losses[0]


def test_a_loss_that_became_nan_is_one_error_and_the_weights_before_stay():
    teacher, student = module_of("residual"), fresh("residual")
    before = copy.deepcopy(student.state_dict())
    loss = Distillation(teacher, survey(teacher, digits(), "auto"), Weights())
    with pytest.raises(PassError, match="diverged"):
        train(student, digits(), loss, TrainingOptions(learning_rate=1e30, optimiser="sgd", warmup=0.0), seed=0)
    assert all(bool(torch.isfinite(value).all()) for value in student.state_dict().values())
    assert before.keys() == student.state_dict().keys()


def test_labels_that_are_no_classes_are_told():
    inputs, labels = digits(8).batch(range(8))
    loss = Distillation(module_of("residual"), (Target("scores"),), Weights())
    with pytest.raises(DataError, match="label 19 is no class"):
        loss(fresh("residual"), inputs, torch.full_like(labels, 19))
