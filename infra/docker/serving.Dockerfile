# Image of the server: Triton's python backend with tesserec beside it (numpy 1.26 by override, docs/decisions.md).
#   docker build -f infra/docker/serving.Dockerfile -t tesserec/serving:0.1.0-python3.11 .
FROM python:3.11-slim
WORKDIR /opt/tesserec
COPY pyproject.toml README.md LICENSE ./
COPY infra/constraints infra/constraints
COPY src src
RUN apt-get update && apt-get install -y --no-install-recommends libpython3.11 && rm -rf /var/lib/apt/lists/* \
 && pip install --no-cache-dir uv && uv venv -q .venv-serve \
 && uv pip install -p .venv-serve/bin/python -c infra/constraints/serving.txt \
      --override infra/constraints/serving-overrides.txt '.[serve,client]'
COPY pipelines pipelines
COPY feature_repo feature_repo
COPY serving serving
ENV TESSEREC_PROJECT=/opt/tesserec
RUN useradd --create-home tesserec
USER tesserec
ENTRYPOINT ["/opt/tesserec/.venv-serve/bin/tesserec", "serve"]
