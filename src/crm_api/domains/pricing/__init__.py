"""Prices, taxes and currencies."""
