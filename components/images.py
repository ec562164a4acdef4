"""The container images of the steps, in one place; infra/docker holds their recipes."""

PIPELINE = "tesserec/pipeline:0.1.0-python3.11"
TRAIN = "tesserec/train:0.1.0-python3.11"
