"""Every key that other people's code writes is read, or left alone on purpose.

One that is read is missed when it is nonsense; one that is not changes nothing.
"""

import json

import pytest

from estheory.errors import DataError
from estheory.runs.foreign import read_foreign
from estheory.runs.view import Given

pytest.importorskip("torch")
from tests.validation import foreign_runs as make

READ = {
    "esvsgrpo/config.json": "num_cycles tasks es_hyperparameters",
    "esvsgrpo/config.json tasks": "name num_iterations sigma alpha population_size",
    "esvsgrpo/config.json es_hyperparameters": "num_engines",  # the others stand in for tasks that lack them
    "esvsgrpo/metrics_baseline.jsonl": (
        "type global_step fitness_mean fitness_std kl_mean kl_std batch_size task eval_type reward"
    ),
    "esvsgrpo/c0_t0_countdown/metadata.json": "",
    "grpo/config.json": "tasks optimizer",
    "grpo/config.json tasks": "name lr scheduler_type warmup_ratio",
    "grpo/config.json optimizer": "type lr weight_decay",
    "grpo/metrics_grpo_baseline.jsonl": "type cycle task step lr reward",
    "awd/args.json": (
        "alpha sigma population_size mirror_sampling num_engines precision weight_decay_type weight_decay_lambda"
    ),
    "awd/iteration_updates/iteration_000003.json": "iteration update_coefficients seeds",
    "awd/weight_change.jsonl": "step frobenius_norm total_elements_compared weight_layer_frobenius_norm",
    "awd/hellaswag.jsonl": "step accuracy num_examples",
    "awd/hellaswag_kl.jsonl": "step prompt_averaged_kl_divergence prompt_averaged_kl_std num_examples",
    "static/args.json": "alpha sigma population_size precision num_engines",
    "trl/checkpoint-60/trainer_state.json": "global_step log_history",
    "trl/checkpoint-60/trainer_state.json log_history": "learning_rate step reward reward_std kl",
}
"""Keys that are read, by file and, where there is one, the part of it."""

LEFT = {
    "esvsgrpo/config.json": (
        "experiment_name cuda_devices seed model gpu_memory_utilization kl_tracking debug"  # nothing moves weights
    ),
    "esvsgrpo/config.json tasks": "type train_size test_size batch_size stratify_by_level max_new_tokens",
    "esvsgrpo/config.json es_hyperparameters": "sigma alpha population_size",  # every task has its own here
    "esvsgrpo/metrics_baseline.jsonl": (
        "forward_passes cycle local_iter fitness_max fitness_min epoch iter_time kl_max kl_min current_task"
    ),
    "esvsgrpo/c0_t0_countdown/metadata.json": "cycle task_idx task_name forward_passes timestamp",  # in the name
    "grpo/config.json": (
        "experiment_name num_cycles seed model vllm cuda_devices grpo_hyperparameters evaluation debug scheduler"
    ),
    "grpo/config.json tasks": (
        "type train_size test_size batch_size K use_dr_grpo ppo_clip_range kl_coef train_micro_batch_size "
        "infer_micro_batch_size total_forward_passes max_new_tokens"
    ),
    "grpo/config.json optimizer": "max_grad_norm",  # AdamW does not see a gradient's scale
    "grpo/metrics_grpo_baseline.jsonl": (
        "forward_passes total_forward_passes progress_pct loss grpo_loss kl_loss advantage_mean advantage_std "
        "grad_norm epoch step_time"
    ),
    "awd/args.json": (
        "model_name task num_iterations experiment_dir run_name cuda_devices caching verbose global_seed eval_interval "
        "eval_batch_size wandb_project wandb_entity wandb_mode"  # caching draws the same noise
    ),
    "awd/iteration_updates/iteration_000003.json": "",
    "awd/weight_change.jsonl": (
        "elapsed num_original_tensors num_updated_tensors compared_tensors missing_keys unexpected_keys "
        "shape_mismatches dtype_mismatches original_frobenius_norm updated_frobenius_norm relative_frobenius_norm "
        "weight_layer_names mean_abs_diff max_abs_diff max_abs_diff_key max_tensor_frobenius_norm "
        "max_tensor_frobenius_norm_key is_comparable"
    ),
    "awd/hellaswag.jsonl": (
        "avg_reward std_reward min_reward max_reward avg_format avg_answer avg_output_tokens std_output_tokens elapsed"
    ),
    "awd/hellaswag_kl.jsonl": (
        "kl_estimator prompt_averaged_kl_min prompt_averaged_kl_max token_weighted_kl_divergence num_generated_tokens "
        "avg_generated_tokens std_generated_tokens min_generated_tokens max_generated_tokens elapsed "
        "reference_generation_elapsed"
    ),
    "static/args.json": (
        "model_name num_iterations experiment_dir cuda_devices verbose global_seed eval_data_path eval_interval "
        "eval_batch_size"
    ),
    "trl/checkpoint-60/trainer_state.json": (
        "best_metric best_model_checkpoint best_global_step epoch eval_steps is_hyper_param_search "
        "is_local_process_zero is_world_process_zero logging_steps max_steps num_input_tokens_seen num_train_epochs "
        "save_steps stateful_callbacks total_flos train_batch_size trial_name trial_params"
    ),
    "trl/checkpoint-60/trainer_state.json log_history": (
        "epoch grad_norm loss num_tokens completions/mean_length completions/min_length completions/max_length "
        "completions/clipped_ratio frac_reward_zero_std rewards/score/mean rewards/score/std "
        "entropy clip_ratio/region_mean step_time"
    ),
}
"""Keys that are not, and why where it is not plain."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    make.esvsgrpo_es(folder / "esvsgrpo")
    make.esvsgrpo_grpo(folder / "grpo")
    make.es_awd(folder / "awd")
    make.trl(folder / "trl")
    pytest.importorskip("tensorboard")
    make.es_at_scale(folder / "static", version="static")
    return folder


def documents(text, lines):
    return [json.loads(line) for line in text.splitlines()] if lines else [json.loads(text)]


def told(folder):
    try:
        return repr(read_foreign(folder, Given()))
    except DataError as error:
        return f"refused: {error.what}"


@pytest.mark.parametrize("place", READ)
def test_every_key_is_read_or_left_on_purpose(runs, place):
    name, _, part = place.partition(" ")
    file, lines = runs / name, name.endswith(".jsonl")
    text = file.read_text()

    def rows_of(found):
        inner = [row[part] for row in found] if part else found
        return [row for rows in inner for row in (rows if isinstance(rows, list) else [rows])]

    keys = {key for row in rows_of(documents(text, lines)) for key in row}
    assert keys == {*READ[place].split(), *LEFT[place].split()}
    before, read = told(runs / name.split("/")[0]), set()
    try:
        for key in keys:
            found = documents(text, lines)
            for row in rows_of(found):
                if key in row:
                    row[key] = {"no": "sense"}
            file.write_text("\n".join(map(json.dumps, found)) + "\n")
            if told(runs / name.split("/")[0]) != before:
                read.add(key)
    finally:
        file.write_text(text)
    assert read == set(READ[place].split())
