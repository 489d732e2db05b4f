#!/usr/bin/env bash
# What one GPU does, in under nine minutes, as report.md and report.json in the folder $OUT: docs/gpu.md.
#
# OUT=FOLDER benchmarks/gpu.sh [--rehearse]
# --rehearse: the same in a short form on the CPU, to see that everything runs.
# .gpu has what benchmarks/gpu_luggage.sh has packed; another PICO_SHARED holds reference/ and, where there are
# any, meshes/ and backgrounds/. PYTHON names another python3.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
PYTHON=${PYTHON:-python3}
LIMIT=530 # seconds for everything
LEAST=100 # seconds of them that are left to the training
patience=1 # times the limits of the parts
OUT=$(mkdir -p "${OUT:-output/gpu}" && cd "${OUT:-output/gpu}" && pwd)
export PICO_SHARED=${PICO_SHARED:-$PWD/.gpu/shared} PYTHONUNBUFFERED=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
{
    [[ ${1:-} == --rehearse ]] && echo "A rehearsal on the CPU: its figures say nothing about any machine."
    echo "What each part answers: docs/gpu.md. $(date -u '+%F %R') UTC, commit $commit."
} >"$work/about"

part() { # NAME SECONDS COMMAND...: runs a part of the report for so long at most; the others do not need it
    local name=$1 limit=$((patience * $2)) start=$SECONDS left=$((LIMIT - LEAST - SECONDS)) status=124
    shift 2
    limit=$((limit < left ? limit : left))
    echo "$name, $limit s at most" >&2
    if ((limit > 0)); then
        timeout --kill-after=15 "$limit" "$@" >"$work/$name.out" 2>"$work/$name.err"
        status=$?
    fi
    printf '%s\t%s\t%s\t%s\n' "$name" $status $((SECONDS - start)) "$*" >>"$work/parts.tsv"
    "$PYTHON" -m benchmarks.gpu_report "$work" "$OUT"
}

run() { part "$1" "$2" "$PYTHON" "${@:3}"; }

if ls .gpu/wheels/*.whl >/dev/null 2>&1; then
    run wheels 60 -m pip install -q --no-index --no-deps --no-compile --target "$work/site" .gpu/wheels/*.whl
    export PYTHONPATH=$work/site
fi
if [[ -d .gpu/gl ]] && ! ldconfig -p | grep -q libEGL.so.1; then
    for package in .gpu/gl/*.deb; do dpkg -x "$package" "$work/gl"; done
    export LD_LIBRARY_PATH=$work/gl/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
nvidia=/usr/local/nvidia/share/glvnd/egl_vendor.d/10_nvidia.json
[[ -e $nvidia ]] && export __EGL_VENDOR_LIBRARY_FILENAMES=$nvidia

workers=$(($(nproc) > 2 ? $(nproc) - 2 : 1))
data=("train.workers=$workers" train_dataset.meshes=[] train_dataset.shapes=1 train_dataset.backgrounds=null)
[[ -d $PICO_SHARED/meshes ]] && data[1]=train_dataset.meshes=[$PICO_SHARED/meshes] data[2]=train_dataset.shapes=0.25
[[ -d $PICO_SHARED/backgrounds ]] && data[3]=train_dataset.backgrounds=$PICO_SHARED/backgrounds
paper=(train_dataset.megapose=[] train_dataset.synthetic=1 "${data[@]}")
features=$work/features # templates that several parts use

if [[ ${1:-} == --rehearse ]]; then
    gpu=cpu patience=20 LIMIT=3600
    export TORCHDYNAMO_DISABLE=1 # compiling takes minutes there
    export OMP_NUM_THREADS=1     # several wait for each other where other work runs
    golden=(--networks vits14)
    networks=(lite)
    eager=(--hypotheses 1 --detections 1 --views 42 --repeats 1)
    paper_photo=(--backbone lite "${eager[@]}")
    compiled=(--backbone lite "${eager[@]}")
    pnp=(--device cpu --batches 1 --ratios 0.5 0.7)
    narrow=(train.batch_size=4 train.steps=2 train.validation_pairs=4)
    wide=(--config config/lite.yaml train_dataset.kept=null train.batch_size=4)
    steps=2 pairs=20 leg=60
else
    gpu=0
    golden=()
    networks=(lite vits14 vitb14 vitl14)
    eager=(--hypotheses 1 5 --detections 1 8 32 --repeats 5)
    paper_photo=(--backbone vitl14 --hypotheses 5 --detections 7 --repeats 20)
    compiled=(--backbone lite vitl14 --hypotheses 1 5 --detections 1 8 --repeats 5)
    pnp=(--device cuda --batches 2 --ratios 0.3 0.5 0.7)
    narrow=() wide=(--config config/base.yaml)
    steps=150 pairs=200 leg=$LIMIT
fi
latency=(-m benchmarks.latency --device "$gpu" --features_dir "$features")
training=(-m benchmarks.training --gpus "$gpu" --pairs 0)

[[ $gpu == cpu ]] || part card 20 nvidia-smi
run machine 40 -c 'import os, platform, torch; print(platform.python_version(), torch.__version__, os.cpu_count(), "cores")'
run golden 75 -m benchmarks.golden --device $gpu "${golden[@]}"
for network in "${networks[@]}"; do run "latency_$network" 60 "${latency[@]}" --backbone "$network" "${eager[@]}"; done
run latency_of_the_paper 30 "${latency[@]}" "${paper_photo[@]}"
run pnp 60 -m benchmarks.pnp "${pnp[@]}"
run training 60 "${training[@]}" --config config/refine.yaml --steps $steps "${data[@]}" "${narrow[@]}"
run training_of_the_paper 60 "${training[@]}" "${wide[@]}" --steps $((steps / 10 + 1)) "${paper[@]}"
run feeding 40 -m benchmarks.feeding --gpus $gpu --pairs $pairs "${data[@]:1}"
run rendering 40 -m benchmarks.rendering --repeats 1
# Each prints all it has to say in the end, so that their lines do not mix.
seq 2 | part two_processes 40 xargs -P 2 -I{} env -u PYTHONUNBUFFERED "$PYTHON" "${latency[@]}" "${paper_photo[@]}"
run latency_compiled 100 "${latency[@]}" "${compiled[@]}" runtime.compile=true

LEAST=20 # for the checkpoint's way back
run leg $leg run_train.py --config config/refine.yaml --gpus $gpu "log_dir=$work/log" "${data[@]}" "${narrow[@]}"
cp "$work"/log/*/scalars.jsonl "$OUT"
checkpoints=("$work"/log/*/step_*.pt)
last=${checkpoints[-1]}
[[ -e $last ]] && split -d -b 15M "$last" "$OUT/$(basename "$last")."
cat "$OUT/report.md"
