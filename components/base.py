"""The decorators of all components: our image, and no package installed when a step starts."""

import functools
import os

from kfp import dsl

from components.images import PIPELINE, TRAIN

# install_kfp_package=False: the image carries kfp; each step would begin with a pip install.
component = functools.partial(
    dsl.component,
    base_image=os.environ.get("TESSEREC_PIPELINE_IMAGE", PIPELINE),
    install_kfp_package=False,
)
gpu_component = functools.partial(
    dsl.component,
    base_image=os.environ.get("TESSEREC_TRAIN_IMAGE", TRAIN),
    install_kfp_package=False,
)
