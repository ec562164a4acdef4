"""What an interaction and an item are: schemas, sources, cleaning, splits."""
