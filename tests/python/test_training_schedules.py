"""Learning rate, time budget, attention kernels, scheduled sampling."""

import math
from types import SimpleNamespace

import pytest
import torch

from lrengine.training.attention import attention_kernels
from lrengine.training.clock import RunClock, learning_rate_factor
from lrengine.training.config import ScheduledSampling
from lrengine.training.scheduled_sampling import mix_predictions, own_prediction_probability, sampled_decoder_inputs


def test_learning_rate_warms_up_and_falls():
    assert learning_rate_factor(0.0, "cosine", 0.1) == 0.0
    assert learning_rate_factor(0.05, "cosine", 0.1) == pytest.approx(0.5)
    assert learning_rate_factor(0.1, "cosine", 0.1) == pytest.approx(1.0)
    assert learning_rate_factor(0.55, "cosine", 0.1) == pytest.approx(0.5)
    assert learning_rate_factor(1.0, "cosine", 0.1) == pytest.approx(0.0)
    assert learning_rate_factor(0.55, "linear", 0.1) == pytest.approx(0.5)
    assert learning_rate_factor(0.9, "constant", 0.1) == 1.0
    assert learning_rate_factor(0.0, "constant", 0.0) == 1.0
    assert learning_rate_factor(1.0, "cosine", 1.0) == pytest.approx(0.0, abs=1e-9)


def test_progress_is_whichever_of_steps_and_seconds_is_further():
    clock = RunClock(max_steps=100, max_seconds=10.0)
    clock.steps, clock.seconds = 20, 5.0
    assert clock.progress == 0.5
    clock.seconds = 1.0
    assert clock.progress == 0.2
    assert RunClock(100, None).progress_at(300) == 1.0


def test_a_resumed_clock_goes_on_where_it_was():
    clock = RunClock(100, 10.0)
    state = SimpleNamespace(log_history=[{"elapsed_s": 3.0, "step": 4}, {"loss": 1.0, "step": 5}], global_step=5)
    control = SimpleNamespace(should_training_stop=False)
    args = SimpleNamespace(device=torch.device("cpu"))
    clock.on_train_begin(args, state, control)
    clock.on_step_end(args, state, control)
    assert 3.0 <= clock.seconds < 4.0 and not control.should_training_stop
    clock.max_seconds = 3.0
    clock.on_step_end(args, state, control)
    assert control.should_training_stop and clock.out_of_time


@pytest.mark.parametrize(("bf16", "on_cpu", "fused"), [(True, True, False), (True, False, True), (False, True, True)])
def test_only_bfloat16_on_a_cpu_goes_without_the_fused_attention(bf16, on_cpu, fused):
    with attention_kernels(bf16, on_cpu):
        assert torch.backends.cuda.flash_sdp_enabled() is fused and torch.backends.cuda.math_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()


def test_the_linear_schedule():
    config = ScheduledSampling("linear", max_probability=0.4, start=0.5, end=0.75)
    probabilities = [own_prediction_probability(config, progress, 0) for progress in (0.0, 0.49, 0.625, 0.75, 1.0)]
    assert probabilities == pytest.approx([0.0, 0.0, 0.2, 0.4, 0.4])
    step = ScheduledSampling("linear", max_probability=0.4, start=0.5, end=0.5)
    assert own_prediction_probability(step, 0.5, 0) == 0.4


def test_the_inverse_sigmoid_schedule_is_bengios():
    config = ScheduledSampling("inverse_sigmoid", max_probability=1.0, k=50.0)
    for step in (0, 100, 200, 400):
        teacher = 50.0 / (50.0 + math.exp(step / 50.0))
        assert own_prediction_probability(config, 0.0, step) == pytest.approx(1.0 - teacher)
    assert own_prediction_probability(config, 0.0, 10**9) == pytest.approx(1.0)
    assert own_prediction_probability(ScheduledSampling(), 1.0, 10**9) == 0.0


def test_predictions_replace_the_inputs_they_stand_for():
    gold = torch.tensor([[0, 11, 12, 13], [0, 21, 1, 1]])
    labels = torch.tensor([[11, 12, 13, 2], [21, 2, -100, -100]])
    predictions = torch.tensor([[31, 32, 33, 34], [41, 42, 43, 44]])
    assert mix_predictions(gold, predictions, labels, 0.0).equal(gold)
    # the prediction for label t is the input at t + 1; the start token and padding stay
    assert mix_predictions(gold, predictions, labels, 1.1).tolist() == [[0, 31, 32, 33], [0, 41, 42, 1]]


def test_about_the_wanted_share_is_replaced():
    torch.manual_seed(0)
    gold = torch.zeros(64, 101, dtype=torch.long)
    mixed = mix_predictions(gold, gold + 5, gold + 7, 0.3)
    assert (mixed[:, 1:] == 5).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert (mixed[:, 0] == 0).all()


def test_the_first_pass_sees_only_gold_tokens_and_leaves_no_gradients():
    class Recorder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def prepare_decoder_input_ids_from_labels(self, labels):
            return torch.tensor([[0, 5, 6]])

        def forward(self, input_ids, attention_mask, decoder_input_ids, use_cache):
            self.seen = decoder_input_ids
            logits = torch.nn.functional.one_hot(torch.tensor([[8, 9, 2]]), 10) * self.weight
            assert not logits.requires_grad
            return SimpleNamespace(logits=logits)

    model = Recorder()
    inputs = {"input_ids": torch.ones(1, 2), "attention_mask": torch.ones(1, 2), "labels": torch.tensor([[5, 6, 2]])}
    assert sampled_decoder_inputs(model, inputs, 1.1).tolist() == [[0, 8, 9]]
    assert model.seen.tolist() == [[0, 5, 6]]
