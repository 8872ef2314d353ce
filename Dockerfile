# vitgan in a container, for a CPU or an NVIDIA GPU:
#
#   docker build -t vitgan .
#   docker run --rm --user "$(id -u)" -v "$PWD":/work vitgan train quickstart
#   docker run --rm --user "$(id -u)" -v "$PWD":/work --gpus all vitgan train cifar10
#
# torch's usual wheel has CUDA in it, some gigabytes. For an image without it, name the index of torch's CPU wheels:
#
#   docker build -t vitgan --build-arg TORCH_INDEX=... .
FROM python:3.12-slim

ARG TORCH_INDEX=""
COPY constraints.txt /src/
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' /src/constraints.txt)"

COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
RUN pip install --no-cache-dir -c /src/constraints.txt "/src[parquet,lsun,onnx,video,latent,transformers]"

# Runs, data and caches lie in the folder that is mounted here, whoever the user is.
ENV HOME=/work USER=vitgan
WORKDIR /work
ENTRYPOINT ["vitgan"]
CMD ["--help"]
