"""Data: read rows from any source, make them canonical, split them, check them."""
