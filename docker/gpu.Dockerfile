# An image for NVIDIA GPUs, with a driver for CUDA 13 on the host. Not built by us. From the root of the repository:
#   docker build -f docker/gpu.Dockerfile -t sgt_jax:gpu .
FROM python:3.12-slim
WORKDIR /opt/sgt_jax
COPY . .
# The project itself: versions are bounded in setup.cfg.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[cuda13]'
WORKDIR /work
CMD ["sgt", "doctor"]
