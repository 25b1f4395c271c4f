"""Stub of google.colab: only what vggnb touches."""
