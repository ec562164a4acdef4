"""The decorators of all components: our image, and no package installed when a step starts."""

import os
from typing import Any, Callable

from kfp import dsl

from components.images import PIPELINE, TRAIN


# They return Any: kfp ships no types, and a component is called with outputs of other components.
def component(function: Callable[..., str | None]) -> Any:
    """A component in the pipeline's image."""
    return _component(function, os.environ.get("TESSEREC_PIPELINE_IMAGE", PIPELINE))


def gpu_component(function: Callable[..., None]) -> Any:
    """A component in the training image."""
    return _component(function, os.environ.get("TESSEREC_TRAIN_IMAGE", TRAIN))


def _component(function: Callable[..., str | None], image: str) -> Any:
    # install_kfp_package=False: the image carries kfp; each step would begin with a pip install.
    return dsl.component(function, base_image=image, install_kfp_package=False)
