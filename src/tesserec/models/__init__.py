"""History -> distributions; one method, one file."""

# name -> "module:Class"; imported when asked for (tesserec.models.loading)
MODELS = {
    "rpg": "tesserec.models.rpg:RPG",
    "sasrec": "tesserec.models.sasrec:SASRec",
    "fusion": "tesserec.models.fusion:Fusion",
}

__all__ = ["MODELS"]
