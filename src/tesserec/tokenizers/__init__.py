"""Vectors -> codes. A new tokenizer: one file here and one line in loading.TOKENIZERS."""

from tesserec.tokenizers.code_table import CodeTable
from tesserec.tokenizers.loading import TOKENIZERS, load_tokenizer

__all__ = ["TOKENIZERS", "CodeTable", "load_tokenizer"]
