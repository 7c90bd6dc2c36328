"""Reproducible load on the product, beside two references on the same data in the same run."""
