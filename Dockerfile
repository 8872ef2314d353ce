# vitgan in a container, for a CPU or an NVIDIA GPU. Runs, data and caches lie in the folder mounted at /project.
#
#   docker build -t vitgan .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD":/project vitgan train quickstart
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD":/project --gpus all vitgan train cifar10
#
# `docker stop` saves the run, and `train --resume runs/...` goes on with it. podman takes the same words, but
# `--device nvidia.com/gpu=all` for `--gpus all`, and `--userns keep-id` besides when it runs without root.
#
# torch's usual wheel has CUDA in it, and the image takes 6.5 GB. For a smaller one without it, name the index of
# torch's CPU wheels:
#
#   docker build -t vitgan --build-arg TORCH_INDEX=... .
ARG BASE=python:3.12-slim

FROM ${BASE}
# What changes most comes last: a change in src rebuilds one small layer.
# --training.compile needs a C++ compiler.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

ARG TORCH_INDEX=""
COPY constraints.txt /src/
RUN pip install --no-cache-dir -c /src/constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch

COPY pyproject.toml /src/
RUN mkdir /src/src && touch /src/README.md /src/LICENSE \
    && pip install --no-cache-dir -c /src/constraints.txt "/src[parquet,lsun,onnx,video,latent,transformers]" \
    && pip uninstall --yes vitgan \
    && rm -r /src

# Not `RUN --mount`: some releases of podman then keep the layer of an older src.
COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
RUN pip install --no-cache-dir --no-deps /src && rm -r /src

# A user with no name and no home has both here; any user may write to /project.
ENV HOME=/project USER=vitgan TORCHINDUCTOR_CACHE_DIR=/project/.cache/torchinductor
RUN mkdir --mode=1777 /project
WORKDIR /project
USER 1000:1000
ENTRYPOINT ["vitgan"]
CMD ["--help"]
