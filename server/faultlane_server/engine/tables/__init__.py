"""Integer tables of the functions that draws need; `make.py` says what is in them."""
