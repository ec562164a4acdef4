# Image of the pipeline's steps (components/images.py); with --build-arg TORCH_INDEX=... also of the training step.
#   docker build -f infra/docker/pipeline.Dockerfile -t tesserec/pipeline:0.1.0-python3.11 .
FROM python:3.11-slim
ARG TORCH_INDEX=
WORKDIR /opt/tesserec
COPY pyproject.toml README.md LICENSE ./
COPY infra/constraints infra/constraints
COPY src src
RUN pip install --no-cache-dir uv \
 && uv pip install --system ${TORCH_INDEX:+--extra-index-url $TORCH_INDEX} \
      -c infra/constraints/pipeline.txt '.[pipeline,beam,feast,validate,train,client]'
# The rehearsal runs a real Triton, which lives in an environment of its own (docs/decisions.md).
RUN apt-get update && apt-get install -y --no-install-recommends libpython3.11 && rm -rf /var/lib/apt/lists/* \
 && uv venv -q .venv-serve \
 && uv pip install -p .venv-serve/bin/python -c infra/constraints/serving.txt \
      --override infra/constraints/serving-overrides.txt '.[serve,client]'
COPY components components
COPY pipelines pipelines
COPY feature_repo feature_repo
COPY serving serving
ENV TESSEREC_PROJECT=/opt/tesserec GX_ANALYTICS_ENABLED=false
RUN useradd --create-home tesserec
USER tesserec
