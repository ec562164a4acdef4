"""Item content -> vectors. A new encoder: one file here and one line in content.ENCODERS."""

from tesserec.encoders.content import ENCODERS, ContentEncoder

__all__ = ["ENCODERS", "ContentEncoder"]
