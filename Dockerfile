# Two images from one file:
#   api     serves and takes requests for jobs, without torch    docker build --target api .
#   worker  runs the jobs: trains, imports, judges               docker build --target worker .
#
# What changes rarely comes first: a change of the source rebuilds only the small `project` layer.

ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm


FROM ${PYTHON_IMAGE} AS dependencies
# Use the system's certificates: an authority added to the base image is then trusted here.
ENV UV_SYSTEM_CERTS=1 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 VIRTUAL_ENV=/opt/perceptd
WORKDIR /src
COPY requirements.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --constraint requirements.lock uv \
    && uv venv --quiet "$VIRTUAL_ENV"
COPY pyproject.toml ./
RUN uv pip install --constraint requirements.lock --requirement pyproject.toml --extra telemetry


# perceptd alone, laid out to be copied over the environment with its dependencies.
FROM dependencies AS project
COPY README.md LICENSE ./
COPY perceptd perceptd
COPY models models
COPY training training
COPY service service
RUN uv pip install --no-deps --prefix /project .


FROM ${PYTHON_IMAGE} AS runtime
ARG PYTHON_IMAGE
LABEL org.opencontainers.image.title="perceptd" \
      org.opencontainers.image.description="Serve PyTorch classifiers over REST" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
RUN groupadd --gid 10001 perceptd \
    && useradd --uid 10001 --gid perceptd --no-create-home --home-dir /tmp perceptd \
    && install --directory --owner perceptd --group perceptd /data
# Nothing is written outside /data and /tmp: the root file system may be read-only.
ENV PATH=/opt/perceptd/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PERCEPTD_DATA_DIR=/data
WORKDIR /data
VOLUME /data
USER 10001:10001
STOPSIGNAL SIGTERM


FROM runtime AS api
COPY --from=dependencies /opt/perceptd /opt/perceptd
COPY --from=project /project /opt/perceptd
# Nobody reaches a container's loopback. The service refuses to listen on 0.0.0.0 unless it gets
# PERCEPTD_PREDICT_TOKEN, or PERCEPTD_OPEN_PREDICTIONS=1.
ENV PERCEPTD_HOST=0.0.0.0 PERCEPTD_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['PERCEPTD_PORT']}/health/ready\", timeout=4)"]
CMD ["perceptd", "serve"]


FROM dependencies AS training-dependencies
# The build of torch: cpu, cu130, ... as in `uv pip install --torch-backend`; empty takes that of the
# default index. The CUDA packages in the lock are only constraints: cpu installs none of them.
ARG TORCH_BACKEND=cpu
RUN uv pip install ${TORCH_BACKEND:+--torch-backend "$TORCH_BACKEND"} \
    --constraint requirements.lock --requirement pyproject.toml --extra train


FROM runtime AS worker
COPY --from=training-dependencies /opt/perceptd /opt/perceptd
COPY --from=project /project /opt/perceptd
ENV PERCEPTD_MNIST_DIR=/data
CMD ["perceptd", "worker"]
