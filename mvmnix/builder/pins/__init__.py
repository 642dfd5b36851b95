"""Pins packages and wheels by hash: the locks, the indexes that they are made from, and the registries behind them."""
