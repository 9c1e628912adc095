#!/bin/sh
# Three tasks one after another on SmolLM2-135M, by ES and by GRPO from one base.
# usage: make.sh FOLDER [es | grpo]
# a sequence that is there goes on; each takes half an hour of a free core
set -eu
folder=$1
shift
estheory models get smollm2-135m

sequence() { # METHOD [OPTION ...]
    method=$1
    shift
    estheory run sequence --model smollm2-135m --tasks sums,products,larger --methods "$method" --keep all \
        --evaluation-prompts 100 --out "$folder/$method" "$@" --quiet
}

for method in "${@:-all}"; do
    case $method in
    es | all) sequence es --steps 8 --population 16 --prompts 32 --sigma 2e-3 --alpha 1e-3 --matmul bfloat16 ;;
    esac
    case $method in
    grpo | all) sequence grpo --grpo-steps 6 --grpo-prompts 8 --samples 8 --lr 1e-5 ;;
    esac
done
