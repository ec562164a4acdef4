"""Where data come from; one source, one file."""

from tesserec.data.sources.amazon2014 import Amazon2014
from tesserec.data.sources.amazon2023 import Amazon2023
from tesserec.data.sources.folder import Folder
from tesserec.data.sources.generated import Generated
from tesserec.data.sources.movielens import MovieLens
from tesserec.data.sources.tesserec import Tesserec

SOURCES = {
    "generated": Generated,
    "folder": Folder,
    "tesserec": Tesserec,
    "movielens": MovieLens,
    "amazon2014": Amazon2014,
    "amazon2023": Amazon2023,
}

__all__ = ["SOURCES", "Amazon2014", "Amazon2023", "Folder", "Generated", "MovieLens", "Tesserec"]
