"""Commands that have no script of their own; `picopose.__main__` starts them."""
