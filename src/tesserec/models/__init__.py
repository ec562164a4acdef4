"""History -> distributions; one method, one file."""

# name -> "module:Class"; imported when asked for (tesserec.models.loading)
MODELS = {
    "rpg": "tesserec.models.rpg:RPG",
    "sasrec": "tesserec.models.sasrec:SASRec",
    "fusion": "tesserec.models.fusion:Fusion",
}
# a model that mixes trained ones: content first, then identity
PARTS = {"fusion": ("rpg", "sasrec")}

__all__ = ["MODELS", "PARTS"]
