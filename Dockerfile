# PicoPose with its weights, Python and OpenGL, for the CPU or, by the arguments, for GPUs.
#
#   docker build -t picopose .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" picopose demo --mesh mug.ply --image photo.jpg ...
#
#   docker build -t picopose --build-arg TORCH=https://pypi.org/simple \
#       --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 .
#   docker run --rm --gpus all ...

# Debian or Ubuntu with Python 3.11 or newer.
ARG BASE=debian:bookworm-slim
FROM ${BASE}

# An index whose PyTorch is taken instead of that on PyPI, which is for GPUs and 4 GB larger.
ARG TORCH=https://download.pytorch.org/whl/cpu

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        libegl1 libgl1-mesa-dri python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

ENV PATH=/opt/picopose/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/picopose
RUN --mount=type=bind,source=requirements.txt,target=/src/requirements.txt \
    pip install --extra-index-url "$TORCH" -r /src/requirements.txt
RUN --mount=type=bind,target=/src pip install --no-deps /src

# What is prepared of objects is kept in /cache, whoever runs it: PyTorch wants a name of the user otherwise.
ENV PICOPOSE_CACHE=/cache TORCHINDUCTOR_CACHE_DIR=/cache/torch
# The driver's OpenGL too, where there is a GPU.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility
RUN useradd --create-home picopose && mkdir --mode=1777 /cache /work
USER picopose
WORKDIR /work
ENTRYPOINT ["picopose"]
CMD ["--help"]
