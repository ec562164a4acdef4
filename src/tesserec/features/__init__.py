"""Features: the Beam jobs that make them and the Feast store that serves them."""
