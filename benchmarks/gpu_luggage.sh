#!/usr/bin/env bash
# Packs into .gpu what benchmarks/gpu.sh needs on a machine that reaches no network: docs/gpu.md.
#
# benchmarks/gpu_luggage.sh, where PICO_SHARED names the folder with reference/, meshes/ and backgrounds/
set -euo pipefail
cd "$(dirname "$0")/.."
shared=$(realpath "${PICO_SHARED:-../shared}")
mkdir -p .gpu/wheels .gpu/gl .gpu/shared/{reference,meshes,backgrounds}

# What the machine's image lacks of requirements.txt, less what only the page and MegaPose's data need.
wanted=$(grep -hE '^(moderngl|glcontext|trimesh|omegaconf|pycocotools|poselib)==' requirements*.txt)
platforms=(manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64 manylinux1_x86_64)
# shellcheck disable=SC2086
"${PYTHON:-python3}" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    "${platforms[@]/#/--platform=}" -d .gpu/wheels $wanted

# Of the loader that finds the driver's OpenGL; the machine may have it.
(cd .gpu/gl && apt-get -qq download libegl1 libglvnd0)

cp -u "$shared"/reference/{golden_{inputs,vits14,vitl14}.npz,state_dict_{vits14,vitl14}.json} .gpu/shared/reference
# Every third mesh and every fourth photo, for the training's pairs: all of them would be too large.
find "$shared/meshes" -name '*.glb' | sort | awk 'NR % 3 == 0' | xargs -r cp -u -t .gpu/shared/meshes
find "$shared/backgrounds" -name '*.jpg' | sort | awk 'NR % 4 == 0' | xargs -r cp -u -t .gpu/shared/backgrounds
du -sh .gpu/*
