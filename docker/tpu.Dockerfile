# An image for Cloud TPU and GKE: the IMAGE of `sgt launch gke submit`. Not built by us. From the root of the repository:
#   docker build -f docker/tpu.Dockerfile -t sgt_jax:tpu .
FROM python:3.12-slim
WORKDIR /opt/sgt_jax
COPY . .
# The project itself: versions are bounded in setup.cfg.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[tpu]'
WORKDIR /work
CMD ["sgt", "doctor"]
