# syntax=docker/dockerfile:1
# Networks on a GPU: steps that map, training, adaptation, and Dask workers that offer the resource GPU.
#   docker build -f infra/docker/gpu.Dockerfile -t quakeslide-gpu .
# Every package has the version of constraints.txt, constraints-cluster.txt or constraints-gpu.txt; the base images have a
# tag with the whole version, and no digest. Nothing runs as root, and nothing secret is in the image.
FROM python:3.11.14-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
RUN python -m venv /opt/quakeslide
ENV PATH=/opt/quakeslide/bin:$PATH
COPY constraints.txt infra/docker/constraints-cluster.txt infra/docker/constraints-gpu.txt ./
# PyTorch's index of builds for one CUDA (its install page names it); empty: the build by default, for CUDA 13.0, whose
# packages constraints-gpu.txt holds (those of another CUDA have the versions that torch asks for). Nothing replaces it later.
ARG TORCH_INDEX=""
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c constraints.txt -c constraints-gpu.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY flows flows
COPY gee gee
COPY modeling modeling
COPY infra infra
RUN pip install --no-cache-dir -c constraints.txt -c constraints-cluster.txt ".[pipeline,mail,cluster]"

FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="quakeslide" \
      org.opencontainers.image.description="Maps the landslides that an earthquake has just triggered" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 quakeslide \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /home/quakeslide --shell /usr/sbin/nologin quakeslide
COPY --from=build /opt/quakeslide /opt/quakeslide
ENV PATH=/opt/quakeslide/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    QUAKESLIDE_LOG=json \
    PREFECT_LOGGING_SETTINGS_PATH=/opt/quakeslide/lib/python3.11/site-packages/flows/logging.yaml \
    PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER=json \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1 \
    GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    HOME=/home/quakeslide
USER 10001:10001
WORKDIR /home/quakeslide
CMD ["quakeslide", "--help"]
